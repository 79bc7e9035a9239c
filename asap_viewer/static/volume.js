// Arrays from the server: fetched once, placed on the reference axes.
import { alongAxes, clamp } from './geometry.js';

let nextId = 1;

// A 3-D array and its place. `data` is Int16Array (HU) or Uint8Array (labels, heat), x fastest.
export class Layer {
  constructor(spec, data, referenceAffine) {
    this.id = nextId++;
    this.shape = spec.shape;
    this.data = data;
    this.strides = [1, spec.shape[0], spec.shape[0] * spec.shape[1]];
    const { scale, offset } = alongAxes(spec.affine, referenceAffine, spec.shape);
    this.scale = scale;
    this.offset = offset;
  }

  // Layer index on an axis for a reference index, or -1 outside.
  index(axis, reference) {
    const at = this.scale[axis] * reference + this.offset[axis];
    if (at < -0.5 || at > this.shape[axis] - 0.5) return -1;
    return clamp(Math.round(at), 0, this.shape[axis] - 1);
  }

  // Fractional layer index, clamped to the array.
  position(axis, reference) {
    return clamp(this.scale[axis] * reference + this.offset[axis], 0, this.shape[axis] - 1);
  }

  // Reference index (fractional) of a layer index.
  reference(axis, index) {
    return (index - this.offset[axis]) / this.scale[axis];
  }

  // Value of the voxel that holds a reference point, or null outside.
  valueAt(point) {
    const index = [0, 1, 2].map((axis) => this.index(axis, point[axis]));
    if (index.includes(-1)) return null;
    return this.data[index[0] + index[1] * this.strides[1] + index[2] * this.strides[2]];
  }
}

// Reads an array while telling how far it is. The size is known from the shape, so the buffer is made once.
export async function fetchArray(url, spec, Type, onProgress, signal) {
  const answer = await fetch(url, { signal, credentials: 'same-origin' });
  if (answer.status === 404) throw new Error('the server no longer holds this scan: open the case again');
  if (!answer.ok) throw new Error(`the server answered ${answer.status} ${answer.statusText}`);
  const count = spec.shape[0] * spec.shape[1] * spec.shape[2];
  const bytes = new Uint8Array(count * Type.BYTES_PER_ELEMENT);
  const reader = answer.body.getReader();
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (filled + value.length > bytes.length) throw new Error('the volume is larger than its header says');
    bytes.set(value, filled);
    filled += value.length;
    onProgress(filled / bytes.length);
  }
  if (filled !== bytes.length) throw new Error(`the volume broke off after ${filled} of ${bytes.length} bytes`);
  return new Type(bytes.buffer);
}

// Keeps the arrays of the open case by content, so that sending the same case again fetches nothing.
export class ArrayStore {
  constructor(base) {
    this.base = base;
    this.held = new Map();
  }

  async get(spec, Type, onProgress, signal) {
    if (!this.held.has(spec.etag)) {
      this.held.set(spec.etag, await fetchArray(new URL(spec.url, this.base), spec, Type, onProgress, signal));
    }
    return this.held.get(spec.etag);
  }

  keepOnly(etags) {
    for (const etag of [...this.held.keys()]) if (!etags.includes(etag)) this.held.delete(etag);
  }
}
