// Small makers of page elements. Text always goes in as text, never as HTML.

export function make(tag, { className = '', text = '', ...attributes } = {}, children = []) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const ICONS = {
  crosshair: 'M8 1v5M8 10v5M1 8h5M10 8h5',
  window: 'M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12',
  pan: 'M8 1v14M1 8h14M5.5 3.5 8 1l2.5 2.5M5.5 12.5 8 15l2.5-2.5M3.5 5.5 1 8l2.5 2.5M12.5 5.5 15 8l-2.5 2.5',
  distance: 'M2 11 11 2l3 3-9 9zM5 8l1.5 1.5M8 5l1.5 1.5',
  masks: 'M8 2 2 5l6 3 6-3zM2 8l6 3 6-3M2 11l6 3 6-3',
  outline: 'M8 2c4 0 6 2 6 6s-3 6-6 6-6-2-6-6 2-6 6-6z',
  heat: 'M8 1c1 3 4 4.500 4 8a4 4 0 0 1-8 0c0-2 1-3 2-4 0 1.500.5 2 1 2.500C8 6 7.500 3 8 1z',
  reset: 'M3 8a5 5 0 1 0 1.500-3.500M3 2v3h3',
  full: 'M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4',
  camera: 'M2 5h3l1-2h4l1 2h3v8H2zM8 7a2.500 2.500 0 1 0 0 5 2.500 2.500 0 0 0 0-5z',
  help: 'M6 6a2 2 0 1 1 2.700 1.900C8 8.300 8 8.700 8 9.500M8 12v.1',
};

export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

// A button with tooltip. `words` may be empty for icon-only buttons, whose tooltip is then their name.
export function button(words, tip, onclick, { iconName = '', toggles = false, ...rest } = {}) {
  const children = iconName ? [icon(iconName)] : [];
  if (words) children.push(make('span', { className: iconName ? 'ctv-word' : '', text: words }));
  const attributes = { type: 'button', title: tip, 'aria-label': tip, onclick, ...rest };
  if (toggles) attributes['aria-pressed'] = 'false';
  return make('button', attributes, children);
}

export function setPressed(element, on) {
  element.setAttribute('aria-pressed', on ? 'true' : 'false');
}
