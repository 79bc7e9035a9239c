"""What a model sees of a CT: a box of voxels placed on the patient, Hounsfield units as numbers near 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from core.anatomy.masks import OrganMasks
from core.errors import ConfigError
from core.preprocess import clip_hu
from core.resample import lines_inside, resample, resample_smooth, target_grid
from core.volume import Grid, Volume

AIR_HU = -1000.0
BODY_HU = -300.0
"""Denser voxels count as body where there are no masks."""


@dataclass(frozen=True)
class ViewConfig:
    """How a CT becomes model input; part of a shipped model, for it is trained on exactly this."""

    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 3.0)
    """Voxel size of the model's box (x, y, z)."""
    image_size: tuple[int, int, int] = (224, 224, 112)
    """Voxels of the box."""
    patch_size: tuple[int, int, int] = (16, 16, 8)
    """Voxels of one patch."""
    hu_range: tuple[float, float] = (-1000.0, 1000.0)
    """HU that become the ends of `shown_as`; clipped outside."""
    shown_as: tuple[float, float] = (-1.0, 1.0)
    """Values that the two ends of `hu_range` become."""
    axes: Literal["RAS", "LPS"] = "RAS"
    """Where the axes of the model's input grow to; published fVLM and ViSD-Boost read CT-RATE's files as stored."""
    smooth: bool = True
    """Average over the voxels that fall into a larger one; False takes single values, as ASAP's public code."""
    clip_late: bool = True
    """Clip to `hu_range` after resampling, as the data engine and fVLM do; False clips before, as ASAP does."""
    padding: Literal["air", "mirror"] = "air"
    """What the box holds outside the scan; no scan is mirrored whose axes are not the box's."""
    organ_margin_mm: tuple[float, float, float] = (20.0, 20.0, 15.0)
    """Kept around the organs (x, y, z) by models that compare organs, as in fVLM's preprocessing."""
    subdivisions: int = 1
    """The box is read this many times per axis, moved by a fraction of a patch, for a finer map at that cost."""

    def __post_init__(self) -> None:
        if min(self.spacing_mm) <= 0 or self.hu_range[0] >= self.hu_range[1]:
            raise ConfigError(
                f"View of {self.spacing_mm} mm voxels and HU range {self.hu_range}: expected sizes above 0 and an "
                "ascending range."
            )
        if self.axes not in ("RAS", "LPS") or self.padding not in ("air", "mirror"):
            raise ConfigError(f"axes is {self.axes!r}, padding {self.padding!r}; expected RAS or LPS, air or mirror.")
        if min(self.organ_margin_mm) < 0:
            raise ConfigError(f"organ_margin_mm is {self.organ_margin_mm}; expected no negative number.")
        if any(n % p for n, p in zip(self.image_size, self.patch_size, strict=True)):
            raise ConfigError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}.")
        if not 1 <= self.subdivisions <= 4 or any(p % self.subdivisions for p in self.patch_size):
            raise ConfigError(f"subdivisions is {self.subdivisions}; expected 1 to 4 and a divisor of the patch size.")


@dataclass(frozen=True, eq=False)
class Reading:
    """One placement of the box."""

    image: np.ndarray
    """(X, Y, Z) float32 within `ViewConfig.shown_as`, axes RAS."""
    offset: tuple[int, int, int]
    """Which of the interleaved patch grids it gives, in steps of patch / subdivisions."""


def middle_of_chest(volume: Volume, masks: OrganMasks | None) -> np.ndarray:
    """Patient mm (3,) of the middle of the lungs' box, else of the body's box, else of the scan.

    It depends on the patient only and not on how the file stores the scan.
    """
    inside = masks.mask("lung") if masks is not None else None
    if inside is None or not inside.any():
        inside = volume.hu > BODY_HU
    if not inside.any():
        return volume.grid.centre_mm
    return _middle_of(inside, volume.grid)


