// Fetching in the order in which a person needs it: CT first, then labels and heat, then full resolution.
import { ArrayStore, Layer } from './volume.js';

const IDLE_MS = 3000;
const IDLE_BYTES = 420e6; // larger scans are loaded whole only when asked for or zoomed into

export class Loader {
  constructor(viewer, base) {
    this.viewer = viewer;
    this.arrays = new ArrayStore(base);
    this.stop = new AbortController();
    this.heatTurn = 0;
    this.opened = Promise.resolve();
  }

  openCase(spec) {
    this.opened = this.#guard(this.#openCase(spec));
    return this.opened;
  }

  async #openCase(spec) {
    const { viewer } = this;
    this.stop.abort();
    this.stop = new AbortController();
    clearTimeout(this.idle);
    if (!spec) return this.#close();
    const isSame = viewer.case?.id === spec.id && viewer.ct;
    this.arrays.keepOnly([spec.volume, spec.full, spec.labels].filter(Boolean).map((part) => part.etag));
    if (!isSame) {
      viewer.ct = viewer.labels = viewer.heat = null;
      viewer.case = spec;
      viewer.distances = [];
      viewer.hidden.clear();
      viewer.isExact = !spec.full;
      const data = await this.#get(spec.volume, Int16Array, 'CT');
      viewer.ct = new Layer(spec.volume, data, spec.affine);
      viewer.at = spec.shape.map((count) => Math.floor(count / 2));
      viewer.stage.openCase(spec);
    }
    viewer.case = spec;
    viewer.labels = null;
    this.#structures(spec);
    viewer.changed();
    if (viewer.pendingGoto) viewer.goTo(viewer.pendingGoto);
    viewer.pendingGoto = null;
    viewer.say(spec.labels ? 'loading organs…' : this.#summary(spec));
    if (!isSame) requestAnimationFrame(() => viewer.send.ready({ id: spec.id }));
    if (spec.labels) await this.#openLabels(spec);
    viewer.say(this.#summary(spec));
    this.#whenIdle();
    return undefined;
  }

  #close() {
    const { viewer } = this;
    viewer.case = viewer.ct = viewer.labels = viewer.heat = null;
    this.arrays.keepOnly([]);
    viewer.panel.listOrgans([]);
    viewer.stage.blank();
    viewer.changed();
    viewer.say('no case open');
  }

  async #openLabels(spec) {
    const data = await this.#get(spec.labels, Uint8Array, 'organs');
    this.viewer.labels = new Layer(spec.labels, data, spec.affine);
    this.viewer.changed();
  }

  #structures(spec) {
    this.viewer.structures = new Map(spec.structures.map((structure) => [structure.number, structure]));
    this.viewer.panel.listOrgans(spec.structures);
  }

  // A newer heat map overtakes an older one that is still on its way.
  openHeat(spec) {
    const turn = ++this.heatTurn;
    return this.#guard(this.opened.then(() => this.#openHeat(spec, turn)));
  }

  async #openHeat(spec, turn) {
    const { viewer } = this;
    if (!viewer.ct || turn !== this.heatTurn) return; // a CT that did not load keeps its error in sight
    const isRaw = Boolean(spec?.raw) && viewer.heatKind === 'raw';
    const part = isRaw ? spec.raw : spec;
    let layer = null;
    if (part) layer = new Layer(part, await this.#get(part, Uint8Array, 'heat map'), viewer.case.affine);
    if (turn !== this.heatTurn) return;
    viewer.heat = layer;
    viewer.heatSpec = spec ?? null;
    viewer.isRawHeat = isRaw;
    if (layer) viewer.look.showHeat = true;
    viewer.say(this.#summary(viewer.case));
    viewer.changed();
  }

  wantFull() {
    if (this.viewer.canLoadFull && !this.loadingFull) this.loadFull();
  }

  loadFull() {
    if (!this.viewer.canLoadFull || this.loadingFull) return Promise.resolve();
    this.loadingFull = true;
    return this.#guard(this.#loadFull(this.viewer.case)).finally(() => { this.loadingFull = false; });
  }

  async #loadFull(spec) {
    const data = await this.#get(spec.full, Int16Array, 'full resolution');
    const { viewer } = this;
    if (viewer.case?.id !== spec.id) return;
    viewer.ct = new Layer(spec.full, data, spec.affine);
    viewer.isExact = true;
    this.arrays.keepOnly([spec.full, spec.labels].filter(Boolean).map((part) => part.etag));
    viewer.say(this.#summary(spec));
    viewer.changed();
  }

  #whenIdle() {
    const { viewer } = this;
    const bytes = (spec) => 2 * spec.shape.reduce((product, count) => product * count, 1);
    if (!viewer.canLoadFull || bytes(viewer.case.full) > IDLE_BYTES || navigator.connection?.saveData) return;
    this.idle = setTimeout(() => this.wantFull(), IDLE_MS);
  }

  async #get(spec, Type, what) {
    const { viewer } = this;
    const data = await this.arrays.get(spec, Type, (share) => {
      viewer.progress.style.width = `${Math.round(share * 100)}%`;
      viewer.say(`loading ${what}… ${Math.round(share * 100)}%`);
    }, this.stop.signal);
    viewer.progress.style.width = '0';
    return data;
  }

  #summary(spec) {
    const size = spec.shape.join(' × ');
    const spacing = spec.spacing_mm.map((mm) => mm.toFixed(2)).join(' × ');
    const kind = this.viewer.isExact ? '' : ', shown at reduced resolution';
    return `${spec.title ? `${spec.title} · ` : ''}${size} voxels, ${spacing} mm${kind}`;
  }

  // Errors end in the status line; a fetch we ended ourselves is no error.
  async #guard(promise) {
    try {
      await promise;
    } catch (error) {
      if (error.name === 'AbortError') return;
      this.viewer.progress.style.width = '0';
      this.viewer.say(`Could not load: ${error.message}.`, true);
    }
  }
}
