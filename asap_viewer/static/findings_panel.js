// Findings with their probability; a click jumps to the place. Runs inside gr.HTML (see report_panel.js).
const box = element.querySelector('.zp-list');

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function row(finding) {
  const line = make('button', 'zp-row');
  line.type = 'button';
  const isPlaced = finding.mm.length === 3;
  line.disabled = !isPlaced;
  const place = isPlaced ? `Jump to what speaks most for ${finding.name.toLowerCase()}` : `${finding.name}: no place is told`;
  line.title = finding.why ? `${place}. ${finding.why}` : place;
  const bar = make('span', 'zp-bar');
  const fill = make('i');
  const isTold = finding.support !== 'cannot tell';
  fill.style.width = isTold ? `${Math.round(finding.probability * 100)}%` : '0';
  bar.append(fill);
  line.append(make('span', 'zp-name', finding.name), bar, make('span', 'zp-value', isTold ? `${Math.round(finding.probability * 100)} %` : 'cannot tell'));
  line.addEventListener('click', () => trigger('jump', { mm: finding.mm }));
  return line;
}

function draw() {
  element.querySelector('.zp-caption').textContent = props.caption || '';
  box.replaceChildren(...(props.findings || []).map(row));
}

watch('findings', draw);
watch('caption', draw);
draw();