def _middle_of(inside: np.ndarray, grid: Grid) -> np.ndarray:
    """Patient mm (3,) of the middle of the patient-aligned box around True voxels (X, Y, Z).

    The 0.5 and 99.5 percentiles stand for the box's faces: a stray voxel must not move the view.
    """
    found = np.argwhere(inside)
    thinned = found[:: max(1, len(found) // 200_000)]
    low, high = np.percentile(grid.to_mm(thinned), [0.5, 99.5], axis=0)
    return (low + high) / 2


def box_grid(centre_mm: np.ndarray, config: ViewConfig) -> Grid:
    """The model's voxels around a patient point (3,) mm."""
    return target_grid(centre_mm, config.image_size, np.array(config.spacing_mm))


def patch_grid(box: Grid, config: ViewConfig) -> Grid:
    """Centres of all patches of all readings of the box, interleaved: (X, Y, Z) patches times subdivisions."""
    step = np.array(config.patch_size) * np.array(config.spacing_mm) / config.subdivisions
    shape = tuple(n // p * config.subdivisions for n, p in zip(config.image_size, config.patch_size, strict=True))
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = box.to_mm((np.array(config.patch_size) - 1) / 2)
    return Grid((shape[0], shape[1], shape[2]), affine)


def read_box(volume: Volume, box: Grid, config: ViewConfig) -> list[Reading]:
    """The CT in the model's box, once per subdivision; outside the scan is what `ViewConfig.padding` says."""
    image = show_box(volume, _with_margin(box, config), config)
    step = [p // config.subdivisions for p in config.patch_size]
    readings = []
    for x, y, z in product(range(config.subdivisions), repeat=3):
        moved = zip((x, y, z), step, config.image_size, strict=True)
        cut = tuple(slice(o * s, o * s + n) for o, s, n in moved)
        readings.append(Reading(image[cut], (x, y, z)))
    return readings


def show_box(volume: Volume, box: Grid, config: ViewConfig) -> np.ndarray:
    """The CT at the voxels of `box` as the model's numbers: (X, Y, Z) float32."""
    hu = volume.hu if config.clip_late else clip_hu(volume.hu, config.hu_range)
    sample = resample_smooth if config.smooth else resample
    image = show(sample(hu, volume.grid, box, fill=min(AIR_HU, config.hu_range[0])), config)
    inside = lines_inside(box, volume.grid) if config.padding == "mirror" else None
    return image if inside is None else mirror_outside(image, inside)


def mirror_outside(array: np.ndarray, inside: Sequence[np.ndarray]) -> np.ndarray:
    """(X, Y, Z) with what lies outside the scan replaced by the mirror image of what lies inside.

    inside: per axis (N,) bool, True = in the scan, one run at most.
    """
    runs = [np.flatnonzero(flags) for flags in inside]
    if any(run.size == 0 for run in runs) or all(flags.all() for flags in inside):
        return array
    scan = array[tuple(slice(run[0], run[-1] + 1) for run in runs)]
    widths = [(int(run[0]), len(flags) - 1 - int(run[-1])) for run, flags in zip(runs, inside, strict=True)]
    return np.pad(scan, widths, mode="reflect")


def show(hu: np.ndarray, config: ViewConfig) -> np.ndarray:
    """Hounsfield units as the model's numbers: clipped and mapped linearly, float32."""
    (low, high), (black, white) = config.hu_range, config.shown_as
    return (np.clip((hu - low) / (high - low), 0.0, 1.0) * (white - black) + black).astype(np.float32)


def turn(array: np.ndarray, config: ViewConfig) -> np.ndarray:
    """An array (X, Y, Z, ...) of axes RAS on the axes of the model's input, and back."""
    return np.ascontiguousarray(array[::-1, ::-1]) if config.axes == "LPS" else array


def _with_margin(box: Grid, config: ViewConfig) -> Grid:
    """The box, grown towards Right, Anterior, Superior by as much as the readings move it."""
    margin = [p - p // config.subdivisions for p in config.patch_size]
    shape = tuple(n + m for n, m in zip(config.image_size, margin, strict=True))
    return Grid((shape[0], shape[1], shape[2]), box.affine)
