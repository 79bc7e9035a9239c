// What the server is doing, how far it is, and since when. Runs inside gr.HTML (see report_panel.js).
const line = element.querySelector('.sl');
const bar = line.querySelector('.sl-bar i');
const words = line.querySelector('.sl-words');

function draw() {
  const status = props.status || {};
  line.dataset.kind = status.kind || 'idle';
  bar.style.width = `${Math.round((status.fraction || 0) * 100)}%`;
  const seconds = status.seconds > 1 ? ` · ${status.seconds.toFixed(0)} s` : '';
  words.textContent = (status.message || 'Ready') + (status.kind === 'work' ? seconds : '');
}

line.querySelector('.sl-cancel').addEventListener('click', () => trigger('cancel', {}));
watch('status', draw);
draw();
