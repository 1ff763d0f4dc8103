// Puts the page together: the list, the view of a case, and the keys. The address says which case is open (#case-3).
const run = readBlock('run'), page = document.getElementById('page');
run.rows.forEach((row, place) => { row.block = 'case-' + place; });
document.title = run.title;

function addressed() {
  return run.rows.find((row) => row.viewable && '#' + row.block === location.hash) || null;
}

function open(row) {
  if (!row.viewable) return;
  if (row.page) location.href = row.page;
  else location.hash = row.block;
}

function step(list, by) {
  const rows = list.rows.filter((row) => row.viewable), place = rows.indexOf(addressed());
  const next = rows[place + by];
  if (next) {
    list.choose(list.rows.indexOf(next), false);
    open(next);
  }
}

function listen(view) {
  document.addEventListener('keydown', (event) => {
    const typing = event.target instanceof HTMLInputElement && event.target.type !== 'checkbox' || event.target instanceof HTMLSelectElement;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (typing && event.key === 'Escape') event.target.blur();
    else if (typing && !(event.target.type === 'range' && event.key.length === 1)) return;
    else if (event.key === 'Enter' && event.target instanceof HTMLElement && event.target.closest('button, summary')) return;
    else if (event.key === 'Enter' && event.target instanceof HTMLElement && event.target.closest('tr.lesion')) event.target.closest('tr.lesion').click();
    else if (view().key(event.key)) event.preventDefault();
  });
}

function startOneFile() {
  let shown = null;
  const list = new ListView(run, open);
  const view = new CaseView(run, {back: () => { location.hash = ''; }, step: (by) => step(list, by)});
  page.append(list.root, view.root);
  const follow = () => {
    const row = addressed();
    list.root.hidden = row !== null;
    view.root.hidden = row === null;
    if (row !== null && row !== shown) view.show(row, readBlock(row.block));
    shown = row || shown;
    if (row === null) list.choose(list.chosen);
  };
  window.addEventListener('hashchange', follow);
  listen(() => (addressed() === null ? list : view));
  follow();
}

function startCasePage() {
  const go = (place) => { if (place) location.href = place; };
  const view = new CaseView(run, {back: () => go(run.around.index), step: (by) => go(by > 0 ? run.around.next : run.around.previous)});
  page.append(view.root);
  view.root.hidden = false;
  document.title = run.rows[0].case;
  listen(() => view);
  view.show(run.rows[0], readBlock('case-0'));
}

if (run.around) startCasePage();
else startOneFile();
