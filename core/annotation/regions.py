"""Regions that a person draws: a mask or a box, always with the grid of the CT's file."""

import gzip
import itertools
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from einops import rearrange

from core.annotation.records import SentenceRef
from core.errors import AnnotationError
from core.volume import Grid, Volume

_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
)
"""What reading cut or altered bytes raises."""
MAX_VOXELS = 1 << 30
"""Voxels of the CT that a region may lie on."""


@dataclass(frozen=True, eq=False)
class MaskRegion:
    """Voxels that were painted."""

    mask: np.ndarray
    """(I, J, K) bool in the axes of the CT's file, True = inside."""
    grid: Grid
    """The CT's file grid (`Volume.source`)."""


@dataclass(frozen=True, eq=False)
class BoxRegion:
    """A box along the patient's axes."""

    low_mm: tuple[float, float, float]
    """Corner with the smallest R, A, S coordinates in mm."""
    high_mm: tuple[float, float, float]
    """Corner with the largest."""
    grid: Grid
    """The CT's file grid (`Volume.source`)."""


Region = MaskRegion | BoxRegion


@dataclass(frozen=True, eq=False)
class StoredRegion:
    """A region as the store keeps it."""

    number: int
    content_hash: str
    sentence: SentenceRef
    author: str
    created_utc: str
    shape: Region


def paint_region(mask: np.ndarray, volume: Volume) -> MaskRegion:
    """A region from a mask (X, Y, Z) on the volume's RAS grid, True = inside."""
    return MaskRegion(volume.to_source(np.asarray(mask, bool)), volume.source)


def span_box(corner_mm: Sequence[float], opposite_mm: Sequence[float], volume: Volume) -> BoxRegion:
    """The box between any two opposite corners, patient mm (3,) each."""
    corners = np.array([corner_mm, opposite_mm], np.float64)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return BoxRegion(
        (float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2])), volume.source
    )


def rasterise(region: Region) -> np.ndarray:
    """The region as a mask (I, J, K) bool on its grid; a box takes the voxels whose centre lies in it."""
    if isinstance(region, MaskRegion):
        return region.mask
    low, high = np.array(region.low_mm), np.array(region.high_mm)
    corners = low + (high - low) * np.array(list(itertools.product((0, 1), repeat=3)))
    reach = region.grid.to_voxel(corners)
    # Only voxels between the box's own corners can be inside: 512 x 512 x 300 centres would take 2 GB.
    first = np.clip(np.floor(reach.min(axis=0)), 0, region.grid.shape).astype(int)
    after = np.clip(np.ceil(reach.max(axis=0)) + 1, first, region.grid.shape).astype(int)
    near = rearrange(np.indices(after - first), "axis i j k -> i j k axis") + first
    centres = region.grid.to_mm(near)
    mask = np.zeros(region.grid.shape, bool)
    inside = ((centres >= low - 1e-6) & (centres <= high + 1e-6)).all(axis=-1)
    mask[first[0] : after[0], first[1] : after[1], first[2] : after[2]] = inside
    return mask


def require_region(region: Region) -> Region:
    """The region, or AnnotationError when it is empty, off the CT or not on its own grid."""
    if np.prod(region.grid.shape) > MAX_VOXELS:
        raise AnnotationError(f"The region's grid {region.grid.shape} is too large to store.")
    if isinstance(region, MaskRegion) and region.mask.shape != tuple(region.grid.shape):
        raise AnnotationError(
            f"The mask {region.mask.shape} is not on the CT's grid {region.grid.shape}; draw it again."
        )
    if isinstance(region, BoxRegion) and not np.isfinite([region.low_mm, region.high_mm]).all():
        raise AnnotationError("The box has a corner that is not a number; draw it again.")
    if not rasterise(region).any():
        raise AnnotationError("The region holds no voxel of this CT; draw it larger, inside the scan.")
    return region


def decode_mask(content: bytes, grid: Grid) -> np.ndarray:
    """The mask (I, J, K) bool in a gzipped NIfTI of ours. Raises AnnotationError when it is damaged."""
    try:
        image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    except _DAMAGE as error:
        raise AnnotationError(f"A stored region is damaged ({error}); remove it and draw it again.") from error
    if image.shape != tuple(grid.shape):
        raise AnnotationError(f"A stored region has shape {image.shape}, expected {grid.shape}; draw it again.")
    return np.asarray(image.dataobj) > 0


def encode_grid(grid: Grid) -> str:
    """JSON of a grid."""
    return json.dumps(describe_grid(grid))


def describe_grid(grid: Grid) -> dict[str, Any]:
    """Shape and affine, ready for JSON."""
    return {"shape": [int(n) for n in grid.shape], "affine": np.asarray(grid.affine, np.float64).tolist()}


def decode_grid(text: str) -> Grid:
    """The grid that `encode_grid` wrote."""
    fields = json.loads(text)
    i, j, k = fields["shape"]
    return Grid((i, j, k), np.array(fields["affine"], np.float64))
