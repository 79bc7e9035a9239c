// The row of buttons above the planes, and the help.
import { PRESETS } from './colours.js';
import { button, make, setPressed } from './build.js';
import { KEYS } from './input.js';

export class Toolbar {
  constructor(viewer) {
    this.viewer = viewer;
    this.presets = Object.entries(PRESETS).map(([name, preset]) => [name, button(
      preset.name, `${preset.name} window: width ${preset.width}, level ${preset.level} HU (key ${preset.key})`,
      () => viewer.setPreset(name), { toggles: true, 'data-preset': name },
    )]);
    this.tools = [
      ['crosshair', 'Crosshair: click or drag a place; the other planes follow'],
      ['window', 'Window: drag sideways for width, up and down for level (also right-drag or ctrl-drag)'],
      ['pan', 'Pan: drag the picture (also shift-drag or middle-drag)'],
      ['distance', 'Distance: drag from point to point, in mm (key d)'],
    ].map(([name, tip]) => [name, button('', tip, () => viewer.setTool(name), { iconName: name, toggles: true, 'data-tool': name })]);
    this.switches = [
      ['masks', 'Masks', 'Organ masks on or off (key m)', () => viewer.set({ masks: !viewer.look.masks })],
      ['outline', 'Outline', 'Outline the organs (key o)', () => viewer.set({ outline: !viewer.look.outline })],
      ['heat', 'Heat', 'Heat map on or off (key h)', () => viewer.set({ showHeat: !viewer.look.showHeat })],
    ].map(([name, words, tip, act]) => [name, button(words, tip, act, { iconName: name, toggles: true, 'data-switch': name })]);
    this.full = button('Full resolution', 'Load every voxel of the scan', () => viewer.loadFull(), { iconName: 'full' });
    this.element = make('div', { className: 'ctv-bar', role: 'toolbar', 'aria-label': 'Viewer tools' }, [
      group('Windows', this.presets.map((pair) => pair[1])),
      group('Tools', this.tools.map((pair) => pair[1])),
      group('Slab', [this.#slabThickness(), this.#slabMode()]),
      group('Overlays', this.switches.map((pair) => pair[1])),
      group('More', [
        button('', 'Reset zoom, window, organs and distances (key r)', () => viewer.reset(), { iconName: 'reset', 'data-act': 'reset' }),
        button('', 'Save a picture, PNG (key p)', () => viewer.savePicture(), { iconName: 'camera', 'data-act': 'picture' }),
        button('', 'Keys and mouse (key ?)', () => viewer.toggleHelp(), { iconName: 'help', 'data-act': 'help' }),
      ]),
      group('Resolution', [this.full]), // last: it leaves when done, and nothing else may move then
    ]);
  }

  #slabThickness() {
    this.thickness = choice('Slab thickness', [0, 5, 10, 20].map((mm) => [mm, mm ? `Slab ${mm} mm` : 'No slab']),
      (value) => this.viewer.setSlab({ mm: Number(value) }));
    return this.thickness;
  }

  #slabMode() {
    const modes = [['max', 'MIP'], ['min', 'MinIP'], ['mean', 'Mean']];
    this.mode = choice('How the slab is put together: brightest (nodules), darkest (airways, emphysema) or mean', modes,
      (value) => this.viewer.setSlab({ mode: value }));
    return this.mode;
  }

  // Shows the viewer's state on the buttons.
  update() {
    const { look, tool, slab, window: shown } = this.viewer;
    for (const [name, element] of this.presets) {
      setPressed(element, PRESETS[name].width === shown.width && PRESETS[name].level === shown.level && this.viewer.preset === name);
    }
    for (const [name, element] of this.tools) setPressed(element, name === tool);
    const on = { masks: look.masks, outline: look.outline, heat: look.showHeat };
    const exists = { masks: this.viewer.labels, outline: this.viewer.labels, heat: this.viewer.heat };
    for (const [name, element] of this.switches) {
      setPressed(element, on[name] && exists[name]);
      element.disabled = !exists[name];
    }
    this.thickness.value = String(slab.mm);
    this.mode.value = slab.mode;
    this.mode.hidden = slab.mm === 0;
    this.full.parentElement.hidden = !this.viewer.canLoadFull;
  }
}

function group(name, children) {
  return make('div', { className: 'ctv-group', role: 'group', 'aria-label': name }, children);
}

function choice(tip, options, onChoose) {
  const items = options.map(([value, text]) => make('option', { value: String(value), text }));
  return make('select', { title: tip, 'aria-label': tip, onchange: (event) => onChoose(event.target.value) }, items);
}

const MOUSE = [
  ['click, drag', 'move the crosshair'],
  ['wheel', 'next slice; with shift five at once'],
  ['ctrl + wheel, pinch', 'zoom about the pointer'],
  ['right-drag, ctrl-drag', 'window: sideways width, up and down level'],
  ['shift-drag, middle-drag', 'pan'],
  ['double click', 'this plane alone, and back'],
];

export function makeHelp(onClose) {
  const rows = [...MOUSE, ...Object.entries(KEYS).filter(([, entry]) => entry[0]).map(([key, entry]) => [keyName(key), entry[0]])];
  return make('div', { className: 'ctv-help', role: 'dialog', 'aria-label': 'Keys and mouse', hidden: '' }, [
    make('h3', { text: 'Keys and mouse' }),
    make('dl', {}, rows.map(([key, what]) => make('div', {}, [make('dt', { text: key }), make('dd', { text: what })]))),
    button('Close', 'Close this help (Escape)', onClose, { className: 'ctv-close' }),
  ]);
}

function keyName(key) {
  return { ArrowUp: '↑ ←', ArrowDown: '↓ →', PageUp: 'Page Up', PageDown: 'Page Down' }[key] ?? key;
}
