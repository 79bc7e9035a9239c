"""How a recipe sees a CT: spacing, window, the box it is shown, and what is varied from visit to visit."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from core.errors import ConfigError
from core.organ_map import mirrored_structures
from core.preprocess import AIR_HU, Size3

MIRROR = mirrored_structures()
"""Structure number -> its number in a mirrored study."""


@dataclass(frozen=True)
class DataView:
    """What is done to a CT before a model reads it; the defaults are ASAP's, mended."""

    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 3.0)
    """Voxel size (x, y, z) the model is trained at."""
    window_hu: tuple[float, float] = (-1000.0, 1000.0)
    """Hounsfield units at the two ends of the range that the model sees."""
    shown_as: tuple[float, float] = (-1.0, 1.0)
    """Values that the two ends of the window become."""
    crop: tuple[int, int, int] | None = None
    """Voxels (x, y, z) of one crop; None = what the model reads."""
    organ_map: str = "asap9"
    """Which organs `organ_mask` numbers: a preset of core.organ_map, or the path of an organ map file."""
    resample: Literal["smooth", "as_released"] = "smooth"
    """Average before thinning out, or interpolate and cut fractions off as the published code does."""
    clip_late: bool = False
    """Resample as_released on all values and clip to the window afterwards, as fVLM does; ASAP clips before."""
    place: Literal["anywhere", "organs"] = "anywhere"
    """Where a crop lies: anywhere in the volume, or in the box of the organs of `organ_map`."""
    organ_margin: tuple[int, int, int] = (20, 20, 5)
    """Voxels (x, y, z) added on each side of the organs' box; one less on the far sides when resampled as_released."""
    padding: Literal["mirror", "air"] = "mirror"
    """What fills a crop that is larger than the volume or the organs' box; air is as dark as the window shows."""
    smallest_crop: float = 0.8
    """Shortest crop per axis, in shares of the volume; only for crops anywhere."""
    mirror_chance: float = 0.3
    """How often a study is mirrored, with left and right swapped in its report and masks."""
    flip_chance: float = 0.0
    """Chance of a flip per axis that texts know nothing of, as published loaders do."""
    offset_chance: float = 0.1
    """How often the whole image is made a little brighter or darker, by at most a twentieth of its range."""
    seed: int = 0
    """Of all draws."""

    def __post_init__(self) -> None:
        chances = (self.mirror_chance, self.flip_chance, self.offset_chance)
        if min(chances) < 0 or max(chances) > 1 or not 0 < self.smallest_crop <= 1:
            raise ConfigError("Chances must lie in [0, 1], smallest_crop in (0, 1].")
        if min(self.spacing_mm) <= 0 or not all(low < high for low, high in (self.window_hu, self.shown_as)):
            raise ConfigError("spacing_mm must be above 0; window_hu and shown_as must rise from black to white.")

    @property
    def size(self) -> Size3:
        """Voxels of one crop; refuses a view whose crop was never settled."""
        if self.crop is None:
            raise ConfigError("The view has no crop size; give --view.crop or a model that says what it reads.")
        return self.crop


class CropPlace(NamedTuple):
    """Where a crop lies in its volume, in voxels (x, y, z) of the view's spacing."""

    start: Size3 = (0, 0, 0)  # of the crop's first voxel, before flips; negative where the crop is padded
    flipped: tuple[bool, bool, bool] = (False, False, False)  # axes that were reversed after cutting, mirrors included
    volume: Size3 = (0, 0, 0)  # size of the volume; zeros = not known


class Crop(NamedTuple):
    """One study as it is shown this time, axes (X, Y, Z) towards R, A, S."""

    study_id: str
    hu: np.ndarray  # (X, Y, Z) int16 Hounsfield units, already cut, padded and mirrored
    structures: np.ndarray | None  # (X, Y, Z) uint8 numbers of core.structures, sides as shown; None = no mask
    is_mirrored: bool  # True = left and right changed places: texts must say the other side
    place: CropPlace = CropPlace()


