"""The same CTs at a finer spacing, for targets that are sharper than what a model sees (ECAMP's mode hires)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.preprocess import AIR_HU, Size3
from trainers.crops import Crop, DataView, show
from trainers.folder import FolderImages


class FineVolumes:
    """Volumes of a folder at 1/scale of a view's spacing, cut where a crop of that view is."""

    def __init__(self, root: Path, study_ids: list[str], view: DataView, scale: Size3, cache: Path) -> None:
        """cache: folder of its own for the finer volumes."""
        x, y, z = (mm / factor for mm, factor in zip(view.spacing_mm, scale, strict=True))
        self.view, self.scale = view, scale
        finer = DataView(spacing_mm=(x, y, z), window_hu=view.window_hu, resample=view.resample)
        self.images = FolderImages(root, study_ids, finer, cache, with_masks=False)

    def cut(self, crop: Crop, start: Size3, size: Size3) -> Tensor:
        """The finer voxels of a box of the crop as shown: start and size in its voxels -> (1, sx, sy, sz) float32.

        Both grids have the same middle, so the finer voxels lie where they belong to within half of one.
        """
        whole, _ = self.images.prepared(crop.study_id)
        place, inner, outside = crop.place, [], []
        for axis, factor in enumerate(self.scale):
            turned = crop.hu.shape[axis] - start[axis] - size[axis]  # from the crop's other end
            first = place.start[axis] + (turned if place.flipped[axis] else start[axis])
            shift = (whole.shape[axis] - factor * place.volume[axis]) // 2
            voxels = factor * first + shift + np.arange(factor * size[axis])
            inner.append(reflect(voxels, whole.shape[axis]))
            outside.append((voxels < 0) | (voxels >= whole.shape[axis]))
        hu = _take(whole, inner)
        if self.view.padding == "air":
            for axis, is_outside in enumerate(outside):
                hu = np.where(np.expand_dims(is_outside, [a for a in range(3) if a != axis]), AIR_HU, hu)
        hu = np.flip(hu, tuple(axis for axis in range(3) if place.flipped[axis]))
        return torch.from_numpy(np.ascontiguousarray(show(hu, self.view)))[None]


def reflect(places: np.ndarray, count: int) -> np.ndarray:
    """Places along an axis of `count` voxels, those outside mirrored at the first and last voxel."""
    if count == 1:
        return np.zeros_like(places)
    period = 2 * (count - 1)
    turned = places % period
    return np.minimum(turned, period - turned)


def _take(whole: np.ndarray, places: list[np.ndarray]) -> np.ndarray:
    """Voxels at the given places of each axis, reading no more than the box around them."""
    lows = [int(axis.min()) for axis in places]
    x, y, z = (slice(low, int(axis.max()) + 1) for low, axis in zip(lows, places, strict=True))
    return np.asarray(whole[x, y, z])[np.ix_(*(axis - low for axis, low in zip(places, lows, strict=True)))]
