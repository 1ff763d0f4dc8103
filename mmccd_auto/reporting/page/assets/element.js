// Texts become text nodes: nothing that a case is called can become markup.
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) made.append(child);
  }
  return made;
}

const NONE = '–';

function number(value, digits, unit) {
  if (value === null || value === undefined) return NONE;
  return value.toFixed(digits) + (unit ? '\u00a0' + unit : '');
}

function volumeText(ml) {
  if (ml === null || ml === undefined) return NONE;
  return number(ml, ml >= 100 ? 0 : ml >= 10 ? 1 : 2, 'ml');
}

function rateText(rate) {
  return Number((100 * rate).toPrecision(2)) + '\u00a0%';
}

function plural(count, word) {
  return count + '\u00a0' + word + (count === 1 ? '' : 's');
}

function sentence(text) {
  const trimmed = text.trim().replace(/\.$/, '');
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + '.';
}

function readBlock(identifier) {
  const block = document.getElementById(identifier);
  return block === null ? null : JSON.parse(block.textContent);
}

function sectionTable(section) {
  return element('section', {class: 'facts'},
    element('h3', {}, section.title),
    element('dl', {}, section.rows.map(([name, value]) => [element('dt', {}, name), element('dd', {}, value)])),
    section.note ? element('p', {class: 'note'}, section.note) : null);
}

const NOT_A_DEVICE = 'Not a medical device. For research only; not for diagnosis or treatment.';
