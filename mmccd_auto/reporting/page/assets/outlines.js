// Outlines along the edges of voxels, drawn over the viewer's planes, so that they stay thin at every size.
const INK = {brain: '#7fd4a8', lesion: '#35e0ff', candidate: '#ff6ad5'};
const PLANES = [[0, 1, 2], [0, 2, 1], [1, 2, 0]];

function traceEdges(labels, size, plane, place, belongs) {
  const [across, up, through] = plane, step = [1, size[0], size[0] * size[1]];
  const width = size[across], height = size[up], base = place * step[through], lines = [];
  const inside = (u, v) => u >= 0 && v >= 0 && u < width && v < height && belongs(labels[base + u * step[across] + v * step[up]]);
  for (let v = 0; v <= height; v += 1) {
    for (let u = 0; u <= width; u += 1) {
      const here = inside(u, v);
      if (here !== inside(u - 1, v)) lines.push([u, v, u, v + 1]);
      if (here !== inside(u, v - 1)) lines.push([u, v, u + 1, v]);
    }
  }
  return lines;
}

// A mirrored plane has a width below 0.
function tileBox(slice) {
  const [left, top, width, height] = slice.leftTopWidthHeight;
  return width < 0 ? [left + width, top, -width, height] : [left, top, width, height];
}

// From voxel edges of a plane to the canvas; the viewer says which fraction of the volume a pixel shows.
function planeToCanvas(nv, tile, plane, size) {
  const [left, top, width, height] = tileBox(nv.screenSlices[tile]);
  const at = (x, y) => Array.from(nv.screenXY2TextureFrac(x, y, tile, false));
  const origin = at(left + 1, top + 1), right = at(left + width - 1, top + 1), below = at(left + 1, top + height - 1);
  const [across, up] = plane;
  const alongX = (right[across] - origin[across]) / (width - 2), alongY = (below[up] - origin[up]) / (height - 2);
  if (!alongX || !alongY) return null;
  return (u, v) => [
    left + 1 + (u / size[across] - origin[across]) / alongX,
    top + 1 + (v / size[up] - origin[up]) / alongY,
  ];
}

function drawOutlines(context, nv, state) {
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  const size = state.grid.size, voxel = state.voxel();
  const shown = [
    state.show.brain && ['brain', (label) => label !== OUTSIDE, [], 1],
    state.show.mask && ['candidate', (label) => label === CANDIDATE, [4, 3], 1.4],
    state.show.mask && ['lesion', (label) => label === LESION, [], 1.7],
  ].filter(Boolean);
  const dense = window.devicePixelRatio || 1;
  nv.screenSlices.forEach((slice, tile) => {
    const plane = PLANES[slice.axCorSag];
    if (plane === undefined) return;
    const toCanvas = planeToCanvas(nv, tile, plane, size);
    if (toCanvas === null) return;
    context.save();
    context.beginPath();
    context.rect(...tileBox(slice));
    context.clip();
    for (const [name, belongs, dashes, width] of shown) {
      context.strokeStyle = INK[name];
      context.globalAlpha = name === 'brain' ? 0.75 : 1;
      context.lineWidth = width * dense;
      context.setLineDash(dashes.map((length) => length * dense));
      context.beginPath();
      for (const [u0, v0, u1, v1] of traceEdges(state.labels, size, plane, voxel[plane[2]], belongs)) {
        context.moveTo(...toCanvas(u0, v0));
        context.lineTo(...toCanvas(u1, v1));
      }
      context.stroke();
    }
    context.restore();
  });
}
