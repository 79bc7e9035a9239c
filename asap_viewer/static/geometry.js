// Where things lie: affines, the three planes, side letters. Reference indices are voxels of the full CT, whose axes
// grow towards Right, Anterior, Superior (R A S); millimetres are patient RAS.

// Radiological convention. On screen `across` runs right to left with growing index (patient right on the left, and
// anterior on the left of the sagittal plane), `down` runs bottom to top (anterior or superior at the top).
export const PLANES = {
  axial: { kind: 'axial', name: 'Axial', fixed: 2, across: 0, down: 1, colour: '#f0b455' },
  sagittal: { kind: 'sagittal', name: 'Sagittal', fixed: 0, across: 1, down: 2, colour: '#6fb1ff' },
  coronal: { kind: 'coronal', name: 'Coronal', fixed: 1, across: 0, down: 2, colour: '#67d39b' },
};

export function apply(matrix, point) {
  return [0, 1, 2].map((r) => matrix[r][0] * point[0] + matrix[r][1] * point[1] + matrix[r][2] * point[2] + matrix[r][3]);
}

// Inverse of a 4x4 affine whose last row is 0 0 0 1.
export function invert(m) {
  const [a, b, c] = m;
  const cofactor = (i, j) => {
    const [p, q] = [0, 1, 2].filter((r) => r !== i).map((r) => [a, b, c][r]);
    const [u, v] = [0, 1, 2].filter((k) => k !== j);
    return ((i + j) % 2 ? -1 : 1) * (p[u] * q[v] - p[v] * q[u]);
  };
  const determinant = a[0] * cofactor(0, 0) + a[1] * cofactor(0, 1) + a[2] * cofactor(0, 2);
  const linear = [0, 1, 2].map((r) => [0, 1, 2].map((k) => cofactor(k, r) / determinant));
  const shift = linear.map((row) => -(row[0] * a[3] + row[1] * b[3] + row[2] * c[3]));
  return [...linear.map((row, r) => [...row, shift[r]]), [0, 0, 0, 1]];
}

// How a layer's own voxels lie along the reference axes: layer index = scale * reference index + offset, per axis.
// Overlays come resampled along the CT's axes; anything else would be drawn in the wrong place, so it is refused.
export function alongAxes(layerAffine, referenceAffine, shape) {
  const inverse = invert(layerAffine);
  const origin = apply(inverse, apply(referenceAffine, [0, 0, 0]));
  const scale = [];
  for (let axis = 0; axis < 3; axis += 1) {
    const unit = [0, 0, 0];
    unit[axis] = 1;
    const moved = apply(inverse, apply(referenceAffine, unit)).map((value, k) => value - origin[k]);
    const drift = Math.max(...moved.map((value, k) => (k === axis ? 0 : Math.abs(value)))) * shape[axis];
    if (drift > 0.5 || !(moved[axis] > 0)) throw new Error('an overlay does not lie along the axes of the CT');
    scale.push(moved[axis]);
  }
  return { scale, offset: origin };
}

// Letter of a direction in the patient; a second one where the direction is clearly oblique, e.g. "RA".
export function letters(direction) {
  const names = [['R', 'L'], ['A', 'P'], ['S', 'I']];
  const length = Math.hypot(...direction);
  return direction
    .map((value, axis) => ({ share: Math.abs(value) / length, letter: names[axis][value > 0 ? 0 : 1] }))
    .sort((one, two) => two.share - one.share)
    .filter((part, rank) => rank === 0 || part.share > 0.35)
    .map((part) => part.letter)
    .join('');
}

// The letters on the four sides of a plane.
export function sideLetters(affine, plane) {
  const column = (axis) => [affine[0][axis], affine[1][axis], affine[2][axis]];
  const minus = (vector) => vector.map((value) => -value);
  const [across, down] = [column(plane.across), column(plane.down)];
  return { left: letters(across), right: letters(minus(across)), top: letters(down), bottom: letters(minus(down)) };
}

// "R 12.4" rather than "-12.4": the position of a plane as a radiologist says it.
export function placeName(axis, mm) {
  const pair = [['R', 'L'], ['A', 'P'], ['S', 'I']][axis];
  return `${pair[mm >= 0 ? 0 : 1]} ${Math.abs(mm).toFixed(1)} mm`;
}

export function distanceMm(affine, one, two) {
  const [a, b] = [apply(affine, one), apply(affine, two)];
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
