"""How well heat tells the voxels of a finding from others, from counts of voxels per level of heat.

Counts can be added up slab by slab, so that neither heat nor masks of a large CT are held, nor its voxels sorted.
"""

from typing import NamedTuple

import numpy as np

LEVELS = 4096
"""Steps of heat between 0 and 1: thresholds are exact to 1/4096, heat within one step counts as equal."""
BEYOND, BODY, ORGAN, TRUTH = range(4)
"""Zones of a scan. BEYOND: outside the body. ORGAN: in the structure that the sentence names. TRUTH: in the finding."""


class BestDice(NamedTuple):
    """The largest Dice that any threshold above 0 gives."""

    dice: float
    threshold: float  # heat at least this is taken as the finding; NaN where no heat is above 0


def count_levels(heat: np.ndarray, zones: np.ndarray) -> np.ndarray:
    """Voxels per zone and level of heat: heat (X, Y, Z) in [0, 1], zones (X, Y, Z) uint8 -> (4, LEVELS) int64."""
    level = np.minimum((heat * np.float32(LEVELS)).astype(np.int32), LEVELS - 1)
    level += zones.astype(np.int32) * LEVELS
    return np.bincount(level.ravel(), minlength=4 * LEVELS).reshape(4, LEVELS)


def area_of_levels(counts: np.ndarray, others: tuple[int, ...] = (BODY, ORGAN)) -> float:
    """Chance that a voxel of the finding is hotter than one of `others`, equal ones half: the area under the ROC curve.

    counts (4, LEVELS) as from `count_levels`. NaN where there are none of either (Hanley and McNeil 1982).
    """
    inside, outside = counts[TRUTH].astype(float), counts[list(others)].sum(axis=0).astype(float)
    pairs = inside.sum() * outside.sum()
    if not pairs:
        return np.nan
    below = np.cumsum(outside) - outside
    return float((inside * (below + outside / 2)).sum() / pairs)


def dice_from(counts: np.ndarray, threshold: float) -> float:
    """Dice of the voxels at least as hot as `threshold` and the finding, over the whole scan; counts (4, LEVELS)."""
    return float(_dice_per_level(counts)[min(int(np.ceil(threshold * LEVELS)), LEVELS - 1)])


def best_dice(counts: np.ndarray) -> BestDice:
    """The best threshold above 0; an oracle, for it is chosen on the truth. Dice 0 where no heat is above 0."""
    if not counts[:, 1:].any():
        return BestDice(0.0, np.nan)
    dice = _dice_per_level(counts)[1:]
    level = int(dice.argmax()) + 1
    return BestDice(float(dice[level - 1]), level / LEVELS)


def _dice_per_level(counts: np.ndarray) -> np.ndarray:
    """(LEVELS,) Dice where each level and all above it count as drawn."""
    drawn = counts.sum(axis=0)[::-1].cumsum()[::-1]
    shared = counts[TRUTH][::-1].cumsum()[::-1]
    return 2 * shared / np.maximum(drawn + counts[TRUTH].sum(), 1)
