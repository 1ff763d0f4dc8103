// The work list: one row a case, the highest score first.
const FILTERS = {
  all: ['All', () => true],
  lesions: ['Lesions', (row) => row.finding === 'lesions'],
  candidates: ['Candidates only', (row) => row.finding === 'candidates only'],
  nothing: ['Nothing found', (row) => row.finding === 'nothing'],
  warnings: ['Warnings', (row) => row.warnings.length > 0],
  open: ['Not predicted', (row) => !row.viewable],
};
const SORTS = {
  case_score: ['Case score', (row) => -row.case_score],
  anomalous_ml: ['Lesion volume', (row) => -row.anomalous_ml],
  healthy_percentile: ['Healthy percentile', (row) => -row.healthy_percentile],
  lesions: ['Number of lesions', (row) => -row.lesions],
  warnings: ['Warnings', (row) => -row.warnings.length],
  case: ['Name', (row) => row.case],
};

class ListView {
  constructor(run, open) {
    this.run = run;
    this.open = open;
    this.filter = 'all';
    this.sort = 'case_score';
    this.words = '';
    this.chosen = 0;
    this.body = element('tbody');
    this.count = element('span', {id: 'count'});
    this.chips = element('div', {class: 'chips', role: 'group'}, Object.entries(FILTERS).map(([name, [label, keeps]]) => {
      const fitting = run.rows.filter(keeps).length;
      return fitting === 0 ? null : element('button', {'data-filter': name, 'aria-pressed': String(name === 'all'),
        onclick: () => this.setFilter(name)}, label, element('b', {}, String(fitting)));
    }));
    const search = element('input', {type: 'search', id: 'search', placeholder: 'Find a case', 'aria-label': 'find a case',
      oninput: (event) => { this.words = event.target.value.toLowerCase(); this.draw(); }});
    const sorts = element('select', {id: 'sort', 'aria-label': 'sort by', onchange: (event) => { this.sort = event.target.value; this.draw(); }},
      Object.entries(SORTS).map(([name, [label]]) => element('option', {value: name}, label)));
    const columns = ['', 'Case', 'Finding', 'Case score', 'Healthy percentile', 'Lesions', 'Volume', 'Candidates', 'Warnings'];
    this.root = element('div', {id: 'list'},
      element('header', {}, element('div', {}, element('h1', {}, run.title), element('p', {class: 'subtitle'}, run.subtitle)),
        element('span', {class: 'device'}, NOT_A_DEVICE)),
      run.banner.length ? element('div', {class: 'run-banner', role: 'alert'}, run.banner.map((text) => element('p', {}, text))) : null,
      element('div', {class: 'tools'}, this.chips, search, element('label', {class: 'sort'}, 'Sort by ', sorts), this.count,
        element('span', {class: 'keys'}, element('kbd', {}, 'j'), element('kbd', {}, 'k'), ' choose ', element('kbd', {}, 'Enter'), ' open')),
      element('div', {class: 'scroll'}, element('table', {id: 'cases'},
        element('thead', {}, element('tr', {}, columns.map((name, place) => element('th', {class: place > 2 && place < 8 ? 'num' : ''}, name)))), this.body)),
      run.left_out.length ? element('details', {class: 'made', id: 'left-out'}, element('summary', {}, plural(run.left_out.length, 'file') + ' left out'),
        element('div', {class: 'facts'}, element('dl', {}, run.left_out.map(([name, why]) => [element('dt', {}, name || NONE), element('dd', {}, sentence(why))])))) : null,
      element('details', {class: 'made'}, element('summary', {}, 'How it was made'),
        element('div', {class: 'sections'}, run.sections.map(sectionTable))));
    this.draw();
  }

  setFilter(name) {
    this.filter = name;
    for (const chip of this.chips.children) chip.setAttribute('aria-pressed', String(chip.dataset.filter === name));
    this.draw();
  }

  // Rows without a value come last, whatever is sorted by.
  shown() {
    const [, keeps] = FILTERS[this.filter], [, value] = SORTS[this.sort];
    const rows = this.run.rows.filter((row) => keeps(row) && row.case.toLowerCase().includes(this.words));
    const lacks = (row) => this.sort !== 'case' && row[this.sort] === null;
    return rows.sort((one, other) => {
      if (lacks(one) !== lacks(other)) return lacks(one) ? 1 : -1;
      const a = value(one), b = value(other);
      return a < b ? -1 : a > b ? 1 : 0;
    });
  }

  draw() {
    this.rows = this.shown();
    this.chosen = Math.min(this.chosen, Math.max(0, this.rows.length - 1));
    this.count.textContent = this.rows.length === this.run.rows.length ? plural(this.rows.length, 'row') : this.rows.length + ' of ' + plural(this.run.rows.length, 'row');
    this.body.replaceChildren(...this.rows.map((row, place) => this.rowElement(row, place)));
    this.choose(this.chosen, false);
  }

  rowElement(row, place) {
    const picture = row.thumbnail ? element('img', {src: 'data:image/jpeg;base64,' + row.thumbnail, alt: '', loading: 'lazy'}) : element('div', {class: 'no-picture'});
    const kind = row.viewable ? row.finding.replace(' ', '-') : row.status.replace(' ', '-');
    const words = row.viewable ? row.finding : row.status;
    return element('tr', {class: row.viewable ? 'viewable' : 'closed', onclick: () => { this.choose(place, false); this.open(row); }},
      element('td', {class: 'picture'}, picture),
      element('td', {class: 'name'}, row.case, row.reason ? element('small', {class: 'reason'}, sentence(row.reason)) : null),
      element('td', {}, element('span', {class: 'badge ' + kind}, words)),
      element('td', {class: 'num strong'}, number(row.case_score, 2)),
      element('td', {class: 'num'}, number(row.healthy_percentile, 0)),
      element('td', {class: 'num'}, row.lesions === null ? NONE : String(row.lesions)),
      element('td', {class: 'num'}, volumeText(row.anomalous_ml), row.largest_ml && row.lesions > 1 ? element('small', {}, 'largest ' + volumeText(row.largest_ml)) : null),
      element('td', {class: 'num'}, row.candidates ? String(row.candidates) : row.candidates === 0 ? '0' : NONE, row.candidates ? element('small', {}, volumeText(row.candidates_ml)) : null),
      element('td', {class: 'warnings'}, row.warnings.map((text) => element('div', {}, sentence(text)))));
  }

  choose(place, scroll = true) {
    if (place < 0 || place >= this.rows.length) return;
    this.chosen = place;
    [...this.body.children].forEach((row, other) => row.classList.toggle('chosen', other === place));
    if (scroll) this.body.children[place].scrollIntoView({block: 'nearest'});
  }

  key(key) {
    if (key === 'j' || key === 'ArrowDown') this.choose(this.chosen + 1);
    else if (key === 'k' || key === 'ArrowUp') this.choose(this.chosen - 1);
    else if (key === 'Enter' && this.rows[this.chosen]) this.open(this.rows[this.chosen]);
    else return false;
    return true;
  }
}
