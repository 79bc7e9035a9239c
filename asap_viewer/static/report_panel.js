// The report as a list of sentences. Runs inside gr.HTML: `element`, `props`, `trigger` and `watch` are given.
// Every word from outside goes through textContent, so a report can never become markup.
const list = element.querySelector('.rp-list');
const STATES = { present: 'present', absent: 'absent', uncertain: 'uncertain' };
const VERDICTS = [['accept', 'Accept', 'The region is right'], ['uncertain', 'Unsure', 'Cannot be decided'], ['reject', 'Reject', 'The region is wrong']];

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function percent(value) { return `${Math.round(value * 100)} %`; }

function organChips(sentence) {
  const row = make('div', 'rp-organs');
  for (const organ of sentence.organs) {
    const chip = make('span', 'rp-organ', organ.spoken);
    chip.style.setProperty('--organ', organ.colour);
    row.append(chip);
  }
  return row;
}

function meter(sentence) {
  const bar = make('div', 'rp-meter');
  const fill = make('i');
  fill.style.width = percent(Math.max(0, Math.min(1, sentence.probability)));
  bar.append(fill);
  const chance = make('span', 'rp-chance');
  chance.append(bar, make('span', '', percent(sentence.probability)));
  chance.title = `Chance that this sentence is right: ${percent(sentence.probability)}. ${sentence.why}`;
  return chance;
}

function verdictRow(sentence) {
  const row = make('div', 'rp-verdicts');
  for (const [key, label, hint] of VERDICTS) {
    const button = make('button', `rp-verdict rp-${key}`, label);
    button.type = 'button';
    button.title = hint;
    button.setAttribute('aria-pressed', String(sentence.verdict === key));
    button.addEventListener('click', (event) => { event.stopPropagation(); judge(sentence, key); });
    row.append(button);
  }
  return row;
}

function judge(sentence, verdict) {
  const note = element.querySelector('.rp-note');
  trigger('judge', { index: sentence.index, verdict, note: note ? note.value : '' });
}

// A patient point in RAS mm as a radiologist says it: "L 45, P 87, I 120 mm".
function placeWords(mm) {
  return `${mm.map((value, axis) => `${['RL', 'AP', 'SI'][axis][value < 0 ? 1 : 0]} ${Math.abs(value).toFixed(0)}`).join(', ')} mm`;
}

function details(sentence) {
  const box = make('div', 'rp-details');
  const facts = make('p', 'rp-facts');
  if (sentence.peak) {
    const place = sentence.is_spot ? `Peak at ${placeWords(sentence.peak)}` : 'Normal or denied: points at no spot';
    facts.textContent = `${place} · score ${sentence.score.toFixed(2)} · ` +
      `margin to its negation ${sentence.margin >= 0 ? '+' : ''}${sentence.margin.toFixed(2)}`;
  } else {
    facts.textContent = sentence.pending ? 'Looking for it in the scan…' : 'Not looked for in the scan yet.';
  }
  const note = make('textarea', 'rp-note');
  note.placeholder = 'Note (kept with this CT)';
  note.rows = 2;
  note.maxLength = 4000;
  note.value = sentence.note || '';
  note.addEventListener('click', (event) => event.stopPropagation());
  note.addEventListener('keydown', (event) => event.stopPropagation());
  note.addEventListener('change', () => { if (sentence.verdict) judge(sentence, sentence.verdict); });
  box.append(facts);
  if (sentence.why) box.append(make('p', 'rp-facts rp-why', sentence.why));
  if (sentence.kept) box.append(make('p', 'rp-facts', `Heat: ${sentence.kept}`));
  if (sentence.shares && sentence.shares.length) {
    const shares = sentence.shares.slice(0, 4).map((one) => `${one.spoken} ${percent(one.share)}`).join(' · ');
    box.append(make('p', 'rp-facts', `Heat lies in: ${shares}`));
  }
  box.append(verdictRow(sentence), note);
  return box;
}

function row(sentence, isChosen) {
  const item = make('div', `rp-row rp-is-${sentence.finding ? STATES[sentence.existence] || 'absent' : 'none'}`);
  item.id = `rp-sentence-${sentence.index}`;
  item.dataset.found = String(Boolean(sentence.peak));
  item.setAttribute('role', 'option');
  item.setAttribute('aria-selected', String(isChosen));
  item.tabIndex = isChosen || (sentence.index === 1 && !props.chosen) ? 0 : -1;
  const head = make('div', 'rp-head');
  head.append(make('span', 'rp-number', sentence.index), make('span', 'rp-text', sentence.text));
  const tags = make('div', 'rp-tags');
  tags.append(make('span', 'rp-state', sentence.finding ? `${sentence.finding}: ${sentence.existence}` : 'no finding named'));
  tags.append(organChips(sentence));
  if (sentence.mark) {
    const mark = make('span', `rp-mark rp-${sentence.support === 'supported' ? 'accept' : 'reject'}`, sentence.mark);
    mark.title = sentence.why;
    tags.append(mark);
  }
  if (sentence.peak && sentence.finding && sentence.support !== 'cannot tell') tags.append(meter(sentence));
  if (sentence.verdict) tags.append(make('span', `rp-mark rp-${sentence.verdict}`, sentence.verdict));
  item.append(head, tags);
  if (isChosen) item.append(details(sentence));
  item.addEventListener('click', () => choose(sentence.index));
  return item;
}

// Scrolls the list alone: scrollIntoView would move the page too, and the scan out of sight on a narrow screen.
function keepInSight(item) {
  const view = list.getBoundingClientRect();
  const place = item.getBoundingClientRect();
  const above = place.top - view.top;
  const below = place.bottom - view.bottom;
  if (above < 0) list.scrollTop += above;
  else if (below > 0) list.scrollTop += Math.min(above, below);
}

function choose(index) { trigger('choose', { index }); }

function draw() {
  const sentences = props.sentences || [];
  list.replaceChildren();
  if (!sentences.length) {
    list.append(make('p', 'rp-empty', props.empty || 'No report yet. Paste one above, then press “Find sentences”.'));
    return;
  }
  for (const sentence of sentences) list.append(row(sentence, sentence.index === props.chosen));
  if (props.legend) list.append(make('p', 'rp-legend', props.legend));
  const chosen = list.querySelector('[aria-selected="true"]');
  if (chosen) keepInSight(chosen);
}

list.addEventListener('keydown', (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const count = (props.sentences || []).length;
  if (!step || !count) return;
  event.preventDefault();
  event.stopPropagation();
  choose(Math.min(count, Math.max(1, (props.chosen || 1) + step)));
});

watch('sentences', draw);
watch('legend', draw);
watch('chosen', draw);
draw();
