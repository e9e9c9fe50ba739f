// What a script adds to the page: values of charts under the pointer and by keyboard, tables that sort, pictures
// to save. Without it the page is complete: marks have titles, data is a link, and rows stand in their order.
const SVG = 'http://www.w3.org/2000/svg';
const REACH = 60; // pixels from the pointer to the nearest value that is still shown

const visible = element => element.getClientRects().length > 0;

// ---------------------------------------------------------------- values of a chart

function answerPointer(chart) {
  const svg = chart.querySelector('svg');
  const marks = [...svg.querySelectorAll('.marks circle')];
  if (!marks.length) return;
  const texts = marks.map(mark => mark.textContent);
  marks.forEach(mark => mark.replaceChildren()); // or the browser shows its own title as well
  const ring = document.createElementNS(SVG, 'circle');
  ring.setAttribute('class', 'ring');
  ring.setAttribute('r', '5');
  const tip = document.createElement('p');
  tip.className = 'tip';
  tip.setAttribute('role', 'status');
  chart.append(tip);
  let current = -1;

  const centerOf = index => {
    const box = marks[index].getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  function show(index) {
    if (index === current) return;
    current = index;
    tip.textContent = index < 0 ? '' : texts[index];
    if (index < 0) return ring.remove();
    for (const name of ['cx', 'cy']) ring.setAttribute(name, marks[index].getAttribute(name));
    svg.append(ring);
    const frame = chart.getBoundingClientRect(), [x, y] = centerOf(index);
    const left = Math.min(Math.max(x - frame.x - tip.offsetWidth / 2, 0), frame.width - tip.offsetWidth);
    const above = y - frame.y - tip.offsetHeight - 10;
    tip.style.left = `${Math.max(left, 0)}px`;
    tip.style.top = `${above < 0 ? y - frame.y + 12 : above}px`;
  }
  function nearest(event) {
    let best = -1, least = REACH;
    marks.forEach((_, index) => {
      const [x, y] = centerOf(index), distance = Math.hypot(event.clientX - x, event.clientY - y);
      if (distance < least) [best, least] = [index, distance];
    });
    return best;
  }
  chart.addEventListener('pointermove', event => show(nearest(event)));
  chart.addEventListener('pointerdown', event => show(nearest(event)));
  chart.addEventListener('pointerleave', () => show(-1));
  chart.addEventListener('blur', () => show(-1));
  chart.addEventListener('keydown', event => {
    const last = marks.length - 1;
    const next = {
      ArrowRight: Math.min(current + 1, last), ArrowLeft: Math.max(current - 1, 0), Home: 0, End: last, Escape: -1,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    show(next);
  });
  chart.tabIndex = 0;
  chart.setAttribute('role', 'group');
  chart.setAttribute('aria-label', 'Chart: the left and right arrow keys go through its values');
}

// ---------------------------------------------------------------- pictures to save

function drawingOf(figure) {
  const svg = [...figure.querySelectorAll('.chart svg')].find(visible);
  const copy = svg.cloneNode(true), style = getComputedStyle(document.documentElement);
  copy.querySelectorAll('.marks, .ring').forEach(element => element.remove());
  copy.setAttribute('xmlns', SVG);
  const ground = document.createElementNS(SVG, 'rect');
  for (const [name, value] of [['width', '100%'], ['height', '100%'], ['fill', 'var(--ground)']]) ground.setAttribute(name, value);
  copy.prepend(ground);
  const inverted = matchMedia('(prefers-color-scheme: dark)').matches ? 'filter: invert(1);' : '';
  copy.querySelectorAll('image.ink').forEach(image => { image.style.cssText += inverted; });
  return copy.outerHTML.replace(/var\((--\w+)\)/g, (_, name) => style.getPropertyValue(name).trim());
}

function save(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function savePng(text, name) {
  const picture = new Image();
  picture.onload = () => {
    const canvas = document.createElement('canvas'), scale = 3;
    canvas.width = picture.naturalWidth * scale;
    canvas.height = picture.naturalHeight * scale;
    canvas.getContext('2d').drawImage(picture, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(blob => save(blob, name));
  };
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`; // as the page's policy allows
}

function offerPictures(figure) {
  const button = (kind, act) => {
    const element = document.createElement('button');
    element.type = 'button';
    element.textContent = `${figure.id}.${kind}`;
    element.addEventListener('click', act);
    figure.querySelector('.downloads').append(element, ' ');
  };
  button('svg', () => save(new Blob([drawingOf(figure)], { type: 'image/svg+xml' }), `${figure.id}.svg`));
  button('png', () => savePng(drawingOf(figure), `${figure.id}.png`));
}

// ---------------------------------------------------------------- tables

// The first number of a cell, such as 97.14 of "97.14% (97.01 to 97.26)"; of others the text.
function valueOf(text) {
  const number = parseFloat(text.replace(/[\s,]/g, '').replace('−', '-').replace(/^[^\d.+-]+(?=[\d.])/, '').replace(/^</, ''));
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a !== typeof b) return typeof a === 'number' ? -1 : 1; // dashes last
  return typeof a === 'number' ? a - b : a.localeCompare(b, 'en', { numeric: true });
}

function makeSortable(table) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells].filter(cell => cell.tagName === 'TH');
  const fixed = [...body.rows].filter(row => row.classList.contains('total'));
  if (body.rows.length - fixed.length < 3) return;
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'sort';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const sign = head.ariaSort === 'ascending' ? -1 : 1;
      heads.forEach(other => { other.ariaSort = null; });
      head.ariaSort = sign > 0 ? 'ascending' : 'descending';
      const rows = [...body.rows].filter(row => !fixed.includes(row));
      const value = row => valueOf(row.cells[column].textContent.trim());
      body.append(...rows.sort((a, b) => sign * compare(value(a), value(b))), ...fixed);
    });
  });
}

// Only what scrolls is a stop of the tab key.
function markScrollers() {
  for (const box of document.querySelectorAll('.scroll, .formula math')) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute('tabindex');
  }
}

document.querySelectorAll('.chart').forEach(answerPointer);
document.querySelectorAll('figure[id]').forEach(offerPictures);
document.querySelectorAll('table.sortable').forEach(makeSortable);
new ResizeObserver(markScrollers).observe(document.body);
