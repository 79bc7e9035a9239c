// Mouse, wheel, touch and keys on the planes, turned into calls of the viewer.

const WHEEL_STEP = 40; // pixels of a smooth wheel per slice; a notched wheel sends more than this at once

// The viewer must offer: steps, moveTo, changeWindow, pan, zoom, measure, hover, maximise, focus, tool.
export function listenToPlane(element, view, viewer) {
  const pointers = new Map();
  let gesture = null;
  let wheel = 0;

  const place = (event) => {
    const box = element.getBoundingClientRect();
    const ratio = view.picture.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  };

  element.addEventListener('wheel', (event) => {
    event.preventDefault();
    viewer.activate(view);
    if (event.ctrlKey) {
      viewer.zoom(view, place(event), Math.exp(-event.deltaY * (Math.abs(event.deltaY) > 30 ? 0.0015 : 0.01)));
      return;
    }
    const delta = (event.deltaY || event.deltaX) * [1, 33, 400][event.deltaMode];
    wheel = Math.sign(wheel) === Math.sign(delta) ? wheel + delta : delta;
    if (Math.abs(wheel) < WHEEL_STEP) return;
    viewer.step(view, -Math.sign(wheel) * (event.shiftKey ? 5 : 1)); // down the wheel = towards the feet
    wheel = 0;
  }, { passive: false });

  element.addEventListener('contextmenu', (event) => event.preventDefault());
  element.addEventListener('dblclick', (event) => {
    event.preventDefault();
    viewer.maximise(view);
  });

  element.addEventListener('pointerdown', (event) => {
    event.preventDefault();
    viewer.activate(view);
    viewer.focus();
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    if (pointers.size === 2) gesture = { name: 'pinch', ...span(pointers) };
    else gesture = { name: gestureName(event, viewer.tool), last: place(event) };
    if (gesture.name === 'crosshair') viewer.moveTo(view, gesture.last);
    if (gesture.name === 'distance') viewer.measure(view, gesture.last, true);
  });

  element.addEventListener('pointermove', (event) => {
    const now = place(event);
    if (!pointers.has(event.pointerId)) {
      viewer.hover(view, now);
      return;
    }
    pointers.set(event.pointerId, now);
    if (gesture) gesture = follow(viewer, view, gesture, now, pointers);
  });

  const end = (event) => {
    pointers.delete(event.pointerId);
    gesture = pointers.size ? { name: 'none' } : null;
  };
  element.addEventListener('pointerup', end);
  element.addEventListener('pointercancel', end);
  element.addEventListener('pointerleave', () => viewer.hover(null, null));
}

function gestureName(event, tool) {
  if (event.button === 1 || event.shiftKey) return 'pan';
  if (event.button === 2 || event.ctrlKey || event.metaKey) return 'window';
  return tool;
}

function span(pointers) {
  const [a, b] = [...pointers.values()];
  return { middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], distance: Math.hypot(a[0] - b[0], a[1] - b[1]) };
}

function follow(viewer, view, gesture, now, pointers) {
  if (gesture.name === 'pinch') {
    const { middle, distance } = span(pointers);
    viewer.pan(view, middle[0] - gesture.middle[0], middle[1] - gesture.middle[1]);
    viewer.zoom(view, middle, distance / Math.max(1, gesture.distance));
    return { name: 'pinch', middle, distance };
  }
  const [dx, dy] = gesture.last ? [now[0] - gesture.last[0], now[1] - gesture.last[1]] : [0, 0];
  if (gesture.name === 'crosshair') viewer.moveTo(view, now);
  if (gesture.name === 'distance') viewer.measure(view, now, false);
  if (gesture.name === 'pan') viewer.pan(view, dx, dy);
  if (gesture.name === 'window') viewer.changeWindow(dx, dy);
  return { ...gesture, last: now };
}

// key -> [what help says, action(viewer)]. The order is that of the help.
export const KEYS = {
  ArrowUp: ['next slice up, forward or right', (viewer) => viewer.step(viewer.active, 1)],
  ArrowDown: ['next slice down, back or left', (viewer) => viewer.step(viewer.active, -1)],
  ArrowRight: ['', (viewer) => viewer.step(viewer.active, -1)],
  ArrowLeft: ['', (viewer) => viewer.step(viewer.active, 1)],
  PageUp: ['ten slices up', (viewer) => viewer.step(viewer.active, 10)],
  PageDown: ['ten slices down', (viewer) => viewer.step(viewer.active, -10)],
  Home: ['first slice (top, front, right)', (viewer) => viewer.step(viewer.active, Infinity)],
  End: ['last slice', (viewer) => viewer.step(viewer.active, -Infinity)],
  1: ['window: lung', (viewer) => viewer.setPreset('lung')],
  2: ['window: mediastinum', (viewer) => viewer.setPreset('mediastinum')],
  3: ['window: bone', (viewer) => viewer.setPreset('bone')],
  4: ['window: abdomen', (viewer) => viewer.setPreset('abdomen')],
  m: ['masks on or off', (viewer) => viewer.set({ masks: !viewer.look.masks })],
  o: ['outlines of the organs on or off', (viewer) => viewer.set({ outline: !viewer.look.outline })],
  s: ['only the organ under the crosshair', (viewer) => viewer.soloHere()],
  h: ['heat map on or off', (viewer) => viewer.set({ showHeat: !viewer.look.showHeat })],
  i: ['heat inside the named organ, or raw', (viewer) => viewer.setHeatKind(viewer.heatKind === 'raw' ? 'kept' : 'raw')],
  x: ['crosshair on or off', (viewer) => viewer.set({ crosshair: !viewer.look.crosshair })],
  d: ['measure a distance (Delete removes the last)', (viewer) => viewer.setTool(viewer.tool === 'distance' ? 'crosshair' : 'distance')],
  Delete: ['', (viewer) => viewer.dropDistance()],
  Backspace: ['', (viewer) => viewer.dropDistance()],
  '+': ['zoom in', (viewer) => viewer.zoomMiddle(1.25)],
  '=': ['', (viewer) => viewer.zoomMiddle(1.25)],
  '-': ['zoom out', (viewer) => viewer.zoomMiddle(0.8)],
  r: ['reset zoom, window, organs and distances', (viewer) => viewer.reset()],
  p: ['save a picture', (viewer) => viewer.savePicture()],
  Escape: ['three planes again; close this help', (viewer) => viewer.escape()],
  '?': ['this help', (viewer) => viewer.toggleHelp()],
};

export function listenToKeys(root, viewer) {
  root.addEventListener('keydown', (event) => {
    const isField = event.target.matches('input, select, textarea');
    if (isField || event.altKey || event.ctrlKey || event.metaKey) return;
    const entry = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
    if (!entry) return;
    event.preventDefault();
    event.stopPropagation();
    entry[1](viewer);
  });
}
