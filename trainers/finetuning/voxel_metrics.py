"""How well voxels are classified: Dice and the 95th percentile of surface distances, per class and case."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree

from core.volume import Grid
from trainers.metrics.intervals import IntervalConfig, bootstrap_many
from trainers.metrics.overlap import Absent, score_dice


class CaseScores(NamedTuple):
    """One case, on its CT's own grid."""

    name: str
    dice: np.ndarray  # (C - 1,) of the foreground classes; NaN = neither marked nor found
    hd95_mm: np.ndarray  # (C - 1,); NaN where the class is absent from the truth or was not found
    truth_ml: np.ndarray  # (C - 1,)
    found_ml: np.ndarray  # (C - 1,)


def score_case(name: str, found: np.ndarray, truth: np.ndarray, grid: Grid, classes: int, absent: Absent) -> CaseScores:
    """Scores of class numbers (X, Y, Z) uint8, both on `grid`; classes counts the background."""
    dice = score_dice(torch.from_numpy(found), torch.from_numpy(truth), classes, absent)
    numbers = range(1, classes)
    distances = np.array([surface_distance(found == number, truth == number, grid) for number in numbers])
    counts = [np.bincount(one.ravel(), minlength=classes)[1:classes] * grid.voxel_ml for one in (truth, found)]
    return CaseScores(name, dice, distances, counts[0], counts[1])


def surface_distance(found: np.ndarray, truth: np.ndarray, grid: Grid, share: float = 0.95) -> float:
    """The larger of both directed `share` quantiles of distances between surfaces in mm; NaN without both masks.

    A mask's surface are its voxels with a neighbour, across a face, outside it or the array.
    """
    if not found.any() or not truth.any():
        return float("nan")
    points = [grid.to_mm(_surface(mask)) for mask in (found, truth)]
    there, back = (KDTree(points[other]).query(points[one], workers=1)[0] for one, other in ((0, 1), (1, 0)))
    return float(max(np.quantile(there, share), np.quantile(back, share)))


def _surface(mask: np.ndarray) -> np.ndarray:
    """Indices (M, 3) of the surface voxels of a mask that is not empty."""
    sides = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    box = tuple(slice(side[0], side[-1] + 1) for side in sides)
    inside = mask[box]
    return np.argwhere(inside & ~binary_erosion(inside)) + [side[0] for side in sides]


def report_voxels(
    scores: Sequence[CaseScores], patients: Sequence[str], classes: Sequence[str], config: IntervalConfig
) -> dict[str, Any]:
    """Means with their intervals, as metrics.json has them; a mean leaves undefined numbers out.

    classes: of the foreground. `dice` is the mean over cases of each case's mean over classes, `dice/NAME` the mean of
    a class over cases; `hd95_mm` likewise.
    """
    tables = {"dice": np.stack([one.dice for one in scores]), "hd95_mm": np.stack([one.hd95_mm for one in scores])}

    def measure(rows: np.ndarray) -> dict[str, float]:
        told = {}
        for name, table in tables.items():
            told[name] = mean_defined(np.array([mean_defined(row) for row in table[rows]]))
            told |= {f"{name}/{c}": mean_defined(table[rows, place]) for place, c in enumerate(classes)}
        return told

    whole = measure(np.arange(len(scores)))
    intervals = bootstrap_many(measure, patients, config)
    return {
        "cases": len(scores),
        "patients": len(set(patients)),
        "not_found": {
            c: int(sum(one.found_ml[place] == 0 < one.truth_ml[place] for one in scores))
            for place, c in enumerate(classes)
        },
        "values": {
            name: {"value": None if np.isnan(value) else value, "interval": intervals.get(name)}
            for name, value in whole.items()
        },
    }


def mean_defined(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN without any."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
