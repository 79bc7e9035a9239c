// What is drawn over the pictures: crosshair, side letters, scale bar, distances, texts. Nothing here reads voxels.
import { PLANES, apply, distanceMm, placeName, sideLetters } from './geometry.js';

const FONT = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif';
const INK = '#e8edf4';
const SHADE = 'rgba(0, 0, 0, 0.85)';

// view: PlaneView. state: {case, at, window, slab, showCrosshair, distances, drawing, active, ratio}
export function drawMarks(view, state) {
  const canvas = view.marks;
  const context = canvas.getContext('2d');
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const pen = new Pen(context, state.ratio);
  if (state.showCrosshair) drawCrosshair(pen, view, state.at);
  for (const distance of state.distances) drawDistance(pen, view, state, distance);
  drawLetters(pen, view, state.case.affine);
  drawScaleBar(pen, view);
  drawTitle(pen, view, state);
}

// Text and lines that stay readable on any grey.
class Pen {
  constructor(context, ratio) {
    this.context = context;
    this.ratio = ratio;
    context.lineJoin = 'round';
  }

  text(words, x, y, { size = 12, colour = INK, align = 'left', baseline = 'alphabetic', weight = 500 } = {}) {
    const context = this.context;
    context.font = `${weight} ${size * this.ratio}px ${FONT}`;
    context.textAlign = align;
    context.textBaseline = baseline;
    context.lineWidth = 3 * this.ratio;
    context.strokeStyle = SHADE;
    context.strokeText(words, x, y);
    context.fillStyle = colour;
    context.fillText(words, x, y);
    return context.measureText(words).width;
  }

  // A darkened box, so that writing is read on bright bone too.
  shade(x, y, width, height) {
    this.context.fillStyle = 'rgba(0, 0, 0, 0.45)';
    this.context.beginPath();
    this.context.roundRect(x, y, width, height, 4 * this.ratio);
    this.context.fill();
  }

  line(points, colour, width = 1) {
    const context = this.context;
    context.beginPath();
    points.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.lineWidth = width * this.ratio;
    context.strokeStyle = colour;
    context.stroke();
  }

  shadedLine(points, colour, width) {
    this.line(points, SHADE, width + 2);
    this.line(points, colour, width);
  }
}

// Each line has the colour of the plane it stands for; a gap leaves the place itself free.
function drawCrosshair(pen, view, at) {
  const { plane, marks } = view;
  const colourOf = (axis) => `${Object.values(PLANES).find((other) => other.fixed === axis).colour}b0`;
  const [x, y] = view.toScreen(at).map((value) => Math.round(value) + 0.5);
  const gap = 9 * pen.ratio;
  pen.line([[x, 0], [x, y - gap]], colourOf(plane.across));
  pen.line([[x, y + gap], [x, marks.height]], colourOf(plane.across));
  pen.line([[0, y], [x - gap, y]], colourOf(plane.down));
  pen.line([[x + gap, y], [marks.width, y]], colourOf(plane.down));
}

function drawLetters(pen, view, affine) {
  const { width, height } = view.marks;
  const sides = sideLetters(affine, view.plane);
  const edge = 8 * pen.ratio;
  const style = { size: 13, weight: 700, colour: '#ffd98a', baseline: 'middle' };
  pen.text(sides.left, edge, height / 2, style);
  pen.text(sides.right, width - edge, height / 2, { ...style, align: 'right' });
  pen.text(sides.top, width / 2, edge, { ...style, align: 'center', baseline: 'top' });
  pen.text(sides.bottom, width / 2, height - edge, { ...style, align: 'center', baseline: 'bottom' });
}

// The longest round length that takes at most a quarter of the width.
export function scaleBarMm(scale, width) {
  const lengths = [1, 2, 5, 10, 20, 50, 100, 200];
  return lengths.filter((mm) => mm * scale <= width / 4).pop() ?? lengths[0];
}

function drawScaleBar(pen, view) {
  const mm = scaleBarMm(view.scale, view.marks.width);
  const [x, y] = [10 * pen.ratio, view.marks.height - 12 * pen.ratio];
  const [end, tick] = [x + mm * view.scale, 4 * pen.ratio];
  pen.shadedLine([[x, y - tick], [x, y], [end, y], [end, y - tick]], INK, 1.5);
  pen.text(`${mm} mm`, x, y - 7 * pen.ratio, { size: 11 });
}

function drawTitle(pen, view, state) {
  const { plane, marks } = view;
  const [edge, line] = [10 * pen.ratio, 20 * pen.ratio];
  const mm = apply(state.case.affine, state.at)[plane.fixed];
  const count = state.case.shape[plane.fixed];
  pen.shade(4 * pen.ratio, 5 * pen.ratio, 128 * pen.ratio, 38 * pen.ratio);
  const width = pen.text(plane.name, edge, line, { size: 13, weight: 650, colour: plane.colour });
  pen.text(placeName(plane.fixed, mm), edge, line + 16 * pen.ratio, { size: 11 });
  pen.text(`${Math.round(state.at[plane.fixed]) + 1}/${count}`, edge + width + 8 * pen.ratio, line, { size: 11 });
  if (marks.width > 260 * pen.ratio) drawWindow(pen, marks, state);
}

// Window and slab, in the right corner where there is room for them.
function drawWindow(pen, marks, { window: shown, slab }) {
  const [edge, line] = [marks.width - 10 * pen.ratio, 20 * pen.ratio];
  const style = { size: 11, align: 'right' };
  pen.shade(marks.width - 108 * pen.ratio, 5 * pen.ratio, 104 * pen.ratio, (slab.mm > 0 ? 38 : 21) * pen.ratio);
  pen.text(`W ${Math.round(shown.width)}  L ${Math.round(shown.level)}`.replace('-', '−'), edge, line, style);
  if (slab.mm > 0) pen.text(slabName(slab), edge, line + 16 * pen.ratio, { ...style, colour: '#ffd98a' });
}

export function slabName({ mm, mode }) {
  return `${{ max: 'MIP', min: 'MinIP', mean: 'Mean' }[mode]} ${mm} mm`;
}

// A distance belongs to the slice it was measured on.
function drawDistance(pen, view, state, distance) {
  if (distance.kind !== view.plane.kind) return;
  const { fixed } = view.plane;
  if (Math.round(distance.from[fixed]) !== Math.round(state.at[fixed])) return;
  const [from, to] = [view.toScreen(distance.from), view.toScreen(distance.to)];
  pen.shadedLine([from, to], '#7fe3ff', 1.5);
  for (const [x, y] of [from, to]) {
    const r = 3.5 * pen.ratio;
    pen.shadedLine([[x - r, y], [x + r, y]], '#7fe3ff', 1.5);
    pen.shadedLine([[x, y - r], [x, y + r]], '#7fe3ff', 1.5);
  }
  const words = `${distanceMm(state.case.affine, distance.from, distance.to).toFixed(1)} mm`;
  pen.text(words, (from[0] + to[0]) / 2 + 8 * pen.ratio, (from[1] + to[1]) / 2 - 8 * pen.ratio, { colour: '#7fe3ff', weight: 650 });
}
