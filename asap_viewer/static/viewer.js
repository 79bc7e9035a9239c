// Entry: puts the parts together. One Viewer per gr.HTML; Python sends small JSON, voxels are fetched by address.
import { make } from './build.js';
import { PRESETS } from './colours.js';
import { clamp, invert, apply } from './geometry.js';
import { listenToKeys } from './input.js';
import { Loader } from './loader.js';
import { Panel, mmText, sourceVoxel } from './panel.js';
import { composePicture, savePicture } from './picture.js';
import { Scene } from './scene.js';
import { Stage } from './stage.js';
import { Toolbar, makeHelp } from './toolbar.js';

const FIRST_LOOK = {
  masks: true, outline: true, showHeat: true, crosshair: true, fillOpacity: 0.12, heatOpacity: 0.65, heatThreshold: 0.3,
};

export async function mountViewer(root, base, send) {
  await loadStyle(new URL('asap/static/viewer.css', base).href);
  return new Viewer(root, base, send);
}

function loadStyle(href) {
  if (document.querySelector(`link[href="${CSS.escape(href)}"]`)) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const link = make('link', { rel: 'stylesheet', href });
    link.onload = resolve;
    link.onerror = () => reject(new Error('its style sheet did not load'));
    document.head.append(link);
  });
}

class Viewer {
  constructor(root, base, send) {
    this.root = root;
    this.send = send;
    this.case = null;
    this.ct = this.labels = this.heat = null;
    this.heatSpec = null; // what came with the heat: label, words, peaks, and where its raw twin is
    this.heatKind = 'kept'; // or 'raw': which of the two heats is wanted, for as long as the page is open
    this.isRawHeat = false;
    this.at = [0, 0, 0];
    this.tool = 'crosshair';
    this.slab = { mm: 0, mode: 'max' };
    this.look = { ...FIRST_LOOK };
    this.hidden = new Set();
    this.distances = [];
    this.preset = 'mediastinum';
    this.firstPreset = 'mediastinum'; // the one that the page asked for: reset goes back to it
    this.window = { ...PRESETS.mediastinum };
    this.scene = new Scene(this);
    this.loader = new Loader(this, base);
    this.toolbar = new Toolbar(this);
    this.panel = new Panel(this);
    this.stage = new Stage(this);
    this.active = this.stage.views[0];
    this.help = makeHelp(() => this.toggleHelp());
    this.#build();
    root.viewer = this; // for tests and measurements
  }

