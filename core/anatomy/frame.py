"""The working frame of the embedded engine: the CT on a coarse grid along the patient's own axes."""

import itertools
from typing import NamedTuple

import numpy as np

from core.resample import resample, resample_smooth
from core.volume import Grid, Volume

WORK_MM = 2.0
"""Voxel edge of the working frame: fine enough for bronchi, coarse enough for seconds on two cores."""

AIR_HU = -1024
_OUTSIDE_HU = -3000.0
_MOST_VOXELS = 40_000_000


class Frame(NamedTuple):
    """A CT resampled to cubic voxels whose axes are exactly Right, Anterior, Superior."""

    hu: np.ndarray
    """(X, Y, Z) int16 HU, smoothed to the voxel size; -1024 outside the scan."""
    inside: np.ndarray
    """(X, Y, Z) bool, True where the scan has values."""
    grid: Grid
    """Where the voxels lie; its affine has no rotation."""

    @property
    def edge_mm(self) -> float:
        """Voxel edge in mm."""
        return self.grid.spacing_mm[0]


def patient_box(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest patient coordinates (3,) in mm that the voxels of `grid`, with their thickness, reach."""
    faces = [(-0.5, n - 0.5) for n in grid.shape]
    corners = grid.to_mm(list(itertools.product(*faces)))
    return corners.min(axis=0), corners.max(axis=0)


def cubic_grid(grid: Grid, edge_mm: float) -> Grid:
    """The RAS-aligned grid of cubes of `edge_mm` that covers `grid`.

    Voxel centres lie at whole multiples of `edge_mm` in the patient, so copies of one CT stored along other axes, or
    tilted, are seen through the same voxels.
    """
    low, high = patient_box(grid)
    first = np.floor(low / edge_mm + 0.5 + 1e-3)
    last = np.ceil(high / edge_mm - 0.5 - 1e-3)
    shape = np.maximum(1, last - first + 1).astype(int)
    affine = np.diag([edge_mm, edge_mm, edge_mm, 1.0])
    affine[:3, 3] = first * edge_mm
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def working_frame(volume: Volume, edge_mm: float = WORK_MM) -> Frame:
    """Resample a CT of any orientation and tilt to the working frame; very large scans get larger voxels."""
    grid = cubic_grid(volume.grid, edge_mm)
    while np.prod(grid.shape, dtype=float) > _MOST_VOXELS:
        edge_mm *= 1.25
        grid = cubic_grid(volume.grid, edge_mm)
    hu = resample_smooth(volume.hu, volume.grid, grid, fill=_OUTSIDE_HU)
    inside = hu > (_OUTSIDE_HU + AIR_HU) / 2
    clipped = np.clip(np.where(inside, hu, AIR_HU), AIR_HU, 3071)
    return Frame(np.rint(clipped).astype(np.int16), inside, grid)


def crop_frame(frame: Frame, box: tuple[slice, slice, slice]) -> Frame:
    """The part `box` of a frame; its voxels stay where they are in the patient."""
    return Frame(frame.hu[box], frame.inside[box], part_of_grid(frame.grid, box))


def part_of_grid(grid: Grid, box: tuple[slice, slice, slice]) -> Grid:
    """The grid of the voxels `box` (with start and stop, no steps) of `grid`."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_mm([part.start for part in box])
    a, b, c = (part.stop - part.start for part in box)
    return Grid((a, b, c), affine)


def back_to_volume(labels: np.ndarray, frame: Frame, volume: Volume) -> np.ndarray:
    """Labels (X, Y, Z) uint8 of the working frame at the voxels of `volume`; 0 where the frame has none."""
    return resample(labels, frame.grid, volume.grid, "nearest")
