// One plane on the screen: its canvases, its zoom, and the cached pictures it is put together from.
import { clamp } from './geometry.js';
import { doubleLabels, paintGrey, paintHeat, paintLabels, paintSlab, takeLabels } from './slices.js';

// A small canvas whose pixels are remade only when its key changes.
class Picture {
  constructor() {
    this.canvas = document.createElement('canvas');
    this.context = this.canvas.getContext('2d', { willReadFrequently: true });
    this.key = '';
  }

  // Calls paint(Uint32Array) if `key` is new. Returns whether it painted.
  refresh(key, width, height, paint) {
    if (key === this.key) return false;
    if (!this.image || this.image.width !== width || this.image.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.image = this.context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    paint(this.pixels);
    this.context.putImageData(this.image, 0, 0);
    this.key = key;
    return true;
  }
}

export class PlaneView {
  constructor(plane, picture, marks) {
    this.plane = plane;
    this.picture = picture;
    this.marks = marks;
    this.context = picture.getContext('2d', { alpha: false });
    this.grey = new Picture();
    this.heat = new Picture();
    this.labels = new Picture();
    this.composed = '';
    this.reset();
  }

  reset() {
    this.zoom = 1;
    this.pan = [0, 0]; // mm on screen, right and down
  }

  // Fits the canvases to their box; sizes are device pixels. Returns whether anything changed.
  resize(box, ratio) {
    const [width, height] = [Math.max(1, Math.round(box.width * ratio)), Math.max(1, Math.round(box.height * ratio))];
    if (width === this.picture.width && height === this.picture.height) return false;
    for (const canvas of [this.picture, this.marks]) Object.assign(canvas, { width, height });
    this.composed = '';
    return true;
  }

  setCase(reference) {
    this.reference = reference; // {shape, spacing_mm}
    this.composed = '';
  }

  clear() {
    this.composed = '';
    this.context.clearRect(0, 0, this.picture.width, this.picture.height);
    this.marks.getContext('2d').clearRect(0, 0, this.marks.width, this.marks.height);
  }

  // Screen pixels per mm.
  get scale() {
    const { across, down } = this.plane;
    const { shape, spacing_mm: mm } = this.reference;
    const fit = Math.min(this.picture.width / (shape[across] * mm[across]), this.picture.height / (shape[down] * mm[down]));
    return fit * this.zoom;
  }

  // Reference indices -> screen pixel.
  toScreen(point) {
    const { across, down } = this.plane;
    const { shape, spacing_mm: mm } = this.reference;
    const place = (axis) => ((shape[axis] - 1) / 2 - point[axis]) * mm[axis];
    return [
      this.picture.width / 2 + (place(across) + this.pan[0]) * this.scale,
      this.picture.height / 2 + (place(down) + this.pan[1]) * this.scale,
    ];
  }

  // Screen pixel -> fractional reference indices, the fixed one taken from `at`.
  toReference([x, y], at) {
    const { across, down } = this.plane;
    const { shape, spacing_mm: mm } = this.reference;
    const point = [...at];
    const back = (axis, px, size, pan) => (shape[axis] - 1) / 2 - ((px - size / 2) / this.scale - pan) / mm[axis];
    point[across] = back(across, x, this.picture.width, this.pan[0]);
    point[down] = back(down, y, this.picture.height, this.pan[1]);
    return point;
  }

  zoomAbout([x, y], factor) {
    const before = this.scale;
    this.zoom = clamp(this.zoom * factor, 0.5, 30);
    const after = this.scale;
    const [dx, dy] = [x - this.picture.width / 2, y - this.picture.height / 2];
    this.pan = [this.pan[0] + dx / after - dx / before, this.pan[1] + dy / after - dy / before];
  }

  // Draws what is due. scene: {ct, heat, labels, at, table, tableKey, slab, heatTable, heatKey, labelTables, labelKey}
  draw(scene) {
    const view = `${this.picture.width}x${this.picture.height}@${this.scale},${this.pan}`;
    const grey = this.#drawGrey(scene);
    const heat = scene.heat ? this.#drawHeat(scene) : '';
    const labels = scene.labels ? this.#drawLabels(scene, view) : '';
    const key = `${view}|${grey}|${heat}|${labels}`;
    if (key === this.composed) return;
    this.composed = key;
    const context = this.context;
    context.fillStyle = '#000';
    context.fillRect(0, 0, this.picture.width, this.picture.height);
    context.imageSmoothingEnabled = true;
    this.#place(scene.ct, this.grey);
    if (heat) this.#place(scene.heat, this.heat);
    if (labels) context.drawImage(this.labels.canvas, 0, 0);
  }

