// Three planes with a crosshair (NiiVue), and what is laid over them.
const BASES = {scan: 'Scan', cycle: 'Reconstruction', difference: 'Difference'};

class Viewer {
  constructor(canvas, overlay, onMove) {
    this.canvas = canvas;
    this.overlay = overlay;
    this.onMove = onMove;
    this.show = {brain: true, mask: true, map: true};
    this.opacity = 0.6;
    this.base = 'scan';
    this.turn = 0;
    this.nv = new niivue.Niivue({
      backColor: [0.035, 0.043, 0.055, 1],
      crosshairColor: [0.93, 0.79, 0.36, 0.75],
      crosshairWidth: 0.35,
      crosshairWidthUnit: 'mm',
      fontColor: [0.72, 0.76, 0.82, 1],
      fontSizeScaling: 0.3,
      isColorbar: false,
      isRadiologicalConvention: true,
      sagittalNoseLeft: true,
      isSliceMM: false,
      show3Dcrosshair: false,
      multiplanarShowRender: 0,
      multiplanarPadPixels: 6,
      dragAndDropEnabled: false,
      loadingText: '',
      isAntiAlias: false,
      logLevel: 'error',
      dragMode: niivue.DRAG_MODE.pan,
    });
  }

  async start() {
    await this.nv.attachToCanvas(this.canvas, false);
    this.nv.setSliceType(niivue.SLICE_TYPE.MULTIPLANAR);
    const draw = this.nv.drawScene.bind(this.nv);
    this.nv.drawScene = (...given) => {
      // Hidden behind the list, the canvas has no size to draw into.
      if (!this.canvas.offsetWidth || !this.canvas.width) return undefined;
      const result = draw(...given);
      this.drawOver();
      return result;
    };
    this.nv.onLocationChange = () => this.moved();
    this.nv.addColormap('anomaly', SCORE_COLOURS);
    this.nv.addColormap('signed', SIGNED_COLOURS);
  }

  // Shows a case; false where another one was asked for meanwhile.
  async load(part) {
    this.turn += 1;
    const turn = this.turn, levels = {};
    for (const [name, volume] of Object.entries(part.volumes)) {
      levels[name] = await unpack(volume.data);
      if (turn !== this.turn) return false;
    }
    this.part = part;
    this.levels = levels;
    this.grid = part.grid;
    this.back = inverse(part.grid.affine);
    this.labels = levels.labels;
    this.base = 'scan';
    this.window = [...part.window];
    while (this.nv.volumes.length) this.nv.removeVolumeByIndex(this.nv.volumes.length - 1);
    for (const name of ['scan', 'cycle', 'difference', 'score']) {
      if (part.volumes[name] === undefined) continue;
      const image = await niivue.NVImage.new(
        niftiFile(levels[name], part.volumes[name], part.grid), name + '.nii', name === 'score' ? 'anomaly' : name === 'difference' ? 'signed' : 'gray', 1);
      if (turn !== this.turn) return false;
      this.nv.addVolume(image);
    }
    this.refresh();
    this.nv.setPan2Dxyzmm([0, 0, 0, 1]);
    this.goTo(this.middle());
    return true;
  }

  image(name) {
    return this.nv.volumes.find((volume) => volume.name === name + '.nii');
  }

  refresh() {
    const ranges = {
      scan: this.window, cycle: [-1, 1], difference: [-1, 1], score: [0, this.part.score_limit],
    };
    for (const volume of this.nv.volumes) {
      const name = volume.name.replace('.nii', '');
      [volume.cal_min, volume.cal_max] = ranges[name];
      const opaque = name === 'score' ? (this.show.map && this.base === 'scan' ? this.opacity : 0)
        : name === 'scan' ? (this.base === 'scan' ? 1 : 0.001) : (name === this.base ? 1 : 0);
      volume.opacity = opaque;
    }
    this.nv.updateGLVolume();
  }

  middle() {
    const brain = [0, 0, 0];
    let count = 0;
    const [nx, ny] = this.grid.size;
    for (let place = 0; place < this.labels.length; place += 7) {
      if (this.labels[place] === OUTSIDE) continue;
      brain[0] += place % nx;
      brain[1] += Math.floor(place / nx) % ny;
      brain[2] += Math.floor(place / (nx * ny));
      count += 1;
    }
    const centre = count ? brain.map((sum) => sum / count) : this.grid.size.map((n) => (n - 1) / 2);
    return apply(this.grid.affine, centre);
  }

  // mm in the scanner's RAS coordinates.
  goTo(mm) {
    const index = apply(this.back, mm);
    this.nv.scene.crosshairPos = index.map((value, axis) => Math.min(1, Math.max(0, (value + 0.5) / this.grid.size[axis])));
    this.nv.drawScene();
    this.moved();
  }

  index() {
    return Array.from(this.nv.scene.crosshairPos).map((share, axis) => share * this.grid.size[axis] - 0.5);
  }

  voxel() {
    return this.index().map((value, axis) => Math.min(this.grid.size[axis] - 1, Math.max(0, Math.round(value))));
  }

  mm() {
    return apply(this.grid.affine, this.index());
  }

  valueOf(name) {
    const [x, y, z] = this.voxel(), volume = this.part.volumes[name];
    const level = this.levels[name][(z * this.grid.size[1] + y) * this.grid.size[0] + x];
    return level * volume.slope + volume.intercept;
  }

  moved() {
    if (this.part) this.onMove(this);
  }

  drawOver() {
    if (!this.part) return;
    if (this.overlay.width !== this.canvas.width || this.overlay.height !== this.canvas.height) {
      this.overlay.width = this.canvas.width;
      this.overlay.height = this.canvas.height;
    }
    drawOutlines(this.overlay.getContext('2d'), this.nv, this);
  }

  setLabels(labels) {
    this.labels = labels;
    this.drawOver();
  }

  // What the slider shows: the mask at a threshold, on the page's own voxels.
  maskAt(threshold) {
    const score = this.part.volumes.score, voxel = voxelEdges(this.grid.affine).reduce((a, b) => a * b);
    const level = (threshold - score.intercept) / score.slope;
    const found = markedAt(level, this.part.marking.least_lesion_mm3 / voxel, this.levels.score, this.levels.labels, this.grid.size);
    return {...found, lesionMl: found.lesionVoxels * voxel / 1000, candidateMl: found.candidateVoxels * voxel / 1000};
  }
}

// Black to yellow (matplotlib's inferno), more transparent where the score is low.
const SCORE_COLOURS = {
  R: [0, 31, 87, 136, 187, 227, 249, 252], G: [0, 12, 16, 34, 55, 89, 140, 255], B: [4, 72, 110, 106, 84, 51, 10, 164],
  A: [0, 0, 70, 150, 215, 255, 255, 255], I: [0, 24, 56, 92, 128, 170, 212, 255], min: 0, max: 0, labels: [],
};
// Blue where the scan is darker than its reconstruction, red where it is brighter.
const SIGNED_COLOURS = {
  R: [70, 20, 12, 120, 250], G: [160, 60, 12, 40, 120], B: [250, 120, 16, 30, 90],
  A: [255, 255, 255, 255, 255], I: [0, 64, 128, 192, 255], min: 0, max: 0, labels: [],
};
