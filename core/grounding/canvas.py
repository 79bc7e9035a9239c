"""The grid on which heat is drawn for one CT, what is known of each of its voxels, and the patient's middle."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from core.anatomy.masks import OrganMasks
from core.structures import BY_NAME, UNIONS, parts_of
from core.volume import Grid

FREE = ("body", "subcutaneous_fat", "skeletal_muscle", "pleura_left", "pleura_right", "mediastinum", "pericardium")
"""Labels, beside none at all, of tissue that belongs to no organ in particular."""
LONG_ENOUGH_MM = 60.0
"""A structure tells how the patient leans along an axis when it is at least this long there."""
MOST_POINTS = 20_000

Half = Literal["left", "right"]


@dataclass(frozen=True, eq=False)
class Canvas:
    """The grid on which heat is drawn for one CT, and what is known about each of its voxels."""

    grid: Grid
    labels: np.ndarray
    """(X, Y, Z) uint8 structure numbers, 0 where there are no masks."""
    inside: np.ndarray
    """(X, Y, Z) bool, True = inside the scan and seen by the engine."""
    dense: np.ndarray
    """(X, Y, Z) bool, True = tissue or fluid, False = lung, air and what lies outside of the scan."""
    masks: OrganMasks | None
    """The whole CT's organ masks."""

    def mask(self, *names: str) -> np.ndarray:
        """Where any of the structures or unions is: (X, Y, Z) bool, True = inside."""
        member = np.zeros(256, bool)
        for name in names:
            member[list(parts_of(name))] = True
        return member[self.labels]

    @cached_property
    def free(self) -> np.ndarray:
        """Where no organ is: (X, Y, Z) bool, True = `FREE` or no label."""
        member = np.zeros(256, bool)
        member[[0, *(BY_NAME[name].number for name in FREE)]] = True
        return member[self.labels]

    def is_masked(self, name: str) -> bool:
        """Whether the CT's masks hold a structure or union, be it outside of what the engine sees."""
        known = name in BY_NAME or name in UNIONS
        return self.masks is not None and known and bool(parts_of(name) & set(self._numbers))

    @cached_property
    def _numbers(self) -> list[int]:
        return self.masks.numbers() if self.masks is not None else []

    def half(self, side: Half) -> np.ndarray:
        """One half of the patient: (X, Y, Z) bool, True = on that side of the middle plane."""
        return self._is_left if side == "left" else ~self._is_left

    @cached_property
    def _is_left(self) -> np.ndarray:
        """(X, Y, Z) bool, True = left of the plane x = a + b y + c z mm that `middle_plane` gives."""
        a, b, c = middle_plane(self)
        voxels = np.stack(np.meshgrid(*[np.arange(n) for n in self.grid.shape], indexing="ij"), axis=-1)
        x, y, z = np.moveaxis(self.grid.to_mm(voxels), -1, 0)
        return x < a + b * y + c * z


def middle_plane(canvas: Canvas) -> tuple[float, float, float]:
    """The patient's middle plane as (a mm, b, c): x = a + b y + c z in patient mm.

    Through the spine, tilted along it, and turned towards the sternum where that is known: a patient who lies askew is
    not cut straight. Without a spine: halfway between the lungs, else through the middle of all organs, of all tissue,
    of the grid.
    """
    spine, sternum = (_points(canvas, canvas.mask(*names)) for names in (("spine", "spinal_cord"), ("sternum",)))
    if len(spine):
        return _fit_plane(spine, sternum)
    lungs = [_points(canvas, canvas.mask(f"lung_{side}")) for side in ("left", "right")]
    if all(len(points) for points in lungs):
        return float(np.mean([points[:, 0].mean() for points in lungs])), 0.0, 0.0
    for anything in (canvas.labels > 0, canvas.dense, np.ones(canvas.grid.shape, bool)):
        points = _points(canvas, anything)
        if len(points):
            return float((points[:, 0].min() + points[:, 0].max()) / 2), 0.0, 0.0
    return float(canvas.grid.centre_mm[0]), 0.0, 0.0


def _points(canvas: Canvas, where: np.ndarray) -> np.ndarray:
    """Patient mm (N, 3) of True voxels, thinned."""
    found = np.argwhere(where)
    return canvas.grid.to_mm(found[:: max(1, len(found) // MOST_POINTS)])


def _fit_plane(spine: np.ndarray, sternum: np.ndarray) -> tuple[float, float, float]:
    """Least squares through spine and sternum, each of the same weight; no tilt along an axis that shows too little."""
    groups = [points for points in (spine, sternum) if len(points)]
    points = np.concatenate(groups)
    weights = np.sqrt(np.concatenate([np.full(len(group), 1 / len(group)) for group in groups]))
    middle = points.mean(axis=0)
    columns = [np.ones(len(points))]
    columns += [points[:, 1] - middle[1]] if len(sternum) else []
    is_long = bool(np.ptp(spine[:, 2]) >= LONG_ENOUGH_MM)
    columns += [points[:, 2] - middle[2]] if is_long else []
    found = np.linalg.lstsq(np.stack(columns, axis=1) * weights[:, None], points[:, 0] * weights, rcond=None)[0]
    tilts = found[1:].tolist()
    b = float(tilts.pop(0)) if len(sternum) else 0.0
    c = float(tilts.pop(0)) if is_long else 0.0
    return float(found[0] - b * middle[1] - c * middle[2]), b, c
