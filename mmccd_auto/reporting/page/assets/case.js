// The view of one case: viewer on the left, findings and controls on the right.
class CaseView {
  constructor(run, actions) {
    this.run = run;
    this.actions = actions;
    this.canvas = element('canvas', {id: 'planes', 'aria-label': 'three planes of the scan'});
    this.overlay = element('canvas', {id: 'outlines', 'aria-hidden': 'true'});
    this.where = element('div', {id: 'where', 'aria-live': 'off'});
    this.stage = element('div', {class: 'stage'}, this.canvas, this.overlay);
    this.title = element('h1', {id: 'case-name'});
    this.banner = element('div', {id: 'banner', role: 'alert'});
    this.side = element('aside', {id: 'side'});
    this.note = element('p', {class: 'note', id: 'reduction'});
    this.empty = element('p', {id: 'empty'});
    this.root = element('div', {id: 'case', hidden: true},
      element('header', {},
        element('button', {id: 'back', onclick: () => actions.back(), title: 'Back to the list (Esc)'}, '← All cases'),
        this.title,
        element('span', {class: 'keys'}, element('kbd', {}, 'j'), ' next case ', element('kbd', {}, 'k'), ' previous ',
          element('kbd', {}, '['), element('kbd', {}, ']'), ' lesions ', element('kbd', {}, 'm'), ' map'),
        element('span', {class: 'device'}, NOT_A_DEVICE)),
      this.banner,
      element('main', {},
        element('div', {class: 'left'}, this.stage, this.empty, this.where, this.note),
        this.side));
  }

  async show(row, content) {
    const turn = this.asked = (this.asked || 0) + 1;
    this.ready = false;
    this.row = row;
    this.facts = content.facts;
    this.part = content.part;
    this.title.textContent = row.case;
    const warnings = this.facts.warnings || [];
    this.banner.replaceChildren(...warnings.map((text) => element('p', {}, sentence(text))));
    this.banner.hidden = warnings.length === 0;
    this.stage.hidden = this.where.hidden = this.note.hidden = this.part === null;
    this.empty.hidden = this.part !== null;
    this.empty.textContent = 'There are no images of this case in the page: it was predicted with --no_report. '
      + 'The maps lie beside this page; predict it again to look at it here.';
    this.fillSide();
    if (this.part === null) return;
    this.note.textContent = this.reductionText();
    try {
      if (!this.viewer) {
        const viewer = new Viewer(this.canvas, this.overlay, () => this.moved());
        await viewer.start();
        this.viewer = viewer;
      }
      if (!await this.viewer.load(this.part) || turn !== this.asked) return;
    } catch (error) {
      this.stage.hidden = this.where.hidden = true;
      this.empty.hidden = false;
      this.empty.textContent = 'The viewer can\'t be started here (' + error.message + '): use a browser with WebGL 2, '
        + 'or look at the pictures (.png) beside this page.';
      return;
    }
    this.setStep(this.part.marking.used, true);
    const lesions = this.lesions();
    if (lesions.length) this.goToLesion(0);
    this.ready = true;
    this.root.dataset.ready = row.case;
  }

  lesions() {
    return this.facts.lesion_list || [];
  }

  reductionText() {
    const edges = (grid) => voxelEdges(grid.affine).map((edge) => Number(edge.toPrecision(3))).join(' × ');
    const same = this.part.grid.size.every((count, axis) => count === this.part.full.size[axis]);
    const angle = tilt(this.part.full.affine);
    return (same ? 'Shown with all voxels of the scan (' + edges(this.part.full) + ' mm)'
      : 'Reduced for this page to voxels of ' + edges(this.part.grid) + ' mm; the scan has ' + edges(this.part.full) + ' mm')
      + ', in 256 grey levels; very bright fat and vessels are cut off, and what lies more than 16 mm from the brain is left out, '
      + 'so that no face is seen. The files beside this page have every voxel and value. '
      + 'Planes are those of the scan' + (angle > 1 ? ', turned by up to ' + angle.toFixed(0) + '° from the patient\'s axes' : '')
      + '; the patient\'s right is on the left. Only ' + this.facts.input_modality
      + ' is used, so no other modality had to be registered.';
  }

  fillSide() {
    const facts = this.facts;
    this.side.replaceChildren(
      element('p', {class: 'finding'}, sentence(facts.finding_in_words)),
      element('dl', {class: 'figures'},
        this.figure('Case score', number(facts.case_score, 2)),
        this.figure('Healthy percentile', number(facts.healthy_percentile, 0), facts.healthy_percentile === null
          ? facts.healthy_percentile_note : 'of ' + (facts.healthy_percentile_of || facts.healthy_people + ' people')),
        this.figure('Lesions', facts.lesions === null ? NONE : String(facts.lesions), volumeText(facts.anomalous_ml)),
        this.figure('Brain', volumeText(facts.brain_ml))),
      this.lesionTable(),
      ...(this.part === null ? [] : [this.thresholdControl(), this.displayControl()]),
      element('details', {}, element('summary', {}, 'How it was made'),
        this.caseSection(), ...this.run.sections.map(sectionTable)),
      element('p', {class: 'note'}, NOT_A_DEVICE));
  }

