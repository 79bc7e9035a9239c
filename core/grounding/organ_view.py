"""What a model that compares organs with texts sees of a CT: its organs' box, and which organ each voxel is."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from core.anatomy.masks import OrganMasks
from core.errors import StudyError
from core.grounding.view import ViewConfig, box_grid, patch_grid, show_box
from core.organ_map import OrganMap
from core.resample import resample
from core.volume import Grid, Volume

LARGEST = 2
"""The box is at most this many times the training crop per axis; what lies outside is not seen."""


class OrganView(NamedTuple):
    """A CT as the model is shown it, before its axes are turned."""

    image: np.ndarray  # (X, Y, Z) float32, axes RAS
    mask: np.ndarray  # (X, Y, Z) uint8 organ numbers 1..O, axes RAS
    grid: Grid  # of both
    patches: Grid  # of patch centres


def read_organs(volume: Volume, masks: OrganMasks | None, organs: OrganMap, config: ViewConfig) -> OrganView:
    """The box around a CT's organs, at least as large as the training crop, in whole patches.

    Padding below -1024 HU is what the file says: published models resample it with all else and clip afterwards.
    Raises StudyError when the masks hold none of the organs, or there are no masks.
    """
    numbers = None if masks is None else organs.lut()[masks.labels]
    if numbers is None or not numbers.any():
        found = "there are no organ masks" if masks is None else "the organ masks hold none of them"
        raise StudyError(
            f"This engine compares organs ({', '.join(organs.names)}) with texts, and {found}. Give it a chest CT, and "
            "masks of these organs."
        )
    low, high = _extent(numbers > 0, volume.grid)
    wanted = high - low + 2 * np.array(config.organ_margin_mm)
    x, y, z = (_length(wanted[a], config.spacing_mm[a], config.image_size[a], config.patch_size[a]) for a in range(3))
    wide = replace(config, image_size=(x, y, z))
    box = box_grid((low + high) / 2, wide)
    mask = resample(numbers, volume.grid, box, "nearest")
    return OrganView(show_box(volume.as_stored(), box, wide), mask, box, patch_grid(box, wide))


def _extent(inside: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest patient mm (3,) of the True voxels' centres."""
    found = np.argwhere(inside)
    corners = grid.to_mm(found[:: max(1, len(found) // 500_000)])
    return corners.min(axis=0), corners.max(axis=0)


def _length(millimetres: float, spacing: float, crop: int, patch: int) -> int:
    """Voxels of the box along one axis: what is wanted, but no less than the crop and no more than `LARGEST` of it."""
    wanted = int(np.ceil(millimetres / spacing / patch)) * patch
    return min(max(wanted, crop), LARGEST * crop)
