// Look-up tables. Colours are Uint32 as canvas image data holds them: alpha, blue, green, red from the top byte down.

export const PRESETS = {
  lung: { name: 'Lung', width: 1500, level: -600, key: '1' },
  mediastinum: { name: 'Mediastinum', width: 400, level: 40, key: '2' },
  bone: { name: 'Bone', width: 2500, level: 480, key: '3' },
  abdomen: { name: 'Abdomen', width: 400, level: 40, key: '4' },
};

export const pack = (red, green, blue, alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

// Grey for every int16 HU: index hu + 32768.
export function windowTable(width, level, table = new Uint32Array(65536)) {
  const low = level - width / 2;
  const factor = 255 / Math.max(1, width);
  for (let index = 0; index < 65536; index += 1) {
    const grey = Math.min(255, Math.max(0, Math.round((index - 32768 - low) * factor)));
    table[index] = pack(grey, grey, grey, 255);
  }
  return table;
}

// Dark violet to pale yellow, brightness rising evenly; our own stops.
const HEAT_STOPS = [
  [0.0, 20, 8, 50],
  [0.2, 86, 18, 108],
  [0.4, 158, 42, 96],
  [0.6, 222, 84, 58],
  [0.8, 250, 152, 30],
  [1.0, 252, 244, 158],
];

export function heatColour(value) {
  const above = HEAT_STOPS.findIndex((stop) => stop[0] >= value);
  if (above <= 0) return HEAT_STOPS[0].slice(1);
  const [low, high] = [HEAT_STOPS[above - 1], HEAT_STOPS[above]];
  const part = (value - low[0]) / (high[0] - low[0]);
  return [1, 2, 3].map((k) => Math.round(low[k] + part * (high[k] - low[k])));
}

// Below the threshold nothing is drawn; just above it the colour fades in, so the edge is not mistaken for anatomy.
export function heatTable(opacity, threshold) {
  const table = new Uint32Array(256);
  for (let index = 0; index < 256; index += 1) {
    const value = index / 255;
    const fade = Math.min(1, Math.max(0, (value - threshold) / 0.08));
    if (value > 0 && fade > 0) table[index] = pack(...heatColour(value), Math.round(255 * opacity * fade));
  }
  return table;
}

export function parseColour(text) {
  const number = Number.parseInt(text.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

// For every label: is it shown, its fill, its outline. `isShown(number)` decides.
export function labelTables(structures, isShown, fillOpacity, withOutline) {
  const shown = new Uint8Array(256);
  const fill = new Uint32Array(256);
  const line = new Uint32Array(256);
  for (const structure of structures) {
    const number = structure.number;
    if (!isShown(number)) continue;
    const colour = parseColour(structure.colour);
    shown[number] = number;
    fill[number] = pack(...colour, Math.round(255 * fillOpacity));
    line[number] = withOutline ? pack(...colour, 235) : fill[number];
  }
  return { shown, fill, line };
}
