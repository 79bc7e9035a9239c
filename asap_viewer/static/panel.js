// The fourth quarter: what is under the crosshair, window numbers, overlay sliders, the heat legend, the organs.
import { apply, invert } from './geometry.js';
import { heatColour } from './colours.js';
import { button, make, setPressed } from './build.js';

export class Panel {
  constructor(viewer) {
    this.viewer = viewer;
    this.reading = makeReading();
    this.width = number('W', 'Window width in HU', 1, 4000, (value) => viewer.setWindow(value, viewer.window.level));
    this.level = number('L', 'Window level in HU', -1400, 3000, (value) => viewer.setWindow(viewer.window.width, value));
    this.sliders = {
      fillOpacity: slider('Mask fill', (value) => viewer.set({ fillOpacity: value })),
      heatOpacity: slider('Heat opacity', (value) => viewer.set({ heatOpacity: value })),
      heatThreshold: slider('Heat from', (value) => viewer.set({ heatThreshold: value })),
    };
    this.legend = makeLegend(viewer);
    this.organs = make('div', { className: 'ctv-organs' });
    this.organHead = make('div', { className: 'ctv-head' }, [
      make('span', { text: 'Organs' }),
      make('span', {}, [
        button('all', 'Show all organs', () => viewer.showOrgans([]), { className: 'ctv-mini' }),
        button('none', 'Hide all organs', () => viewer.hideAllOrgans(), { className: 'ctv-mini' }),
      ]),
    ]);
    this.element = make('section', { className: 'ctv-panel', 'aria-label': 'Read-out and overlays' }, [
      this.reading.element,
      make('div', { className: 'ctv-window' }, [this.width.element, this.level.element, make('span', { text: 'HU' })]),
      this.sliders.fillOpacity.element,
      this.sliders.heatOpacity.element,
      this.sliders.heatThreshold.element,
      this.legend.element,
      this.organHead,
      this.organs,
    ]);
  }

  // Everything but the read-out.
  update() {
    const { viewer } = this;
    this.width.input.value = Math.round(viewer.window.width);
    this.level.input.value = Math.round(viewer.window.level);
    for (const [name, { input, output }] of Object.entries(this.sliders)) {
      input.value = Math.round(viewer.look[name] * 100);
      output.textContent = `${input.value}%`;
    }
    this.sliders.fillOpacity.element.hidden = !viewer.labels;
    for (const part of [this.sliders.heatOpacity, this.sliders.heatThreshold, this.legend]) part.element.hidden = !viewer.heat;
    this.legend.update();
    this.organHead.hidden = !viewer.labels;
    for (const chip of this.organs.querySelectorAll('[data-number]')) {
      setPressed(chip, viewer.isShown(Number(chip.dataset.number)));
    }
  }

  // The read-out at a place. reading: see Viewer.readAt.
  read(reading) {
    this.reading.update(reading);
  }

