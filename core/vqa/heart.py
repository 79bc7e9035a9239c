"""The cardiothoracic ratio from organ masks."""

from typing import NamedTuple

import numpy as np

from core.anatomy.masks import OrganMasks
from core.volume import Grid

NORMAL_BELOW = 0.50
ENLARGED_ABOVE = 0.55
"""On axial CT a ratio between the two decides nothing (a radiograph's 0.50 overcalls)."""
MIN_VOXELS_PER_SLICE = 20


class HeartWidth(NamedTuple):
    """How wide the heart is in the chest, measured on axial slices."""

    heart_mm: float  # largest left-right extent of the heart in one axial slice
    chest_mm: float  # largest extent from the outer edge of one lung to that of the other
    ratio: float


def measure_heart_width(masks: OrganMasks, grid: Grid) -> HeartWidth | None:
    """Widest heart over widest chest at the levels of the heart; None unless both lungs and the heart are there."""
    heart, lungs = masks.mask("heart"), masks.mask("lung")
    if not heart.any() or not masks.mask("lung_left").any() or not masks.mask("lung_right").any():
        return None
    at_heart = heart.sum(axis=(0, 1)) >= MIN_VOXELS_PER_SLICE
    step_mm = grid.spacing_mm[0]
    heart_mm = _widest(heart[:, :, at_heart]) * step_mm
    chest_mm = _widest(lungs[:, :, at_heart]) * step_mm
    return HeartWidth(heart_mm, chest_mm, heart_mm / chest_mm) if heart_mm and chest_mm else None


def _widest(mask: np.ndarray) -> int:
    """Largest extent along x, in voxels, over the axial slices of a (X, Y, Z) bool mask."""
    by_slice: np.ndarray = np.any(mask, axis=1)  # (X, Z)
    widths = by_slice.shape[0] - by_slice.argmax(axis=0) - by_slice[::-1].argmax(axis=0)
    return int(np.max(widths[np.any(by_slice, axis=0)], initial=0))
