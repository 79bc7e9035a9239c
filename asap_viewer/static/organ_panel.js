// The organ tree: eye, colour, volume, mean HU. Runs inside gr.HTML (see report_panel.js for the rules).
const tree = element.querySelector('.op-tree');
const filter = element.querySelector('.op-filter');
let hidden = new Set(props.hidden || []);

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function tell() { trigger('look', { hidden: [...hidden].sort((a, b) => a - b) }); }

function eye(isShown, label, flip) {
  const button = make('button', 'op-eye', isShown ? '●' : '○');
  button.type = 'button';
  button.setAttribute('aria-pressed', String(isShown));
  button.title = `${isShown ? 'Hide' : 'Show'} ${label}`;
  button.setAttribute('aria-label', button.title);
  button.addEventListener('click', (event) => { event.stopPropagation(); flip(); draw(); tell(); });
  return button;
}

function setShown(numbers, isShown) { for (const n of numbers) isShown ? hidden.delete(n) : hidden.add(n); }

function organRow(organ) {
  const item = make('div', 'op-row');
  item.setAttribute('role', 'treeitem');
  const swatch = make('span', 'op-swatch');
  swatch.style.background = organ.colour;
  const isShown = !hidden.has(organ.number);
  const name = make('button', 'op-name', organ.spoken);
  name.type = 'button';
  name.title = `Jump to the middle of ${organ.spoken}`;
  name.addEventListener('click', () => trigger('jump', { number: organ.number, mm: organ.centroid }));
  item.append(eye(isShown, organ.spoken, () => setShown([organ.number], !isShown)), swatch, name,
    make('span', 'op-value', organ.volume_ml >= 10 ? organ.volume_ml.toFixed(0) : organ.volume_ml.toFixed(1)),
    make('span', 'op-value', organ.mean_hu.toFixed(0)));
  return item;
}

function groupRow(name, organs) {
  const box = make('div', 'op-group');
  const numbers = organs.map((organ) => organ.number);
  const isShown = numbers.some((n) => !hidden.has(n));
  const head = make('div', 'op-head');
  head.append(eye(isShown, name, () => setShown(numbers, !isShown)), make('strong', '', name));
  box.append(head, ...organs.map(organRow));
  return box;
}

function draw() {
  const wanted = filter.value.trim().toLowerCase();
  const organs = (props.organs || []).filter((organ) => organ.spoken.includes(wanted) || organ.name.includes(wanted));
  tree.replaceChildren();
  if (!organs.length) {
    tree.append(make('p', 'op-empty', (props.organs || []).length ? 'No structure of that name.' : (props.empty || 'No organ masks yet.')));
    return;
  }
  const head = make('div', 'op-row op-titles');
  head.append(make('span'), make('span'), make('span', '', 'structure'), make('span', 'op-value', 'mL'), make('span', 'op-value', 'mean HU'));
  tree.append(head);
  const groups = [...new Set(organs.map((organ) => organ.group))];
  for (const group of groups) tree.append(groupRow(group, organs.filter((organ) => organ.group === group)));
}

element.querySelector('.op-all').addEventListener('click', () => { hidden = new Set(); draw(); tell(); });
element.querySelector('.op-none').addEventListener('click', () => {
  hidden = new Set((props.organs || []).map((organ) => organ.number)); draw(); tell();
});
filter.addEventListener('input', draw);
filter.addEventListener('keydown', (event) => event.stopPropagation());
watch('hidden', () => { hidden = new Set(props.hidden || []); draw(); });
watch('organs', () => { hidden = new Set(props.hidden || []); draw(); });
draw();