  // One heading per group, one chip per organ.
  listOrgans(structures) {
    const groups = new Map();
    for (const structure of structures) {
      if (!groups.has(structure.group)) groups.set(structure.group, []);
      groups.get(structure.group).push(structure);
    }
    const open = (name, list) => (list.length <= 16 ? { open: '' } : {});
    this.organs.replaceChildren(...[...groups].map(([name, list]) => make('details', open(name, list), [
      make('summary', { text: `${name} (${list.length})` }),
      make('div', { className: 'ctv-chips' }, list.map((structure) => this.#chip(structure))),
    ])));
  }

  #chip(structure) {
    const dot = make('span', { className: 'ctv-dot' });
    dot.style.background = structure.colour;
    const volume = structure.volume_ml === undefined ? '' : `, ${structure.volume_ml.toFixed(0)} mL`;
    const tip = `${structure.spoken}${volume}: click shows or hides, double click shows it alone`;
    return make('button', {
      type: 'button', className: 'ctv-chip', title: tip, 'aria-label': structure.spoken, 'aria-pressed': 'true',
      'data-number': structure.number,
      onclick: () => this.viewer.toggleOrgan(structure.number),
      ondblclick: () => this.viewer.solo(structure.number),
    }, [dot, make('span', { text: structure.spoken })]);
  }
}

function makeReading() {
  const part = (name, className) => make('span', { className, 'data-read': name });
  const dot = make('span', { className: 'ctv-dot' });
  const [organ, hu] = [part('organ', ''), part('hu', 'ctv-hu')];
  const [mm, heat] = [part('mm', 'ctv-fine'), part('heat', 'ctv-fine ctv-end')];
  const voxel = part('voxel', 'ctv-fine');
  const element = make('div', { className: 'ctv-read', 'aria-label': 'Under the crosshair' }, [
    make('span', { className: 'ctv-organ' }, [dot, organ]), hu, mm, heat, voxel,
  ]);
  const update = (reading) => {
    organ.textContent = reading.organ || (reading.hasLabels ? 'no organ' : 'place');
    dot.style.background = reading.colour || '#3a4656';
    hu.textContent = reading.hu === null ? '' : `${reading.exact ? '' : '≈ '}${reading.hu} HU`.replace('-', '−');
    hu.title = reading.exact ? 'Hounsfield units of this voxel' : 'Mean of neighbouring voxels until full resolution is loaded';
    mm.textContent = mmText(reading.mm);
    voxel.textContent = `voxel ${reading.voxel.join(', ')}`;
    voxel.title = 'Index in the file, counted from 0';
    heat.textContent = reading.heat === null ? '' : `${reading.isRaw ? 'raw ' : ''}heat ${reading.heat.toFixed(2)}`;
  };
  return { element, update };
}

export function mmText(mm) {
  return `${mm.map((value) => value.toFixed(1)).join(', ')} mm RAS`.replaceAll('-', '−');
}

// Index of a patient point in the file the CT came from.
export function sourceVoxel(spec, mm) {
  return apply(invert(spec.source_affine ?? spec.affine), mm).map((value) => Math.round(value) + 0);
}

function number(words, tip, min, max, onChange) {
  const input = make('input', { type: 'number', min, max, step: 10, 'aria-label': tip, title: tip });
  input.addEventListener('change', () => Number.isFinite(input.valueAsNumber) && onChange(input.valueAsNumber));
  return { input, element: make('label', {}, [make('span', { text: words }), input]) };
}

function slider(words, onInput) {
  const input = make('input', { type: 'range', min: 0, max: 100, step: 1, 'aria-label': words });
  const output = make('output', {});
  input.addEventListener('input', () => onInput(input.valueAsNumber / 100));
  return { input, output, element: make('label', { className: 'ctv-row' }, [make('span', { text: words }), input, output]) };
}

// The heat's name, what kept it, the choice between the two heats, and the colours.
function makeLegend(viewer) {
  const name = make('div', { className: 'ctv-name' });
  const words = make('div', { className: 'ctv-kept', 'data-read': 'kept' });
  const kinds = [
    ['kept', 'Inside the named organ', 'Heat kept inside the organ, lobe and side that the sentence names (key i)'],
    ['raw', 'Raw heat', 'Heat as the engine gives it, kept to nothing (key i)'],
  ].map(([kind, text, tip]) => [kind, button(text, tip, () => viewer.setHeatKind(kind), { toggles: true, 'data-heat': kind })]);
  const choice = make('div', { className: 'ctv-group', role: 'group', 'aria-label': 'Which heat is drawn' }, kinds.map((pair) => pair[1]));
  const peak = button('to its peak', 'Move the crosshair to where this heat is hottest', () => viewer.goToHeat(), { className: 'ctv-mini' });
  const canvas = make('canvas', { width: 256, height: 1, 'aria-hidden': 'true' });
  const ticks = make('div', { className: 'ctv-ticks' }, ['0', '0.25', '0.5', '0.75', '1'].map((text) => make('span', { text })));
  const update = () => {
    const { look, heatSpec: spec, isRawHeat, heatKind } = viewer;
    name.textContent = spec?.label ? `Heat: ${spec.label}` : 'Heat';
    words.textContent = isRawHeat ? 'raw heat, kept to nothing' : (spec?.words ?? '');
    choice.hidden = !spec?.raw;
    peak.hidden = !spec?.peaks;
    for (const [kind, element] of kinds) setPressed(element, kind === heatKind);
    const context = canvas.getContext('2d');
    for (let x = 0; x < 256; x += 1) {
      const [r, g, b] = x / 255 < look.heatThreshold ? [22, 27, 35] : heatColour(x / 255);
      context.fillStyle = `rgb(${r}, ${g}, ${b})`;
      context.fillRect(x, 0, 1, 1);
    }
  };
  const row = make('div', { className: 'ctv-heats' }, [choice, peak]);
  return { element: make('div', { className: 'ctv-legend' }, [name, words, row, canvas, ticks]), update };
}
