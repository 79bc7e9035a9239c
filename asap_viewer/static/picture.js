// The saved picture: what is on screen, with everything needed to know what it shows burned in.
import { mmText } from './panel.js';
import { slabName } from './draw.js';

export const DISCLAIMER = 'Research use only. Not for diagnosis.';

// views: the visible PlaneViews in reading order. Returns a canvas.
export function composePicture(views, viewer) {
  const gap = 4;
  const [line, pad] = [22, 12];
  const width = views.reduce((sum, view) => sum + view.picture.width + gap, gap);
  const height = Math.max(...views.map((view) => view.picture.height));
  const lines = provenance(viewer);
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(width, 640);
  canvas.height = height + 2 * gap + lines.length * line + 2 * pad;
  const context = canvas.getContext('2d');
  context.fillStyle = '#0b0e13';
  context.fillRect(0, 0, canvas.width, canvas.height);
  let x = gap;
  for (const view of views) {
    context.drawImage(view.picture, x, gap);
    context.drawImage(view.marks, x, gap);
    x += view.picture.width + gap;
  }
  context.font = '13px system-ui, "DejaVu Sans", sans-serif';
  context.textBaseline = 'middle';
  lines.forEach((words, index) => {
    context.fillStyle = words === DISCLAIMER ? '#ffd98a' : '#c9d1dc';
    context.fillText(words, pad, height + 2 * gap + pad + (index + 0.5) * line, canvas.width - 2 * pad);
  });
  return canvas;
}

function provenance(viewer) {
  const reading = viewer.readAt(viewer.at);
  const { window: shown, slab, case: spec } = viewer;
  const place = [`crosshair ${mmText(reading.mm)}`, `voxel ${reading.voxel.join(', ')}`, `${reading.exact ? '' : '≈ '}${reading.hu} HU`];
  if (reading.organ) place.push(reading.organ);
  const looks = [`window ${Math.round(shown.width)} / ${Math.round(shown.level)} HU`];
  if (slab.mm) looks.push(slabName(slab));
  looks.push(reading.exact ? 'full resolution' : 'reduced resolution');
  if (viewer.labels && viewer.look.masks) looks.push(`masks: ${spec.masks_engine || 'unnamed'}`);
  if (viewer.heat && viewer.look.showHeat) {
    const { label, words } = viewer.heatSpec;
    const kind = viewer.isRawHeat ? 'raw heat' : `heat (${words || 'not constrained'})`;
    looks.push(`${kind} from ${viewer.look.heatThreshold.toFixed(2)}: ${label}`);
  }
  const when = new Date().toISOString().slice(0, 16).replace('T', ' ');
  return [`${spec.title || 'CT'} · case ${spec.id} · ${when} UTC · ASAP Viewer`, place.join(' · '), looks.join(' · '), DISCLAIMER];
}

export function savePicture(canvas, name) {
  canvas.toBlob((blob) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }, 'image/png');
}
