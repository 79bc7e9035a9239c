// Chooses which section of the side panel is seen. All sections stay in the document: gradio drops updates to
// components that it has not put there. Runs inside gr.HTML (see report_panel.js).
const bar = element.querySelector('.tb');
const side = element.closest('.asap-side');

function show(id, withFocus) {
  side.dataset.tab = id;
  for (const button of bar.children) {
    const isChosen = button.dataset.id === id;
    button.setAttribute('aria-selected', String(isChosen));
    button.tabIndex = isChosen ? 0 : -1;
    if (isChosen && withFocus) button.focus();
  }
  window.dispatchEvent(new Event('resize')); // plots measure themselves when they are seen
}

for (const tab of props.tabs || []) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'tb-tab';
  button.dataset.id = tab.id;
  button.textContent = tab.label;
  button.setAttribute('role', 'tab');
  button.addEventListener('click', () => show(tab.id, false));
  bar.append(button);
}
bar.addEventListener('keydown', (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  event.stopPropagation();
  const ids = (props.tabs || []).map((tab) => tab.id);
  show(ids[(ids.indexOf(side.dataset.tab) + step + ids.length) % ids.length], true);
});
if (props.tabs && props.tabs.length) show(props.tabs[0].id, false);
