// Questions and answers, newest first, each with its evidence. Runs inside gr.HTML (see report_panel.js).
const box = element.querySelector('.ap-list');

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function evidence(answer) {
  const row = make('div', 'ap-evidence');
  const facts = [answer.source, answer.measurement, answer.organ].filter(Boolean).join(' · ');
  row.append(make('span', '', answer.abstained ? 'No evidence is strong enough.' : `Evidence: ${facts || 'none'}`));
  if (!answer.abstained) row.append(make('span', '', `confidence ${Math.round(answer.confidence * 100)} %`));
  if (answer.mm) {
    const jump = make('button', 'ap-jump', 'show in the scan');
    jump.type = 'button';
    jump.addEventListener('click', () => trigger('jump', { mm: answer.mm }));
    row.append(jump);
  }
  return row;
}

function draw() {
  box.replaceChildren();
  for (const answer of props.answers || []) {
    const item = make('div', `ap-item${answer.abstained ? ' ap-abstained' : ''}`);
    item.append(make('p', 'ap-question', answer.question), make('p', 'ap-answer', answer.answer), evidence(answer));
    box.append(item);
  }
}

watch('answers', draw);
draw();