  figure(name, value, note) {
    return element('div', {}, element('dt', {}, name), element('dd', {}, value, note ? element('small', {}, note) : null));
  }

  caseSection() {
    const facts = this.facts;
    return sectionTable({title: 'This case', rows: [
      ['Brain found by', facts.brain_found_by],
      ...(facts.modalities_used ? [['Made with', facts.modalities_used]] : []),
      ['Threshold', facts.threshold === null ? 'none: ' + facts.threshold_source : number(facts.threshold, 3) + ', ' + facts.threshold_source],
      ['Least lesion volume', number(facts.least_lesion_mm3, 0, 'mm³')],
      ['Highest score', number(facts.max_score, 2)],
      ['Time', number(facts.seconds, 1, 's')],
      ['Image numbers', this.part === null ? NONE : this.part.numbers === null ? 'none: ' + this.part.numbers_note : 'the archive\'s own, below the planes'],
    ]});
  }

  thresholdControl() {
    const marking = this.part.marking;
    if (marking.used === null) {
      const why = marking.threshold === null ? 'there is no threshold: ' + this.facts.threshold_source : 'the scores are not calibrated';
      return element('section', {}, element('h2', {}, 'Mask'), element('p', {class: 'note'}, sentence('No slider, since ' + why)));
    }
    this.slider = element('input', {id: 'rate', type: 'range', min: 0, max: marking.steps.length - 1, step: 1,
      value: marking.used, 'aria-label': 'false-alarm rate', oninput: () => this.setStep(Number(this.slider.value), false)});
    this.rateOutput = element('output', {id: 'rate-text', for: 'rate'});
    this.maskOutput = element('p', {id: 'mask-text'});
    return element('section', {},
      element('h2', {}, 'False-alarm rate', this.rateOutput),
      this.slider,
      element('div', {class: 'ends'}, element('span', {}, 'fewer false alarms'), element('span', {}, 'more found')),
      this.maskOutput,
      element('button', {id: 'as-written', onclick: () => this.setStep(marking.used, true)}, 'As written'),
      element('p', {class: 'note'}, 'The share of healthy tissue that would be marked. The mask is drawn again on this page\'s voxels.'));
  }

  setStep(step, written) {
    const marking = this.part.marking;
    if (marking.used === null || step === null) return;
    const {rate, threshold} = written ? {...marking.steps[marking.used], threshold: marking.threshold} : marking.steps[step];
    const found = this.viewer.maskAt(threshold);
    this.slider.value = step;
    this.rateOutput.textContent = (written && !marking.exact ? 'about ' : '') + rateText(rate);
    this.viewer.setLabels(written ? this.viewer.levels.labels : found.marked);
    this.maskOutput.replaceChildren(
      element('strong', {id: 'mask-volume', 'data-ml': found.lesionMl}, volumeText(found.lesionMl)),
      ' in ' + plural(found.lesions, 'lesion') + (found.candidates ? ', ' + volumeText(found.candidateMl) + ' in ' + plural(found.candidates, 'candidate') : '')
        + ' above ' + number(threshold, 2),
      written ? element('small', {}, 'Written mask, all voxels: ' + volumeText(this.facts.anomalous_ml)) : element('small', {}, 'Not what was written'));
    this.root.dataset.step = step;
  }

  displayControl() {
    const check = (name, label, colour) => element('label', {class: 'check'},
      element('input', {type: 'checkbox', id: 'show-' + name, checked: true, onchange: (event) => this.toggle(name, event.target.checked)}),
      colour ? element('i', {style: 'background:' + colour}) : null, label);
    const [low, high] = this.part.window, span = high - low;
    const slide = (id, label, minimum, maximum, value, act) => element('label', {class: 'slide'}, element('span', {}, label),
      element('input', {type: 'range', id, min: minimum, max: maximum, step: (maximum - minimum) / 200, value, oninput: (event) => act(Number(event.target.value))}));
    const window_ = {level: (low + high) / 2, width: span};
    const windowed = () => {
      this.viewer.window = [window_.level - window_.width / 2, window_.level + window_.width / 2];
      this.viewer.refresh();
    };
    const bases = Object.entries(BASES).filter(([name]) => this.part.volumes[name] !== undefined);
    return element('section', {id: 'display'}, element('h2', {}, 'Display'),
      bases.length > 1 ? element('div', {class: 'bases', role: 'group'}, bases.map(([name, label]) =>
        element('button', {id: 'base-' + name, 'aria-pressed': String(name === 'scan'), onclick: () => this.setBase(name)}, label))) : null,
      element('div', {class: 'checks'}, check('map', 'Map'), check('mask', 'Lesions', INK.lesion), check('brain', 'Brain', INK.brain)),
      element('div', {class: 'scale'}, element('div', {class: 'ramp'}),
        element('div', {class: 'ends'}, element('span', {}, '0'), element('span', {}, 'score: 1 % of healthy tissue exceeds 1'), element('span', {}, number(this.part.score_limit, 1)))),
      slide('opacity', 'Map opacity', 0, 1, 0.6, (value) => { this.viewer.opacity = value; this.viewer.refresh(); }),
      slide('level', 'Level', low - span / 2, high + span / 2, window_.level, (value) => { window_.level = value; windowed(); }),
      slide('width', 'Window', span / 20, span * 2, span, (value) => { window_.width = value; windowed(); }));
  }

