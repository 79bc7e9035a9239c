"""How a fine-tuned model is shown a CT; the same code prepares its training data and its input in the page."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from einops import rearrange

from core.errors import ConfigError
from core.preprocess import (
    AIR_HU,
    INT16_HU,
    Size3,
    centre_start,
    crop_and_pad,
    resample_as_released,
    resample_smoothly,
    stretch_nearest,
    stretched_grid,
)
from core.resample import resample
from core.volume import Grid, Volume


@dataclass(frozen=True)
class TaskView:
    """What is done to a CT before a model reads it; the defaults are ASAP's."""

    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 3.0)
    """Voxel size (x, y, z)."""
    window_hu: tuple[float, float] = (-1000.0, 1000.0)
    """Hounsfield units at the two ends of what the model sees."""
    shown_as: tuple[float, float] = (-1.0, 1.0)
    """Values that they become."""
    size: Size3 = (224, 224, 112)
    """Voxels (x, y, z) of a classifier's crop from the middle of the CT; a segmenter's window."""
    resample: Literal["smooth", "as_released"] = "smooth"
    """Average before thinning out, or interpolate and cut fractions off as the published code does."""
    clip_late: bool = False
    """Resample as_released on all values and clip to the window afterwards, as fVLM does; ASAP clips before."""
    padding: Literal["mirror", "air"] = "mirror"
    """What fills a box that is larger than the CT; air is as dark as the window shows."""

    def __post_init__(self) -> None:
        if min(self.spacing_mm) <= 0 or min(self.size) < 1:
            raise ConfigError(f"spacing_mm and size must be above 0, got {self.spacing_mm} and {self.size}.")
        if not all(low < high for low, high in (self.window_hu, self.shown_as)):
            raise ConfigError("window_hu and shown_as must rise from black to white; did you swap two values?")

    @property
    def pad_hu(self) -> int | None:
        """Hounsfield units of padding; None = the CT's mirror image."""
        return min(AIR_HU, math.floor(self.window_hu[0])) if self.padding == "air" else None

    @property
    def made_from(self) -> dict[str, Any]:
        """What decides the voxels that `thin_out` makes, by name."""
        names = ("spacing_mm", "window_hu", "resample", "clip_late")
        return {name: getattr(self, name) for name in names}


def thin_out(volume: Volume, view: TaskView) -> tuple[np.ndarray, Grid]:
    """A CT at the view's spacing: (X, Y, Z) int16 HU towards R, A, S, and where it lies.

    Values are clipped to the window before, or not at all (`TaskView.clip_late`); `show` clips them in any case.
    """
    if view.resample == "as_released":
        limits = INT16_HU if view.clip_late else view.window_hu
        hu = resample_as_released(volume.hu, volume.spacing_mm, view.spacing_mm, limits)
        return hu, stretched_grid(volume.grid, (hu.shape[0], hu.shape[1], hu.shape[2]))
    return resample_smoothly(volume.hu, volume.grid, view.spacing_mm, view.window_hu)


def thin_out_labels(labels: np.ndarray, grid: Grid, target: Grid, view: TaskView) -> np.ndarray:
    """Labels (X, Y, Z) uint8 on a CT's RAS grid, on the grid that `thin_out` gave."""
    if view.resample == "as_released":
        return stretch_nearest(labels, target.shape)
    return resample(labels, grid, target, "nearest")


def show(hu: np.ndarray, view: TaskView) -> np.ndarray:
    """Hounsfield units (X, Y, Z) as the model sees them: clipped and mapped linearly, float32."""
    (black, white), (low, high) = view.window_hu, view.shown_as
    share = (np.clip(hu, black, white).astype(np.float32) - np.float32(black)) / np.float32(white - black)
    return share * np.float32(high - low) + np.float32(low)


def cut_middle(hu: np.ndarray, grid: Grid, view: TaskView) -> tuple[np.ndarray, Grid]:
    """The view's box in the middle of a CT, padded at its ends where the CT is smaller, and where it lies."""
    shape, size = (hu.shape[0], hu.shape[1], hu.shape[2]), view.size
    start = centre_start(shape, size)
    before = [max(0, length - n) // 2 for n, length in zip(shape, size, strict=True)]
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_mm(np.array(start) - np.array(before))
    return crop_and_pad(hu, start, size, view.pad_hu), Grid(size, affine)


def coarse_grid(grid: Grid, patch: Size3) -> Grid:
    """Where the centres of the patches of a grid lie."""
    affine = grid.affine @ np.diag([*patch, 1.0])
    affine[:3, 3] = grid.to_mm((np.array(patch) - 1) / 2)
    x, y, z = (n // p for n, p in zip(grid.shape, patch, strict=True))
    return Grid((x, y, z), affine)


def covered_share(box: Grid, volume: Grid, patch: Size3) -> np.ndarray:
    """Share in [0, 1] of each patch (gx, gy, gz) of `box` that is CT and not padding; both grids have the same axes."""
    first = np.rint(volume.to_voxel(box.to_mm((0, 0, 0)))).astype(int)
    axes = [
        (np.arange(n) + start >= 0) & (np.arange(n) + start < whole)
        for n, start, whole in zip(box.shape, first, volume.shape, strict=True)
    ]
    x, y, z = (rearrange(a, "(g p) -> g p", p=p).mean(axis=1) for a, p in zip(axes, patch, strict=True))
    share: np.ndarray = x[:, None, None] * y[None, :, None] * z[None, None, :]
    return share