class Voxels(Protocol):
    """An array, in memory or on disk, of which a box can be read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, box: tuple[slice, ...]) -> np.ndarray: ...


Box = tuple[slice, slice, slice]


def cut_crop(
    study_id: str,
    arrays: tuple[Voxels, Voxels | None],
    view: DataView,
    rng: np.random.Generator,
    organ_box: Box | None = None,
) -> Crop:
    """Draw a crop of `view.size` and read no more than that from `arrays`, the CT in HU and its structure numbers.

    organ_box: where the organs lie, for views whose `place` is "organs"; None = the whole volume.
    """
    whole, masks = arrays
    box = draw_box(whole.shape, view, rng, organ_box)
    hu = pad_crop(np.asarray(whole[box]), view, min(AIR_HU, int(view.window_hu[0])))
    structures = None if masks is None else pad_crop(np.asarray(masks[box]), view, 0)
    axes: tuple[int, ...] = ()
    is_mirrored = view.mirror_chance > 0 and bool(rng.random() < view.mirror_chance)
    if is_mirrored:
        hu = hu[::-1]
        structures = None if structures is None else MIRROR[structures[::-1]]
    if view.flip_chance > 0:
        axes = tuple(axis for axis in range(3) if rng.random() < view.flip_chance)
        hu = np.flip(hu, axes)
        structures = None if structures is None else np.flip(structures, axes)
    return Crop(study_id, hu, structures, is_mirrored, _place(whole.shape, box, view, (axes, is_mirrored)))


def _place(shape: tuple[int, ...], box: Box, view: DataView, flips: tuple[tuple[int, ...], bool]) -> CropPlace:
    """flips: axes that were flipped, and whether the first one was mirrored beside that."""
    x, y, z = (
        part.start - max(0, length - (part.stop - part.start)) // 2 for part, length in zip(box, view.size, strict=True)
    )
    axes, is_mirrored = flips
    return CropPlace((x, y, z), ((0 in axes) != is_mirrored, 1 in axes, 2 in axes), (shape[0], shape[1], shape[2]))


def draw_box(shape: tuple[int, ...], view: DataView, rng: np.random.Generator, organ_box: Box | None = None) -> Box:
    """Where a crop lies: at most `view.size` voxels, inside the volume."""
    if view.place == "organs":
        around = widen_box(organ_box or _whole(shape), shape, view)
        lengths = [min(most, part.stop - part.start) for part, most in zip(around, view.size, strict=True)]
        starts = [
            part.start + int(rng.integers(0, part.stop - part.start - length + 1))
            for part, length in zip(around, lengths, strict=True)
        ]
        x, y, z = (slice(start, start + length) for start, length in zip(starts, lengths, strict=True))
        return x, y, z
    start, size = draw_crop(shape, view.size, view.smallest_crop, rng)
    x, y, z = (slice(first, first + length) for first, length in zip(start, size, strict=True))
    return x, y, z


def widen_box(organ_box: Box, shape: tuple[int, ...], view: DataView) -> Box:
    """The organs' box (X, Y, Z) with the view's margin around it, inside a volume of `shape`."""
    short = view.resample == "as_released"  # the published box ends at the last organ voxel plus margin, exclusive
    x, y, z = (
        slice(max(0, part.start - margin), max(part.start + 1, min(n, part.stop - short + margin)))
        for part, margin, n in zip(organ_box, view.organ_margin, shape, strict=True)
    )
    return x, y, z


def draw_crop(shape: tuple[int, ...], crop: Size3, smallest: float, rng: np.random.Generator) -> tuple[Size3, Size3]:
    """A random box: first a share in [smallest, 1] of each axis, then at most `crop` of that; start and size."""
    starts, sizes = [], []
    for n, most in zip(shape, crop, strict=True):
        share = int(rng.integers(max(1, int(n * smallest)), n + 1))
        size = min(share, most)
        starts.append(int(rng.integers(0, n - share + 1)) + int(rng.integers(0, share - size + 1)))
        sizes.append(size)
    return (starts[0], starts[1], starts[2]), (sizes[0], sizes[1], sizes[2])


def pad_crop(box: np.ndarray, view: DataView, fill: int) -> np.ndarray:
    """`box` (X, Y, Z) grown to `view.size`, evenly on both ends (one more voxel behind when odd)."""
    missing = [length - n for n, length in zip(box.shape, view.size, strict=True)]
    widths = [(gap // 2, gap - gap // 2) for gap in missing]
    if max(missing) <= 0:
        return box
    if view.padding == "air":
        return np.pad(box, widths, constant_values=fill)
    return np.pad(box, widths, mode="reflect")


def tell_padding(crop: Crop, view: DataView) -> str:
    """What a person should know of a study whose volume is smaller than a crop; "" where it is not."""
    volume, size = crop.place.volume, view.crop  # None: a source that gives what it has
    if size is None or not any(0 < n < length for n, length in zip(volume, size, strict=True)):
        return ""
    have, want, (x, y, z) = _times(volume), _times(size), view.spacing_mm
    how = "air" if view.padding == "air" else "its mirror image"
    return (
        f"Study {crop.study_id} has {have} voxels of {x:g} x {y:g} x {z:g} mm, less than the crop of {want}: it is "
        f"used, filled up with {how}. Take it out of reports.csv if its scan is incomplete."
    )


def _times(size: Size3) -> str:
    return " x ".join(str(n) for n in size)


def _whole(shape: tuple[int, ...]) -> Box:
    x, y, z = (slice(0, n) for n in shape)
    return x, y, z


def box_of(present: np.ndarray) -> Box | None:
    """Smallest box around the True voxels (X, Y, Z); None when there is none."""
    if not present.any():
        return None
    sides = [np.flatnonzero(present.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    x, y, z = (slice(int(side[0]), int(side[-1]) + 1) for side in sides)
    return x, y, z


def show(hu: np.ndarray, view: DataView) -> np.ndarray:
    """Hounsfield units (X, Y, Z) as the model sees them: clipped and mapped linearly, float32."""
    (black, white), (low, high) = view.window_hu, view.shown_as
    share = (np.clip(hu, black, white).astype(np.float32) - np.float32(black)) / np.float32(white - black)
    return share * np.float32(high - low) + np.float32(low)
