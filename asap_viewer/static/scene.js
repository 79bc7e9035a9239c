// The tables the pictures are painted with; remade only when the looks they depend on change.
import { heatTable, labelTables, windowTable } from './colours.js';

export class Scene {
  constructor(viewer) {
    this.viewer = viewer;
    this.table = new Uint32Array(65536);
    this.tableKey = this.heatKey = this.labelKey = '';
  }

  changed() {
    const { window: shown, look, labels, hidden, structures } = this.viewer;
    const tableKey = `${shown.width}/${shown.level}`;
    if (tableKey !== this.tableKey) windowTable(shown.width, shown.level, this.table);
    this.tableKey = tableKey;
    const heatKey = `${look.heatOpacity}/${look.heatThreshold}`;
    if (heatKey !== this.heatKey) this.heatTable = heatTable(look.heatOpacity, look.heatThreshold);
    this.heatKey = heatKey;
    const labelKey = `${labels?.id}/${look.fillOpacity}/${look.outline}/${[...hidden].sort().join()}`;
    if (labels && labelKey !== this.labelKey) {
      this.labelTables = labelTables([...structures.values()], (number) => !hidden.has(number), look.fillOpacity, look.outline);
    }
    this.labelKey = labelKey;
  }

  // What PlaneView.draw needs.
  now() {
    const { ct, heat, labels, look, at, slab } = this.viewer;
    return {
      ct, at, slab, table: this.table, tableKey: this.tableKey,
      heat: look.showHeat ? heat : null, heatTable: this.heatTable, heatKey: this.heatKey,
      labels: look.masks ? labels : null, labelTables: this.labelTables, labelKey: this.labelKey,
    };
  }
}
