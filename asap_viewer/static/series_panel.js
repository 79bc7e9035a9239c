// The series of an upload: a table to choose from, with the reason where one cannot be used. Runs inside gr.HTML (see
// report_panel.js). Shown where there is a choice, or something that was left out.
const box = element.querySelector('.sp-list');

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function titles() {
  const head = make('tr');
  for (const word of ['series', 'kind', 'slices', 'mm', '']) head.append(make('th', '', word));
  return head;
}

function nameOf(series) {
  if (!series.usable || series.chosen) return make('span', 'sp-name', series.description);
  const button = make('button', 'sp-name', series.description);
  button.type = 'button';
  button.title = `Open ${series.description}`;
  button.addEventListener('click', () => trigger('choose', { id: series.id }));
  return button;
}

function row(series) {
  const line = make('tr', series.usable ? 'sp-usable' : 'sp-refused');
  if (series.chosen) line.setAttribute('aria-current', 'true');
  const name = make('td');
  name.append(nameOf(series));
  line.append(name, make('td', '', series.modality), make('td', 'sp-number', series.slices),
    make('td', 'sp-number', series.spacing), make('td', 'sp-why', series.chosen ? 'open' : series.reason));
  return line;
}

function draw() {
  const series = props.series || [];
  box.replaceChildren();
  if (series.length < 2) return;
  const table = make('table', 'sp-table');
  table.append(make('caption', '', `${series.length} series in this upload`), titles(), ...series.map(row));
  box.append(table);
}

watch('series', draw);
draw();
