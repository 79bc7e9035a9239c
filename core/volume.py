"""The one image type: Hounsfield units and the affine that places them in the patient."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import nibabel.orientations as nio
import numpy as np
from nibabel.affines import apply_affine, voxel_sizes

from core.errors import StudyError
from core.padding import Padding

AFFINE_TOLERANCE_MM = 1e-3
"""Two grids are the same when no corner voxel differs by more than this."""

RAS_AXES = np.array([[0, 1], [1, 1], [2, 1]])
"""nibabel orientation of an array whose axes already grow towards Right, Anterior, Superior."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an array lie in the patient: shape and affine, without values."""

    shape: tuple[int, int, int]
    """Voxels along each array axis."""
    affine: np.ndarray
    """(4, 4) float64, voxel index -> patient mm (RAS+)."""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edge lengths along the array axes in mm; right for rotated affines too."""
        a, b, c = voxel_sizes(self.affine)
        return float(a), float(b), float(c)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    @property
    def orientation(self) -> str:
        """Closest anatomical direction in which each array axis grows, e.g. "LPS"."""
        return "".join(nio.aff2axcodes(self.affine))

    @property
    def obliqueness_deg(self) -> float:
        """Largest angle in degrees between an array axis and its closest patient axis."""
        cosines = np.abs(self.affine[:3, :3] / np.array(self.spacing_mm)).max(axis=0)
        return float(np.degrees(np.arccos(np.clip(cosines.min(), -1.0, 1.0))))

    @property
    def centre_mm(self) -> np.ndarray:
        """Patient mm (3,) of the middle of the grid."""
        return self.to_mm((np.array(self.shape) - 1) / 2)

    def to_mm(self, voxels: object) -> np.ndarray:
        """Voxel indices (..., 3), fractions allowed, -> patient mm (..., 3) float64."""
        return apply_affine(self.affine, np.asarray(voxels, dtype=np.float64))

    def to_voxel(self, points_mm: object) -> np.ndarray:
        """Patient mm (..., 3) -> fractional voxel indices (..., 3) float64, not clipped."""
        return apply_affine(np.linalg.inv(self.affine), np.asarray(points_mm, dtype=np.float64))

    def nearest_voxel(self, point_mm: object) -> tuple[int, int, int]:
        """Index of the voxel of this grid closest to a patient point (3,) mm."""
        index = np.clip(np.rint(self.to_voxel(point_mm)), 0, np.array(self.shape) - 1)
        return int(index[0]), int(index[1]), int(index[2])

    def matches(self, other: "Grid") -> bool:
        """Whether both grids put every voxel at the same place (within `AFFINE_TOLERANCE_MM`)."""
        if tuple(self.shape) != tuple(other.shape):
            return False
        corners = np.array([[0, 0, 0], np.array(self.shape) - 1])
        distance = np.abs(self.to_mm(corners) - other.to_mm(corners)).max()
        return bool(distance <= AFFINE_TOLERANCE_MM) and np.allclose(self.affine, other.affine, atol=1e-3)


def ras_axes(affine: np.ndarray) -> np.ndarray:
    """nibabel orientation (3, 2) that turns arrays on this affine to RAS+ by permuting and flipping only."""
    orientation = nio.io_orientation(affine)
    if np.isnan(orientation).any():
        raise StudyError(
            "The image header gives no usable directions (a zero or repeated axis in its affine). "
            "Expected three independent axes: export the image again with its orientation."
        )
    return orientation


def ras_grid(source: Grid) -> Grid:
    """The RAS+ grid that holds the same voxels as `source` (axes permuted and flipped, nothing resampled)."""
    axes = ras_axes(source.affine)
    shape = np.empty(3, dtype=int)
    shape[axes[:, 0].astype(int)] = source.shape
    affine = source.affine @ nio.inv_ornt_aff(axes, source.shape)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _packed(array: np.ndarray) -> np.ndarray:
    """A C-contiguous array of the same values; in slabs where numpy's own copy would run three times longer."""
    if abs(array.strides[2]) == min(abs(stride) for stride in array.strides):
        return np.ascontiguousarray(array)
    packed = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[2], 16):
        packed[:, :, start : start + 16] = array[:, :, start : start + 16]
    return packed


@dataclass(frozen=True, eq=False)  # identity equality: arrays neither compare nor hash
class Volume:
    """A CT in patient space: array axes grow towards Right, Anterior, Superior."""

    hu: np.ndarray
    """(X, Y, Z) int16, Hounsfield units."""
    grid: Grid
    """Where `hu` lies; closest to RAS+ without resampling, so a tilted scan keeps its tilted affine."""
    source: Grid
    """The grid of the file it was read from; masks and heat maps go back to it."""
    padding: Padding | None = None
    """What of `hu` was lower in the file and was raised when it was read; None = nothing."""

    @classmethod
    def from_source(cls, hu: np.ndarray, affine: np.ndarray) -> "Volume":
        """Turn an array as stored in a file, (I, J, K) in HU with its affine, to RAS+; no resampling."""
        source = Grid((int(hu.shape[0]), int(hu.shape[1]), int(hu.shape[2])), np.asarray(affine, np.float64))
        turned = nio.apply_orientation(hu, ras_axes(source.affine))
        return cls(_packed(turned).astype(np.int16, copy=False), ras_grid(source), source)

    def as_stored(self) -> "Volume":
        """The same CT with the values of its file outside the scanner's circle, for models that were shown those."""
        return self if self.padding is None else replace(self, hu=self.padding.put_back(self.hu), padding=None)

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) float64, index into `hu` -> patient mm (RAS+)."""
        return self.grid.affine

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z)."""
        return self.grid.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edge lengths (x, y, z) in mm."""
        return self.grid.spacing_mm

    def to_source(self, array: np.ndarray) -> np.ndarray:
        """Turn an array on this volume's RAS grid, (X, Y, Z), to the axes of the source file, (I, J, K)."""
        if array.shape[:3] != self.grid.shape:
            raise ValueError(f"array {array.shape} is not on the volume's grid {self.grid.shape}")
        back = nio.ornt_transform(RAS_AXES, ras_axes(self.source.affine))
        return _packed(nio.apply_orientation(array, back))

    def from_source_array(self, array: np.ndarray) -> np.ndarray:
        """Turn an array on the source grid, (I, J, K), to this volume's RAS axes, (X, Y, Z)."""
        if array.shape[:3] != self.source.shape:
            raise ValueError(f"array {array.shape} is not on the source grid {self.source.shape}")
        return _packed(nio.apply_orientation(array, ras_axes(self.source.affine)))

    @cached_property
    def content_hash(self) -> str:
        """Hex digest of the voxels and their place in the patient; the same CT opened again gives the same."""
        digest = hashlib.blake2b(digest_size=20)
        digest.update(np.asarray(self.grid.shape, np.int64).tobytes())
        digest.update((np.rint(self.grid.affine * 1e3) + 0.0).astype(np.int64).tobytes())
        digest.update(np.ascontiguousarray(self.hu).data)
        return digest.hexdigest()
