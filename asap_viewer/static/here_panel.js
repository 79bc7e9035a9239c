// Sentences ranked for the place under the crosshair. Runs inside gr.HTML (see report_panel.js).
const box = element.querySelector('.hr-list');

function draw() {
  box.replaceChildren();
  const here = props.here || {};
  const title = document.createElement('p');
  title.className = 'hr-title';
  title.textContent = here.place || 'Click in the scan to see which sentences speak of that place.';
  box.append(title);
  for (const one of here.sentences || []) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'hr-one';
    button.textContent = `${one.index}. ${one.text}`;
    button.title = `heat here ${Math.round(one.heat * 100)} %`;
    button.style.setProperty('--heat', one.heat);
    button.addEventListener('click', () => trigger('choose', { index: one.index }));
    box.append(button);
  }
}

watch('here', draw);
draw();
