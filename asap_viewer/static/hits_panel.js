// Similar reports: score, best sentence, labels; a click chooses one. Runs inside gr.HTML (see report_panel.js).
const box = element.querySelector('.hp-list');

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function hitRow(hit, place) {
  const item = make('details', 'hp-hit');
  const head = make('summary');
  head.append(make('span', 'hp-place', place), make('span', 'hp-score', hit.score.toFixed(3)),
    make('span', 'hp-id', hit.study_id), make('span', 'hp-text', hit.text));
  item.append(head);
  const labels = make('div', 'hp-labels');
  for (const label of hit.labels || []) labels.append(make('span', 'hp-label', label));
  item.append(labels, make('p', 'hp-report', hit.report || ''));
  return item;
}

function draw() {
  const hits = props.hits || [];
  box.replaceChildren();
  if (props.summary) box.append(make('p', 'hp-summary', props.summary));
  hits.forEach((hit, at) => box.append(hitRow(hit, at + 1)));
}

watch('hits', draw);
watch('summary', draw);
draw();
