"""Where a finding is: as a small box of voxels, and distances to it in millimetres."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from core.errors import StudyError
from core.volume import Grid


@dataclass(frozen=True, eq=False)
class Region:
    """Some voxels of a scan, kept as the box around them."""

    inside: np.ndarray
    """(x, y, z) bool, True = in the region; every face of the box touches it."""
    start: tuple[int, int, int]
    """The box's first voxel in the scan."""
    grid: Grid
    """Of the scan."""

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The box's place in the scan."""
        first, second, third = (slice(start, start + n) for start, n in zip(self.start, self.inside.shape, strict=True))
        return first, second, third

    @property
    def volume_ml(self) -> float:
        """Millilitres."""
        return int(self.inside.sum()) * self.grid.voxel_ml

    @property
    def centre_mm(self) -> np.ndarray:
        """Patient mm (3,) of its centroid."""
        return self.grid.to_mm(np.argwhere(self.inside).mean(axis=0) + self.start)

    @property
    def middle_mm(self) -> np.ndarray:
        """Patient mm (3,) of the voxel nearest to the centroid, which may itself lie outside."""
        places = self.grid.to_mm(np.argwhere(self.inside) + self.start)
        return places[np.linalg.norm(places - self.centre_mm, axis=1).argmin()]

    @cached_property
    def _surface(self) -> cKDTree:
        """Centres in mm of the voxels that border on others."""
        edge = self.inside & ~binary_erosion(self.inside)
        return cKDTree(self.grid.to_mm(np.argwhere(edge) + self.start))

    def mark(self, array: np.ndarray, value: int) -> None:
        """Set an array (X, Y, Z) on the scan's grid to `value` in the region."""
        array[self.box][self.inside] = value

    def contains(self, points_mm: np.ndarray) -> np.ndarray:
        """(N,) bool for patient mm (N, 3): whether the voxel a point lies in is of the region."""
        at = np.rint(self.grid.to_voxel(points_mm)).astype(int) - self.start
        in_box = ((at >= 0) & (at < self.inside.shape)).all(axis=1)
        found = np.zeros(len(at), bool)
        found[in_box] = self.inside[tuple(at[in_box].T)]
        return found

    def distances_mm(self, points_mm: np.ndarray, most_mm: float = np.inf) -> np.ndarray:
        """(N,) mm from points (N, 3) to the nearest voxel centre; 0 inside, infinite beyond `most_mm`."""
        points = np.atleast_2d(np.asarray(points_mm, float))
        distance, _ = self._surface.query(points, distance_upper_bound=np.nextafter(most_mm, np.inf))
        return np.where(self.contains(points), 0.0, distance)


def cut_region(mask: np.ndarray, grid: Grid) -> Region:
    """The region of a mask (X, Y, Z) bool on `grid`; StudyError for one without a voxel."""
    sides = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if not len(sides[0]):
        raise StudyError("The mask is empty; expected at least one voxel of the finding.")
    start = (int(sides[0][0]), int(sides[1][0]), int(sides[2][0]))
    box = tuple(slice(side[0], side[-1] + 1) for side in sides)
    return Region(np.ascontiguousarray(mask[box]), start, grid)
