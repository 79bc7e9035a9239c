// The three planes on the page: their canvases, sliders, sizes, and when they are drawn.
import { make } from './build.js';
import { drawMarks } from './draw.js';
import { PLANES, apply, placeName } from './geometry.js';
import { listenToPlane } from './input.js';
import { PlaneView } from './planes.js';

export class Stage {
  constructor(viewer) {
    this.viewer = viewer;
    this.only = null;
    this.frame = 0;
    this.element = make('div', { className: 'ctv-planes' });
    this.boxes = Object.values(PLANES).map((plane) => this.#makePlane(plane));
    this.views = this.boxes.map((box) => box.view);
    this.element.append(...this.boxes.map((box) => box.element));
  }

  get ratio() {
    return window.devicePixelRatio || 1;
  }

  #makePlane(plane) {
    const picture = make('canvas', { role: 'img', 'aria-label': `${plane.name} plane` });
    const marks = make('canvas', { 'aria-hidden': 'true' });
    const surface = make('div', { className: 'ctv-stage' }, [picture, marks]);
    const slider = make('input', { type: 'range', className: 'ctv-slice', min: 0, max: 0, step: 1,
      'aria-label': `${plane.name} slice`, 'aria-orientation': 'vertical', title: `${plane.name} slice` });
    slider.addEventListener('input', () => this.viewer.ct && this.viewer.setSlice(plane.fixed, slider.valueAsNumber));
    const element = make('div', { className: 'ctv-plane', 'data-kind': plane.kind }, [surface, slider]);
    const view = new PlaneView(plane, picture, marks);
    listenToPlane(surface, view, this.viewer);
    return { element, surface, slider, picture, view };
  }

  watchSize() {
    new ResizeObserver(() => this.layOut()).observe(this.element);
    this.layOut();
  }

  layOut() {
    if (this.only) this.element.dataset.only = this.only.plane.kind;
    else delete this.element.dataset.only;
    for (const { surface, view } of this.boxes) {
      const box = surface.getBoundingClientRect();
      if (box.width > 1) view.resize(box, this.ratio);
    }
    this.redraw();
  }

  openCase(spec) {
    for (const { slider, view } of this.boxes) {
      view.setCase(spec);
      view.reset();
      slider.max = spec.shape[view.plane.fixed] - 1;
    }
    this.layOut();
  }

  blank() {
    for (const { view } of this.boxes) view.clear();
  }

  // Tool cursors.
  update() {
    for (const { surface } of this.boxes) surface.dataset.tool = this.viewer.tool;
  }

  showActive() {
    for (const { element, view } of this.boxes) element.dataset.active = view === this.viewer.active;
  }

  // Pans a zoomed plane so that a reference point is on screen.
  bringIntoView(point) {
    for (const view of this.views) {
      const [x, y] = view.toScreen(point);
      const { width, height } = view.picture;
      if (x > width * 0.1 && x < width * 0.9 && y > height * 0.1 && y < height * 0.9) continue;
      view.pan = [view.pan[0] + (width / 2 - x) / view.scale, view.pan[1] + (height / 2 - y) / view.scale];
    }
    this.redraw();
  }

  // At most one drawing per screen frame.
  redraw() {
    if (this.frame || !this.viewer.ct) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    const { viewer } = this;
    if (!viewer.ct) return;
    const scene = viewer.scene.now();
    const state = { case: viewer.case, at: viewer.at, window: viewer.window, slab: viewer.slab, ratio: this.ratio,
      showCrosshair: viewer.look.crosshair, distances: viewer.distances };
    for (const { view, slider, picture } of this.boxes) {
      if (this.only && this.only !== view) continue;
      view.draw(scene);
      drawMarks(view, state);
      this.#name(view, slider, picture);
    }
  }

  // Slider position and the words a screen reader says.
  #name(view, slider, picture) {
    const { fixed, name } = view.plane;
    const { at, case: spec } = this.viewer;
    const key = `${spec.id}:${at[fixed]}`;
    if (picture.dataset.shown === key) return;
    picture.dataset.shown = key;
    slider.value = at[fixed];
    const words = `${placeName(fixed, apply(spec.affine, at)[fixed])}, slice ${at[fixed] + 1} of ${spec.shape[fixed]}`;
    slider.setAttribute('aria-valuetext', words);
    picture.setAttribute('aria-label', `${name} plane, ${words}`);
  }
}