  setBase(name) {
    this.viewer.base = name;
    for (const other of Object.keys(BASES)) {
      const button = document.getElementById('base-' + other);
      if (button) button.setAttribute('aria-pressed', String(other === name));
    }
    this.viewer.refresh();
  }

  toggle(name, on) {
    this.viewer.show[name] = on;
    if (name === 'map') this.viewer.refresh();
    this.viewer.drawOver();
  }

  lesionTable() {
    const lesions = this.lesions();
    this.lesionRows = lesions.map((lesion, place) => element('tr', {class: 'lesion', tabindex: 0, 'data-lesion': lesion.number,
      onclick: () => this.goToLesion(place)},
      element('td', {}, String(lesion.number)),
      element('td', {class: 'num'}, volumeText(lesion.volume_ml)),
      element('td', {class: 'num'}, number(lesion.longest_diameter_mm, 0, 'mm')),
      element('td', {class: 'num'}, number(lesion.peak_score, 1)),
      element('td', {}, element('div', {}, lesion.side), element('small', {}, lesion.place),
        lesion.mni_mm ? element('small', {}, 'MNI ' + lesion.mni_mm.map((value) => value.toFixed(0)).join(', ')) : null)));
    const body = lesions.length ? element('table', {id: 'lesions'},
      element('thead', {}, element('tr', {}, ['', 'Volume', 'Longest', 'Peak', 'Side and place'].map((text) => element('th', {}, text)))),
      element('tbody', {}, this.lesionRows))
      : element('p', {class: 'note'}, this.facts.lesions ? 'This case was predicted without a list of its lesions.' : 'No lesion is in the mask.');
    return element('section', {}, element('h2', {}, 'Lesions'), body);
  }

  goToLesion(place) {
    const lesion = this.lesions()[place];
    if (!lesion || !this.viewer || !this.viewer.part) return;
    this.lesionPlace = place;
    this.lesionRows.forEach((row, other) => row.classList.toggle('chosen', other === place));
    const [left, posterior, superior] = lesion.centre_lps_mm;
    this.viewer.goTo([-left, -posterior, superior]);
  }

  moved() {
    const viewer = this.viewer || null;
    if (!viewer || !this.part) return;
    const mm = viewer.mm(), written = apply(inverse(this.part.written_affine), mm).map(Math.round);
    const numbers = this.part.numbers;
    const image = numbers === null ? null : numbers.numbers[Math.min(numbers.numbers.length - 1, Math.max(0, written[numbers.axis]))];
    const lps = [-mm[0], -mm[1], mm[2]];
    this.where.dataset.lps = lps.join(' ');
    this.where.replaceChildren(
      ...(image === null ? [] : [this.reading('Image', image, 'the number that the archive gave to this slice')]),
      this.reading('L P S', lps.map((value) => value.toFixed(1)).join('  ') + ' mm', 'position in the patient: to the left, posterior and superior'),
      this.reading('Voxel', written.join('  '), 'of the written maps, counted from 0'),
      this.reading('Scan', number(viewer.valueOf('scan'), 0)),
      this.reading('Score', number(viewer.valueOf('score'), 2)));
  }

  reading(name, value, title) {
    return element('span', {title}, element('b', {}, name), String(value));
  }

  key(key) {
    if (key === 'j') this.actions.step(1);
    else if (key === 'k') this.actions.step(-1);
    else if (key === 'Escape') this.actions.back();
    else if (key === 'm' && this.part) document.getElementById('show-map').click();
    else if ((key === '[' || key === ']') && this.lesions().length) {
      const count = this.lesions().length;
      this.goToLesion(((this.lesionPlace || 0) + (key === ']' ? 1 : count - 1)) % count);
    } else return false;
    return true;
  }
}