  #place(layer, picture) {
    const { across, down } = this.plane;
    const corner = (low) => {
      const point = [0, 0, 0];
      point[across] = layer.reference(across, low ? -0.5 : layer.shape[across] - 0.5);
      point[down] = layer.reference(down, low ? -0.5 : layer.shape[down] - 0.5);
      return this.toScreen(point);
    };
    const [[left, top], [right, bottom]] = [corner(false), corner(true)];
    this.context.drawImage(picture.canvas, left, top, right - left, bottom - top);
  }

  #drawGrey({ ct, at, table, tableKey, slab }) {
    const { fixed, across, down } = this.plane;
    const index = Math.round(ct.position(fixed, at[fixed]));
    const [first, last] = slabRange(ct, fixed, at[fixed], slab.mm * ct.scale[fixed] / this.reference.spacing_mm[fixed]);
    const key = last > first ? `${ct.id}:${first}-${last}${slab.mode}:${tableKey}` : `${ct.id}:${index}:${tableKey}`;
    this.grey.refresh(key, ct.shape[across], ct.shape[down], (out) => {
      if (last > first) paintSlab(ct, this.plane, [first, last], slab.mode, table, out);
      else paintGrey(ct, this.plane, index, table, out);
    });
    return key;
  }

  #drawHeat({ heat, at, heatTable, heatKey }) {
    const { fixed, across, down } = this.plane;
    if (heat.index(fixed, at[fixed]) < 0) return '';
    const position = heat.position(fixed, at[fixed]);
    const key = `${heat.id}:${position.toFixed(3)}:${heatKey}`;
    this.heat.refresh(key, heat.shape[across], heat.shape[down], (out) => {
      paintHeat(heat, this.plane, position, heatTable, out);
    });
    return key;
  }

  #drawLabels({ labels, at, labelTables, labelKey }, view) {
    const { fixed } = this.plane;
    const index = labels.index(fixed, at[fixed]);
    if (index < 0) return '';
    const key = `${labels.id}:${index}:${labelKey}:${view}`;
    this.labels.refresh(key, this.picture.width, this.picture.height, (out) => {
      const picture = this.#labelPicture(labels, index, labelTables.shown);
      const [columns, rows] = this.#labelPlaces(labels, picture);
      paintLabels(picture, columns, rows, labelTables, out);
    });
    return key;
  }

  #labelPicture(labels, index, shown) {
    const { across } = this.plane;
    let picture = takeLabels(labels, this.plane, index, shown);
    let pixels = (this.scale * this.reference.spacing_mm[across]) / labels.scale[across]; // screen pixels per label
    for (let times = 0; times < 2 && pixels > 1.8; times += 1, pixels /= 2) picture = doubleLabels(picture);
    return picture;
  }

  // Which column and row of the label picture lies under each screen column and row.
  #labelPlaces(labels, picture) {
    const { across, down } = this.plane;
    const along = (axis, count, cells) => {
      const places = new Int32Array(count);
      const [zero, one] = [this.toReference([0, 0], [0, 0, 0])[axis], this.toReference([1, 1], [0, 0, 0])[axis]];
      const times = cells / labels.shape[axis];
      for (let pixel = 0; pixel < count; pixel += 1) {
        const reference = zero + (pixel + 0.5) * (one - zero);
        const edge = labels.scale[axis] * reference + labels.offset[axis] + 0.5; // 0 at the first voxel's outer face
        const cell = cells - 1 - Math.floor(edge * times);
        places[pixel] = cell < 0 || cell >= cells ? -1 : cell;
      }
      return places;
    };
    return [along(across, this.picture.width, picture.width), along(down, this.picture.height, picture.height)];
  }
}

// Layer slices first..last of a slab around a reference index; thickness in layer slices, rounded to whole ones.
function slabRange(layer, axis, reference, thickness) {
  const count = Math.max(1, Math.round(thickness));
  const first = Math.round(layer.position(axis, reference) - (count - 1) / 2);
  const last = layer.shape[axis] - 1;
  return [clamp(first, 0, last), clamp(first + count - 1, 0, last)];
}
