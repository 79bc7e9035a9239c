"""Left and right lung from the air inside the body, without the airway and without bowel gas."""

from typing import NamedTuple

import numpy as np

from core.anatomy.frame import Frame
from core.anatomy.shapes import close, components, distance_to, fill_solid, grow, parts_over, shrink

LUNG_HU = -400
"""Aerated lung is below."""
_LEAST_ML = 60.0
"""A smaller piece of air is bowel gas or noise, not a lung."""
_CLOSE_MM = 9.0
_GAS_HU = -950


class Lungs(NamedTuple):
    """Both lungs with their vessels; a side that was not found is all False."""

    left: np.ndarray
    """(X, Y, Z) bool."""
    right: np.ndarray
    """(X, Y, Z) bool."""

    @property
    def both(self) -> np.ndarray:
        """(X, Y, Z) bool, left or right."""
        return self.left | self.right


def find_lungs(frame: Frame, body: np.ndarray, lumen: np.ndarray) -> Lungs:
    """The lungs inside `body`, airway `lumen` excluded."""
    air = body & (frame.hu < LUNG_HU) & ~grow(lumen, 1.0)
    aerated = _without_gas(frame, parts_over(air, _LEAST_ML / frame.grid.voxel_ml))
    left, right = _split_sides(body, aerated)
    radius = _CLOSE_MM / frame.edge_mm
    right_full = fill_solid(close(right, radius)) & body & ~lumen & ~left
    left_full = fill_solid(close(left, radius)) & body & ~lumen & ~right_full
    return Lungs(left_full, right_full)


def _without_gas(frame: Frame, air: np.ndarray) -> np.ndarray:
    """Drop parts that are plain gas inside: lung holds blood, so few of its voxels are as empty as room air."""
    labels, counts = components(air)
    core = shrink(air, 1.5)
    inner = np.bincount(labels[core], minlength=len(counts))
    empty = np.bincount(labels[core & (frame.hu < _GAS_HU)], minlength=len(counts))
    keep = (inner > 0) & (empty < 0.6 * inner)
    keep[0] = False
    return keep[labels]


def _split_sides(body: np.ndarray, aerated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide lung air into (left, right), each (X, Y, Z) bool, also where the two touch."""
    empty = np.zeros_like(aerated)
    if not aerated.any():
        return empty, empty.copy()
    middle = _middle_x(body, aerated)
    depth = distance_to(~aerated)
    for radius in (0.0, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0):
        labels, counts = components(depth > radius)
        sides = _sides_of_parts(labels, counts, middle)
        if sides is not None:
            return _nearest_side(aerated, labels, sides)
    x = np.arange(aerated.shape[0])[:, None, None]
    return aerated & (x < middle), aerated & (x >= middle)


def _middle_x(body: np.ndarray, aerated: np.ndarray) -> float:
    """Index along x of the body's middle at the level of the lungs."""
    z = np.flatnonzero(aerated.any(axis=(0, 1)))
    x = np.flatnonzero(body[:, :, z[0] : z[-1] + 1].any(axis=(1, 2)))
    return float(x[0] + x[-1]) / 2


def _sides_of_parts(labels: np.ndarray, counts: np.ndarray, middle: float) -> np.ndarray | None:
    """-1 left, +1 right, 0 background for every part; None while a big part still lies across the middle."""
    x_sum = np.bincount(
        labels.ravel(), weights=np.broadcast_to(np.arange(labels.shape[0])[:, None, None], labels.shape).ravel()
    )
    beyond = np.bincount(labels[int(middle) + 1 :].ravel(), minlength=len(counts))
    share = beyond / np.maximum(counts, 1)
    big = counts > 0.05 * counts[1:].sum() if len(counts) > 1 else counts < 0
    big[0] = False
    if (big & (share > 0.25) & (share < 0.75)).any():
        return None
    sides = np.where(x_sum / np.maximum(counts, 1) > middle, 1, -1)
    sides[0] = 0
    return sides


def _nearest_side(aerated: np.ndarray, labels: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give every lung voxel to the side whose parts are nearer."""
    side = sides[labels]
    to_left, to_right = distance_to(side < 0), distance_to(side > 0)
    left = aerated & (to_left < to_right)
    return left, aerated & ~left
