"""The patient without table, clothes and the air around."""

import numpy as np

from core.anatomy.frame import Frame
from core.anatomy.shapes import components, fill_slices, grow, largest, shrink

TISSUE_HU = -350
"""Skin and fat are above, lung and air below."""
_TABLE_MM = 3.0
_LEAST_BODY_ML = 100.0
_ROOM_AIR_HU = -960
_THICK_MM = 5.0
_LEAST_CUT_LUNG_ML = 150.0


def find_body(frame: Frame) -> np.ndarray:
    """Where the patient is, lungs and bowel gas included: (X, Y, Z) bool; all False when nothing is big enough."""
    tissue = frame.hu > TISSUE_HU
    radius = _TABLE_MM / frame.edge_mm
    core = largest(shrink(tissue, radius))
    if core.sum() * frame.grid.voxel_ml < _LEAST_BODY_ML:
        return np.zeros_like(tissue)
    body = grow(core, radius + 1) & tissue
    return fill_slices(body | _cut_lungs(frame, body))


def _cut_lungs(frame: Frame, body: np.ndarray) -> np.ndarray:
    """Air that leaves the scan sideways but is lung: denser than room air, thick, and lying between tissue."""
    thin = ~body & frame.inside & (frame.hu < TISSUE_HU)
    thick = shrink(thin & (frame.hu > _ROOM_AIR_HU), _THICK_MM / frame.edge_mm)
    labels, counts = components(thick)
    share = np.zeros(len(counts))
    for axis in (0, 1):
        between = np.bincount(labels[_between(body, axis)], minlength=len(counts))
        share = np.maximum(share, between / np.maximum(counts, 1))
    lung_like = (counts * frame.grid.voxel_ml > _LEAST_CUT_LUNG_ML) & (share > 0.6)
    lung_like[0] = False
    return grow(lung_like[labels], _THICK_MM / frame.edge_mm + 1) & thin


def _between(mask: np.ndarray, axis: int) -> np.ndarray:
    """Voxels that have a voxel of `mask` on both sides along `axis`: (X, Y, Z) bool."""
    before = np.maximum.accumulate(mask, axis=axis)
    after = np.flip(np.maximum.accumulate(np.flip(mask, axis), axis=axis), axis)
    return before & after
