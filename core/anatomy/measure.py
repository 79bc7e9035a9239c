"""What the masks say in numbers, and whether left and right can be believed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from core.anatomy.masks import OrganMasks
from core.anatomy.provided import load_masks as load_masks  # measured like any engine's masks
from core.structures import BY_NUMBER, parts_of
from core.volume import Grid, Volume

UNIONS_MEASURED = ("lung_left", "lung_right", "lung")
_RIGHT_OF = (("liver", "spleen", 0.1), ("liver", "stomach", 0.1), ("spine", "heart", 0.02))
"""(right, left, share): which usually lies right of which; nearer than `share` of the image's width decides nothing."""


class OrganMeasure(NamedTuple):
    """Size, density and place of one structure."""

    name: str
    volume_ml: float
    mean_hu: float
    sd_hu: float  # standard deviation over the voxels
    centroid_ras_mm: tuple[float, float, float]  # patient mm
    voxels: int


class OrientationCheck(NamedTuple):
    """Whether organs lie on the sides where nearly every patient has them."""

    kind: Literal["ok", "suspicious", "unknown"]
    words: str  # for the page's badge


@dataclass(frozen=True, eq=False)
class _Sums:
    """Per label number, 0..255: what volumes, means and centres are made of."""

    count: np.ndarray  # (256,) int64
    hu: np.ndarray  # (256,) float64
    hu_squared: np.ndarray  # (256,) float64
    voxel: np.ndarray  # (3, 256) float64, sum of voxel indices


def measure_organs(volume: Volume, masks: OrganMasks) -> tuple[OrganMeasure, ...]:
    """Every structure of `masks` and the unions lung_left, lung_right and lung, in order of label number."""
    sums = _sum_by_label(volume.hu, masks.labels)
    present = [int(number) for number in np.flatnonzero(sums.count) if number in BY_NUMBER]
    measures = [_measure(BY_NUMBER[number].name, [number], sums, volume) for number in present]
    known = {measure.name for measure in measures}
    for union in UNIONS_MEASURED:
        parts = sorted(parts_of(union) & set(present))
        if parts and union not in known:
            measures.append(_measure(union, parts, sums, volume))
        elif len(parts) > 1:  # lobes and an undivided rest: the name means the whole side
            at = [measure.name for measure in measures].index(union)
            measures[at] = _measure(union, parts, sums, volume)
    return tuple(measures)


def _sum_by_label(hu: np.ndarray, labels: np.ndarray) -> _Sums:
    """Sums over (X, Y, Z), a sheet of x at a time so that no float copy of the whole CT is made."""
    total, squared = np.zeros(256), np.zeros(256)
    for sheet, values in zip(labels, hu, strict=True):
        value = values.ravel().astype(np.float64)
        total += np.bincount(sheet.ravel(), weights=value, minlength=256)
        squared += np.bincount(sheet.ravel(), weights=value * value, minlength=256)
    count, voxel = _places(labels)
    return _Sums(count, total, squared, voxel)


def _places(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per label of (X, Y, Z) uint8: voxels (256,) int64, and the sum of their indices (3, 256) float64."""
    count = np.zeros(256, np.int64)
    voxel = np.zeros((3, 256))
    for x, sheet in enumerate(labels):
        by_row = _count_rows(sheet)
        here = by_row.sum(axis=0)
        count += here
        voxel[0] += here * x
        voxel[1] += np.arange(sheet.shape[0]) @ by_row
        voxel[2] += np.arange(sheet.shape[1]) @ _count_rows(sheet.T)
    return count, voxel


def _count_rows(plane: np.ndarray) -> np.ndarray:
    """How often each label occurs in each row of a plane (N, M) uint8: (N, 256) int64."""
    rows = plane.shape[0]
    offset = np.arange(rows, dtype=np.int64)[:, None] * 256 + plane
    return np.bincount(offset.ravel(), minlength=rows * 256).reshape(rows, 256)


def _measure(name: str, numbers: Iterable[int], sums: _Sums, volume: Volume) -> OrganMeasure:
    """One structure made of the label `numbers`, of which at least one occurs."""
    at = list(numbers)
    count = int(sums.count[at].sum())
    mean = float(sums.hu[at].sum()) / count
    variance = float(sums.hu_squared[at].sum()) / count - mean**2
    x, y, z = volume.grid.to_mm(sums.voxel[:, at].sum(axis=1) / count)
    centre = (float(x), float(y), float(z))
    return OrganMeasure(name, count * volume.grid.voxel_ml, mean, max(variance, 0.0) ** 0.5, centre, count)


def orientation_check(masks: OrganMasks, grid: Grid | None = None) -> OrientationCheck:
    """Compare sides: liver right of spleen and stomach, heart left of the spine; a mirrored header shows here.

    grid: the Volume's, needed for a tilted scan only; without it the array's x axis counts as left-right.
    """
    count, voxel = _places(masks.labels)
    grid = grid or Grid(masks.labels.shape, np.eye(4))
    width = grid.spacing_mm[0] * masks.labels.shape[0]
    agree: list[str] = []
    differ: list[str] = []
    for right, left, share in _RIGHT_OF:
        gap = _x_mm(right, count, voxel, grid) - _x_mm(left, count, voxel, grid)  # x grows to the patient's right
        if abs(gap) > share * width:  # False for NaN: one of the two is not in view
            (agree if gap > 0 else differ).append(f"the {left} lies {'left' if gap > 0 else 'right'} of the {right}")
    if differ:
        found = " and ".join(differ)
        reason = f"Sides need a look: {found}. The image may be mirrored, or the patient has situs inversus."
        return OrientationCheck("suspicious", reason)
    if agree:
        return OrientationCheck("ok", f"Sides are as expected: {' and '.join(agree)}.")
    return OrientationCheck("unknown", "No pair of organs in view tells left from right.")


def _x_mm(name: str, count: np.ndarray, voxel: np.ndarray, grid: Grid) -> float:
    """Patient x of the middle of a structure, in mm; NaN when absent."""
    parts = sorted(parts_of(name))
    voxels = count[parts].sum()
    return float(grid.to_mm(voxel[:, parts].sum(axis=1) / voxels)[0]) if voxels else float("nan")
