"""Trachea and bronchi: a seed in the neck or upper chest, grown until it would leak into the lung."""

from typing import NamedTuple

import numpy as np

from core.anatomy.frame import Frame
from core.anatomy.shapes import components, grow, touching

_LUMEN_HU = -800
_LUMEN_MM2 = (40.0, 900.0)
_WIDEST_LUMEN_MM = 45.0
_SHORTEST_MM = 25.0
_MOST_ML = 130.0
_FORK_MM = 12.0
_LEAK = 1.35
"""A step of the threshold that multiplies the volume by more than this has broken through a wall."""
_THRESHOLDS_HU = range(-950, -640, 20)


class Airway(NamedTuple):
    """Air inside the large airways."""

    trachea: np.ndarray
    """(X, Y, Z) bool, above the carina."""
    bronchi: np.ndarray
    """(X, Y, Z) bool, from the carina down to where the wall can no longer be told."""

    @property
    def lumen(self) -> np.ndarray:
        """(X, Y, Z) bool, trachea and bronchi."""
        return self.trachea | self.bronchi


def find_airway(frame: Frame, body: np.ndarray) -> Airway:
    """The airway; both masks all False when no trachea is in view."""
    seed = _tracheal_lumen(frame, body)
    if not seed.any():
        return Airway(seed, seed.copy())
    tree = _grow_until_leak(frame, body, seed)
    carina = _carina_slice(tree, frame)
    below = np.zeros_like(tree)
    below[:, :, :carina] = tree[:, :, :carina]
    return Airway(tree & ~below, below)


def _tracheal_lumen(frame: Frame, body: np.ndarray) -> np.ndarray:
    """The longest stack of small round air sections near the midline: (X, Y, Z) bool, empty when none."""
    air = body & (frame.hu < _LUMEN_HU)
    stack = np.zeros_like(air)
    for z in range(air.shape[2]):
        if air[:, :, z].any():
            stack[:, :, z] = _small_sections(air[:, :, z], frame.edge_mm)
    labels, counts = components(stack)
    best, best_mm = 0, _SHORTEST_MM
    for label in np.flatnonzero(counts * frame.grid.voxel_ml > 1.0):
        length_mm = _tube_length_mm(labels == label, body, frame) if label else 0.0
        if length_mm > best_mm:
            best, best_mm = int(label), length_mm
    return labels == best if best else np.zeros_like(air)


def _small_sections(air: np.ndarray, edge_mm: float) -> np.ndarray:
    """Parts of an axial slice (X, Y) that have the size and compactness of a tracheal section."""
    labels, counts = components(air[:, :, None])
    flat = labels[:, :, 0]
    keep = np.zeros(len(counts), bool)
    for label in np.flatnonzero((counts * edge_mm**2 > _LUMEN_MM2[0]) & (counts * edge_mm**2 < _LUMEN_MM2[1])):
        x, y = np.nonzero(flat == label)
        wide, deep = np.ptp(x) + 1, np.ptp(y) + 1
        round_enough = counts[label] > 0.5 * wide * deep and max(wide, deep) < 2.5 * min(wide, deep)
        keep[label] = label and round_enough and max(wide, deep) * edge_mm < _WIDEST_LUMEN_MM
    return keep[flat]


def _tube_length_mm(part: np.ndarray, body: np.ndarray, frame: Frame) -> float:
    """Height of a stack of sections in mm; 0 when it is nowhere near the middle of the body."""
    x, y, z = np.nonzero(part)
    around = body[:, :, z.min() : z.max() + 1].any(axis=2)
    bx, by = np.nonzero(around)
    off_x = abs(x.mean() - (bx.min() + bx.max()) / 2) / max(1, np.ptp(bx))
    off_y = abs(y.mean() - (by.min() + by.max()) / 2) / max(1, np.ptp(by))
    if off_x > 0.15 or off_y > 0.3:
        return 0.0
    return float(np.ptp(z) + 1) * frame.edge_mm


def _grow_until_leak(frame: Frame, body: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Voxels connected to `seed` below the highest threshold that does not leak, with their blurred rim."""
    tree = seed
    for threshold in _THRESHOLDS_HU:
        grown = touching((body & (frame.hu < threshold)) | seed, seed)
        ml = grown.sum() * frame.grid.voxel_ml
        started = tree.sum() > 1.05 * seed.sum()
        if ml > _MOST_ML or (started and grown.sum() > _LEAK * tree.sum()):
            break
        tree = grown
    return grow(tree, 1.0) & body & (frame.hu < -500)


def _carina_slice(tree: np.ndarray, frame: Frame) -> int:
    """Index of the lowest axial slice above the fork; 0 when no fork is in view.

    A fork stays one over several slices; air in the oesophagus or a leak beside the trachea does not.
    """
    tall = max(1, round(_FORK_MM / frame.edge_mm))
    forked = 0
    for z in range(int(np.flatnonzero(tree.any(axis=(0, 1)))[-1]), -1, -1):
        forked = forked + 1 if _is_forked(tree[:, :, z], frame.edge_mm) else 0
        if forked == tall:
            return z + tall
    return 0


def _is_forked(section: np.ndarray, edge_mm: float) -> bool:
    """Whether an axial section (X, Y) of the airway shows two wide lumina side by side and nothing between."""
    labels, counts = components(section[:, :, None])
    large = [label for label in np.flatnonzero(counts * edge_mm**2 > 30.0) if label > 0]
    x_mm = sorted(float(np.nonzero(labels == label)[0].mean()) * edge_mm for label in large)
    return len(x_mm) >= 2 and x_mm[-1] - x_mm[0] > 12.0