  #build() {
    const { root } = this;
    this.progress = make('div', { className: 'ctv-progress' });
    this.status = make('span', { role: 'status', 'data-read': 'status', text: 'no case open' });
    this.under = make('span', { 'data-read': 'pointer' });
    root.setAttribute('tabindex', '0');
    root.setAttribute('role', 'application');
    root.setAttribute('aria-label', 'CT viewer: three linked planes. Press ? for keys.');
    this.stage.element.append(this.panel.element);
    root.replaceChildren(this.toolbar.element, this.progress, this.stage.element,
      make('div', { className: 'ctv-foot' }, [this.status, this.under]), this.help);
    listenToKeys(root, this);
    root.addEventListener('pointerenter', () => {
      const held = document.activeElement;
      if (!held || held === document.body) this.focus();
    });
    this.stage.watchSize();
    this.changed();
  }

  // ---- from Python -------------------------------------------------------------------------------------------
  receive(name, value) {
    if (!value && name !== 'heat' && name !== 'scan') return;
    const take = { scan: () => this.loader.openCase(value), heat: () => this.loader.openHeat(value?.url ? value : null),
      place: () => this.goTo(value), look: () => this.takeLook(value) };
    take[name]();
  }

  goTo({ mm }) {
    if (!this.ct) { // also while the voxels of a new case are on their way: no plane knows its size yet
      this.pendingGoto = { mm };
      return;
    }
    const point = apply(invert(this.case.affine), mm);
    this.setAt(point, 'goto');
    this.stage.bringIntoView(this.at);
  }

  takeLook(wishes) {
    if (wishes.preset) {
      this.firstPreset = wishes.preset;
      this.setPreset(wishes.preset);
    }
    if (wishes.window) this.setWindow(...wishes.window);
    if (wishes.hidden) this.hidden = new Set(wishes.hidden);
    if (wishes.solo !== undefined) this.hidden = new Set(wishes.solo ? this.#allBut(wishes.solo) : []);
    const names = { outline: 'outline', masks: 'masks', show_heat: 'showHeat', fill_opacity: 'fillOpacity',
      heat_opacity: 'heatOpacity', heat_threshold: 'heatThreshold' };
    for (const [theirs, ours] of Object.entries(names)) {
      if (wishes[theirs] !== undefined && wishes[theirs] !== null) this.look[ours] = wishes[theirs];
    }
    this.changed();
  }

  // ---- place -------------------------------------------------------------------------------------------------
  setAt(point, source = 'user') {
    const { shape } = this.case;
    this.at = point.map((value, axis) => clamp(Math.round(value), 0, shape[axis] - 1));
    this.panel.read(this.readAt(this.at));
    this.stage.redraw();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send.crosshair({ ...this.readAt(this.at), source }), 120);
  }

  moveTo(view, pixel) {
    if (this.ct) this.setAt(view.toReference(pixel, this.at));
  }

  step(view, count) {
    if (!this.ct) return;
    const point = [...this.at];
    const axis = view.plane.fixed;
    point[axis] = clamp(point[axis] + count, 0, this.case.shape[axis] - 1);
    this.setAt(point);
  }

  setSlice(axis, index) {
    const point = [...this.at];
    point[axis] = index;
    this.setAt(point);
  }

  // What is at reference voxel `point`: {mm, voxel, hu, exact, organ, number, colour, heat, isRaw, hasLabels}.
  readAt(point) {
    const mm = apply(this.case.affine, point);
    const number = this.labels?.valueAt(point) || 0;
    const structure = this.structures?.get(number);
    const heat = this.heat ? (this.heat.valueAt(point) ?? 0) / 255 : null;
    return { mm, voxel: sourceVoxel(this.case, mm), hu: this.ct?.valueAt(point) ?? null, exact: this.isExact, number,
      organ: structure?.spoken ?? '', name: structure?.name ?? '', colour: structure?.colour ?? '', heat,
      isRaw: this.isRawHeat, hasLabels: Boolean(this.labels) };
  }

  hover(view, pixel) {
    const point = view && this.ct ? view.toReference(pixel, this.at).map(Math.round) : null;
    const isInside = point?.every((value, axis) => value >= 0 && value < this.case.shape[axis]);
    this.under.textContent = isInside ? describe(this.readAt(point)) : '';
  }

  // ---- looks -------------------------------------------------------------------------------------------------
  set(wishes) {
    Object.assign(this.look, wishes);
    this.changed();
  }

  // 'kept' inside the named organ, or 'raw'; stays for the next sentences and cases.
  setHeatKind(kind) {
    this.heatKind = kind;
    if (this.heatSpec) this.loader.openHeat(this.heatSpec);
    this.changed();
  }

  goToHeat() {
    const mm = this.heatSpec?.peaks?.[this.isRawHeat ? 'raw' : 'kept'];
    if (mm) this.goTo({ mm });
  }

  setPreset(name) {
    if (!PRESETS[name]) return;
    this.preset = name;
    this.#setWindow(PRESETS[name].width, PRESETS[name].level);
  }

  setWindow(width, level) {
    this.preset = '';
    this.#setWindow(width, level);
  }

  #setWindow(width, level) {
    this.window = { width: clamp(width, 1, 6000), level: clamp(level, -1400, 3000) };
    this.changed();
  }

  changeWindow(dx, dy) {
    const speed = Math.max(1, this.window.width / 400) / this.stage.ratio;
    this.setWindow(this.window.width + dx * speed, this.window.level - dy * speed);
  }

  setSlab(wishes) {
    Object.assign(this.slab, wishes);
    this.changed();
  }

  setTool(tool) {
    this.tool = tool;
    this.changed();
  }

  isShown(number) {
    return !this.hidden.has(number);
  }

  toggleOrgan(number) {
    if (!this.hidden.delete(number)) this.hidden.add(number);
    this.showOrgans([...this.hidden]);
  }

  showOrgans(hidden) {
    this.hidden = new Set(hidden);
    this.changed();
    this.send.looked({ hidden: [...this.hidden] });
  }

  hideAllOrgans() {
    this.showOrgans(this.#allBut(0));
  }

  // Shows one organ alone; the same again shows all.
  solo(number) {
    const others = this.#allBut(number);
    const isAlone = !this.hidden.has(number) && others.every((other) => this.hidden.has(other));
    this.showOrgans(number && !isAlone ? others : []);
  }

  #allBut(number) {
    return [...(this.structures?.keys() ?? [])].filter((other) => other !== number);
  }

  soloHere() {
    if (this.case) this.solo(this.readAt(this.at).number);
  }

  // ---- view --------------------------------------------------------------------------------------------------
  activate(view) {
    this.active = view;
    this.stage.showActive();
  }

  focus() {
    this.root.focus({ preventScroll: true });
  }

  pan(view, dx, dy) {
    if (!this.ct) return;
    view.pan = [view.pan[0] + dx / view.scale, view.pan[1] + dy / view.scale];
    this.stage.redraw();
  }

  zoom(view, pixel, factor) {
    if (!this.ct) return;
    view.zoomAbout(pixel, factor);
    if (view.zoom > 1.5) this.loader.wantFull();
    this.stage.redraw();
  }

  zoomMiddle(factor) {
    this.zoom(this.active, this.active.toScreen(this.at), factor);
  }

  maximise(view) {
    this.stage.only = this.stage.only === view ? null : view;
    this.stage.layOut();
  }

  measure(view, pixel, isNew) {
    if (!this.ct) return;
    const point = view.toReference(pixel, this.at);
    if (isNew) this.distances.push({ kind: view.plane.kind, from: point, to: point });
    else this.distances[this.distances.length - 1].to = point;
    this.stage.redraw();
  }

  dropDistance() {
    this.distances.pop();
    this.stage.redraw();
  }

  reset() {
    this.distances = [];
    this.hidden.clear();
    this.slab = { mm: 0, mode: 'max' };
    this.look = { ...FIRST_LOOK };
    this.tool = 'crosshair';
    for (const view of this.stage.views) view.reset();
    this.setPreset(this.firstPreset);
  }

  escape() {
    if (!this.help.hidden) this.toggleHelp();
    else if (this.stage.only) this.maximise(this.stage.only);
  }

  toggleHelp() {
    this.help.hidden = !this.help.hidden;
    (this.help.hidden ? this.root : this.help.querySelector('button')).focus({ preventScroll: true });
  }

  savePicture() {
    if (!this.ct) return;
    const views = this.stage.only ? [this.stage.only] : this.stage.views;
    savePicture(composePicture(views, this), `asap-${this.case.id}-${this.at.join('-')}.png`);
  }

  // ---- state -------------------------------------------------------------------------------------------------
  get canLoadFull() {
    return Boolean(this.case?.full) && !this.isExact;
  }

  loadFull() {
    this.loader.loadFull();
  }

  // Something about the looks or layers changed: tables, buttons, pictures.
  changed() {
    this.scene.changed();
    this.toolbar.update();
    this.panel.update();
    if (this.case) this.panel.read(this.readAt(this.at));
    this.stage.update();
    this.stage.redraw();
  }

  say(words, isError = false) {
    this.status.textContent = words;
    this.status.classList.toggle('ctv-error', isError);
  }
}

function describe(reading) {
  const parts = [`pointer ${mmText(reading.mm)}`, `${reading.exact ? '' : '≈ '}${reading.hu} HU`.replace('-', '−')];
  if (reading.organ) parts.push(reading.organ);
  if (reading.heat) parts.push(`${reading.isRaw ? 'raw ' : ''}heat ${reading.heat.toFixed(2)}`);
  return parts.join(' · ');
}
