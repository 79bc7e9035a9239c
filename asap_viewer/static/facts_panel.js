// Label and value rows; a row may carry a link to a file of this session. Runs inside gr.HTML (see report_panel.js).
const box = element.querySelector('.fp-list');

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function value(row) {
  if (!row.href) return make('span', 'fp-value', row.value);
  const link = make('a', 'fp-value fp-link', row.value);
  // Only addresses of our own routes, which are relative, become links.
  if (/^asap\/volume\/[\w-]+$/.test(row.href)) link.href = row.href;
  link.download = row.download || '';
  return link;
}

function draw() {
  box.replaceChildren();
  for (const row of props.rows || []) {
    const line = make('div', `fp-row fp-is-${row.kind === 'warning' ? 'warning' : row.kind === 'good' ? 'good' : 'plain'}`);
    if (row.label) line.append(make('span', 'fp-label', row.label));
    line.append(value(row));
    box.append(line);
  }
}

watch('rows', draw);
draw();
