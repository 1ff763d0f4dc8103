// Volumes of a case: unpacking, positions, and the mask at another threshold.
const OUTSIDE = 0, BRAIN = 1, CANDIDATE = 2, LESION = 3;

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function apply(affine, point) {
  return [0, 1, 2].map((row) => affine[row][0] * point[0] + affine[row][1] * point[1] + affine[row][2] * point[2] + affine[row][3]);
}

function inverse(affine) {
  const [[a, b, c, x], [d, e, f, y], [g, h, i, z]] = affine;
  const determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  const rows = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((value) => value / determinant));
  return [...rows.map((row) => [...row, -(row[0] * x + row[1] * y + row[2] * z)]), [0, 0, 0, 1]];
}

function voxelEdges(affine) {
  return [0, 1, 2].map((axis) => Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis]));
}

// Largest angle between an axis of the scan and the patient's axis that is closest to it, in degrees.
function tilt(affine) {
  const edges = voxelEdges(affine);
  return Math.max(...[0, 1, 2].map((axis) => Math.acos(Math.min(1, Math.abs(affine[axis][axis]) / edges[axis])) * 180 / Math.PI));
}

// A NIfTI-1 file of one volume of 8 bits, as the viewer reads it.
function niftiFile(levels, volume, grid) {
  const file = new ArrayBuffer(352 + levels.length), view = new DataView(file), edges = voxelEdges(grid.affine);
  view.setInt32(0, 348, true);
  [3, ...grid.size, 1, 1, 1, 1].forEach((value, place) => view.setInt16(40 + 2 * place, value, true));
  view.setInt16(70, 2, true);
  view.setInt16(72, 8, true);
  [1, ...edges, 1, 1, 1, 1].forEach((value, place) => view.setFloat32(76 + 4 * place, value, true));
  view.setFloat32(108, 352, true);
  view.setFloat32(112, volume.slope, true);
  view.setFloat32(116, volume.intercept, true);
  view.setUint8(123, 2);
  view.setInt16(254, 1, true);
  grid.affine.slice(0, 3).forEach((row, place) => row.forEach((value, column) => view.setFloat32(280 + 16 * place + 4 * column, value, true)));
  [0x6e, 0x2b, 0x31, 0].forEach((value, place) => view.setUint8(344 + place, value));
  new Uint8Array(file, 352).set(levels);
  return file;
}

// The mask at a threshold: connected parts (26 neighbours) of at least the least volume are lesions, smaller ones candidates.
function markedAt(level, leastVoxels, score, labels, size) {
  const [nx, ny, nz] = size, marked = new Uint8Array(labels.length), stack = new Int32Array(labels.length);
  let lesionVoxels = 0, lesions = 0, candidateVoxels = 0, candidates = 0;
  const above = (place) => labels[place] !== OUTSIDE && score[place] > level;
  for (let place = 0; place < labels.length; place += 1) {
    if (labels[place] !== OUTSIDE && marked[place] === OUTSIDE) marked[place] = BRAIN;
    if (marked[place] !== BRAIN || !above(place)) continue;
    let read = 0, written = 1;
    stack[0] = place;
    marked[place] = LESION;
    while (read < written) {
      const at = stack[read], z = Math.floor(at / (nx * ny)), y = Math.floor(at / nx) % ny, x = at % nx;
      read += 1;
      for (let k = Math.max(0, z - 1); k <= Math.min(nz - 1, z + 1); k += 1) {
        for (let j = Math.max(0, y - 1); j <= Math.min(ny - 1, y + 1); j += 1) {
          for (let i = Math.max(0, x - 1); i <= Math.min(nx - 1, x + 1); i += 1) {
            const next = (k * ny + j) * nx + i;
            if (marked[next] <= BRAIN && above(next)) {
              marked[next] = LESION;
              stack[written] = next;
              written += 1;
            }
          }
        }
      }
    }
    if (written >= leastVoxels) {
      lesions += 1;
      lesionVoxels += written;
    } else {
      candidates += 1;
      candidateVoxels += written;
      for (let one = 0; one < written; one += 1) marked[stack[one]] = CANDIDATE;
    }
  }
  return {marked, lesions, lesionVoxels, candidates, candidateVoxels};
}
