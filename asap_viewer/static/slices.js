// The pixel loops: from 3-D arrays to image data. Rows run from superior or anterior down, columns from patient right
// or anterior to the right, so both in-plane indices fall.

// Grey slice at the layer's own resolution. out: Uint32Array(width * height) of that plane of the layer.
export function paintGrey(layer, plane, index, table, out) {
  const { data, shape, strides } = layer;
  const [width, height] = [shape[plane.across], shape[plane.down]];
  const [step, rowStep] = [strides[plane.across], strides[plane.down]];
  let o = 0;
  for (let row = 0; row < height; row += 1) {
    let p = index * strides[plane.fixed] + (height - 1 - row) * rowStep + (width - 1) * step;
    for (let column = 0; column < width; column += 1, p -= step) out[o++] = table[data[p] + 32768];
  }
}

// The same for a slab of slices first..last: mode "max", "min" or "mean" over them.
export function paintSlab(layer, plane, [first, last], mode, table, out) {
  const { data, shape, strides } = layer;
  const [width, height] = [shape[plane.across], shape[plane.down]];
  const [step, rowStep, depthStep] = [strides[plane.across], strides[plane.down], strides[plane.fixed]];
  const count = last - first + 1;
  const combine = { max: largest, min: smallest, mean: average }[mode];
  let o = 0;
  for (let row = 0; row < height; row += 1) {
    let p = first * depthStep + (height - 1 - row) * rowStep + (width - 1) * step;
    for (let column = 0; column < width; column += 1, p -= step) {
      out[o++] = table[combine(data, p, depthStep, count) + 32768];
    }
  }
}

function largest(data, p, step, count) {
  let best = data[p];
  for (let k = 1, q = p + step; k < count; k += 1, q += step) if (data[q] > best) best = data[q];
  return best;
}

function smallest(data, p, step, count) {
  let best = data[p];
  for (let k = 1, q = p + step; k < count; k += 1, q += step) if (data[q] < best) best = data[q];
  return best;
}

function average(data, p, step, count) {
  let sum = 0;
  for (let k = 0, q = p; k < count; k += 1, q += step) sum += data[q];
  return Math.round(sum / count);
}

// Heat slice between two layer slices (linear), so that scrolling does not show the coarse grid as steps.
export function paintHeat(layer, plane, position, table, out) {
  const { data, shape, strides } = layer;
  const [width, height] = [shape[plane.across], shape[plane.down]];
  const [step, rowStep] = [strides[plane.across], strides[plane.down]];
  const below = Math.min(Math.floor(position), shape[plane.fixed] - 1);
  const weight = Math.round((position - below) * 256);
  const up = below + 1 < shape[plane.fixed] ? strides[plane.fixed] : 0;
  let o = 0;
  for (let row = 0; row < height; row += 1) {
    let p = below * strides[plane.fixed] + (height - 1 - row) * rowStep + (width - 1) * step;
    for (let column = 0; column < width; column += 1, p -= step) {
      out[o++] = table[(data[p] * (256 - weight) + data[p + up] * weight) >> 8];
    }
  }
}

// Labels of one slice in screen order, hidden ones as 0. Returns {labels, width, height}.
export function takeLabels(layer, plane, index, shown) {
  const { data, shape, strides } = layer;
  const [width, height] = [shape[plane.across], shape[plane.down]];
  const [step, rowStep] = [strides[plane.across], strides[plane.down]];
  const labels = new Uint8Array(width * height);
  let o = 0;
  for (let row = 0; row < height; row += 1) {
    let p = index * strides[plane.fixed] + (height - 1 - row) * rowStep + (width - 1) * step;
    for (let column = 0; column < width; column += 1, p -= step) labels[o++] = shown[data[p]];
  }
  return { labels, width, height };
}

// Doubles a label picture and cuts the corners of its stairs: a quarter takes its two outer neighbours' label where
// these agree and the opposite ones do not. Every label it writes is one of the four neighbours or the voxel's own.
export function doubleLabels({ labels, width, height }) {
  const out = new Uint8Array(width * height * 4);
  const pairs = new Uint16Array(out.buffer); // two equal neighbours written at once
  for (let y = 0; y < height; y += 1) {
    const up = y > 0 ? -width : 0;
    const down = y < height - 1 ? width : 0;
    let [west, own] = [labels[y * width], labels[y * width]];
    for (let x = 0, p = y * width; x < width; x += 1, p += 1) {
      const east = x < width - 1 ? labels[p + 1] : own;
      const [north, south] = [labels[p + up], labels[p + down]];
      const o = y * 2 * width + x;
      if (north !== south && west !== east) {
        pairs[o] = (west === north ? west : own) | ((north === east ? east : own) << 8);
        pairs[o + width] = (west === south ? west : own) | ((south === east ? east : own) << 8);
      } else pairs[o] = pairs[o + width] = own * 257;
      west = own;
      own = east;
    }
  }
  return { labels: out, width: width * 2, height: height * 2 };
}

// Fill and outline at screen resolution. columns[x], rows[y]: label picture index under a screen pixel, -1 outside.
// A pixel is outline where its label differs from one of its four neighbours on screen.
export function paintLabels(picture, columns, rows, tables, out) {
  const [width, height] = [columns.length, rows.length];
  const { fill, line } = tables;
  const empty = new Uint8Array(width);
  const pool = [new Uint8Array(width), new Uint8Array(width), new Uint8Array(width)];
  let taken = 0;
  const read = (row) => {
    if (row < 0) return empty;
    const buffer = pool[taken++ % 3];
    const start = row * picture.width;
    for (let x = 0; x < width; x += 1) buffer[x] = columns[x] < 0 ? 0 : picture.labels[start + columns[x]];
    return buffer;
  };
  const rowAt = (y) => (y >= 0 && y < height ? rows[y] : -1);
  let [above, here] = [empty, read(rowAt(0))];
  let repeats = false;
  for (let y = 0; y < height; y += 1) {
    const below = rowAt(y + 1) === rowAt(y) ? here : read(rowAt(y + 1));
    const start = y * width;
    if (here === empty) out.fill(0, start, start + width);
    else if (above === here && below === here && repeats) out.copyWithin(start, start - width, start);
    else paintRow(here, above, below, fill, line, out, start);
    repeats = above === here && below === here;
    [above, here] = [here, below];
  }
}

function paintRow(here, above, below, fill, line, out, start) {
  const last = here.length - 1;
  let [left, own] = [here[0], here[0]];
  for (let x = 0; x <= last; x += 1) {
    const right = x < last ? here[x + 1] : own;
    if (own === 0) out[start + x] = 0;
    else if (left !== own || right !== own || above[x] !== own || below[x] !== own) out[start + x] = line[own];
    else out[start + x] = fill[own];
    left = own;
    own = right;
  }
}
