"""From Hounsfield units to what a model reads: spacing, window, crop and padding (ASAP spec 1.1, 1.2).

Arrays are (X, Y, Z), growing to the patient's Right, Anterior, Superior.
"""

import numpy as np

from core.errors import ConfigError, StudyError
from core.resample import resample_smooth, spaced_grid
from core.volume import Grid

Size3 = tuple[int, int, int]
Spacing3 = tuple[float, float, float]

HU_LIMITS = (-1000.0, 1000.0)
"""Hounsfield units that ASAP keeps; what lies outside is clipped."""

INT16_HU = (-32768.0, 32767.0)
"""Hounsfield units that int16 holds: limits that clip nothing."""

AIR_HU = -1024
"""What stands where a CT has no voxels and is not mirrored."""

ASAP_SPACING_MM: Spacing3 = (1.5, 1.5, 3.0)
"""Voxel size of ASAP's training volumes."""


def resample_as_released(
    hu: np.ndarray,
    spacing_mm: Spacing3,
    target_mm: Spacing3 = ASAP_SPACING_MM,
    limits_hu: tuple[float, float] = HU_LIMITS,
) -> np.ndarray:
    """The published off-line step: clip, interpolate without smoothing, cut fractions off. (X, Y, Z) -> int16.

    The new size is floor(n * spacing / target) per axis, so up to a voxel of the far end is stretched over the rest;
    `stretched_grid` says where its voxels lie. hu may be a turned view of an array in a file's order.
    """
    import torch  # slow to import, and only training data comes this way
    from torch.nn import functional as F

    size = [int(n * have / want) for n, have, want in zip(hu.shape, spacing_mm, target_mm, strict=True)]
    if min(size) < 1:
        raise StudyError(
            f"The CT has {hu.shape} voxels of {spacing_mm} mm, less than one voxel of {target_mm} mm along an axis."
        )
    clipped = torch.from_numpy(_clip_to_floats(hu, limits_hu))
    values = F.interpolate(clipped[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]
    return values.numpy().astype(np.int16)


def stretched_grid(grid: Grid, shape: Size3) -> Grid:
    """Where the voxels of `resample_as_released` lie: `shape` voxels between the same outer faces as `grid`."""
    factors = np.array(grid.shape) / np.array(shape)
    affine = grid.affine @ np.diag([*factors, 1.0])
    affine[:3, 3] = grid.to_mm((factors - 1) / 2)
    return Grid(shape, affine)


def stretch_nearest(labels: np.ndarray, shape: Size3) -> np.ndarray:
    """The label (X, Y, Z) nearest to each voxel of `shape` between the same outer faces; dtype and numbers kept."""
    places = [((np.arange(m) + 0.5) * n / m).astype(int) for n, m in zip(labels.shape, shape, strict=True)]
    return labels[np.ix_(*places)]


def resample_smoothly(
    hu: np.ndarray, grid: Grid, target_mm: Spacing3 = ASAP_SPACING_MM, limits_hu: tuple[float, float] = HU_LIMITS
) -> tuple[np.ndarray, Grid]:
    """The mended step: average before thinning out, keep place and direction, round. -> int16 and its grid."""
    target = spaced_grid(grid, np.array(target_mm))
    values = resample_smooth(clip_hu(hu, limits_hu), grid, target, fill=limits_hu[0])
    return np.rint(values).astype(np.int16), target


def clip_hu(hu: np.ndarray, limits_hu: tuple[float, float]) -> np.ndarray:
    """HU (X, Y, Z) of any real dtype inside the limits; int16 stays int16 where the limits are whole numbers."""
    clipped: np.ndarray = np.clip(hu, *_bounds(hu, limits_hu))
    return clipped


def window_hu(hu: np.ndarray, limits_hu: tuple[float, float] = HU_LIMITS) -> np.ndarray:
    """Clip to `limits_hu` and map linearly to [-1, 1]: (X, Y, Z) any real dtype -> float32; the input is kept."""
    low, high = limits_hu
    if low >= high:
        raise ConfigError(f"limits_hu must ascend, got {limits_hu}; did you swap the two values?")
    return (np.clip(hu, low, high).astype(np.float32) - low) / (high - low) * 2 - 1


def centre_start(shape: Size3, size: Size3) -> Size3:
    """First voxel of the crop of at most `size` in the middle of an array of `shape`, as the published code rounds."""
    x, y, z = (max(0, n // 2 - s // 2) if n > s else 0 for n, s in zip(shape, size, strict=True))
    return x, y, z


def crop_and_pad(array: np.ndarray, start: Size3, size: Size3, fill: float | None = None) -> np.ndarray:
    """The box of at most `size` from voxel `start`, mirrored at its ends until it has `size`; (X, Y, Z) any dtype.

    Padding is even on both ends (one more voxel behind when odd) and works for arrays of any thinness; `fill`, when
    given, stands there in place of the mirror image.
    """
    box = array[tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))]
    missing = [length - n for n, length in zip(box.shape, size, strict=True)]
    widths = [(gap // 2, gap - gap // 2) for gap in missing]
    if max(missing) <= 0:
        return box
    return np.pad(box, widths, mode="reflect") if fill is None else np.pad(box, widths, constant_values=fill)


def _clip_to_floats(hu: np.ndarray, limits_hu: tuple[float, float]) -> np.ndarray:
    """Clipped float32 (X, Y, Z), C-ordered; an array in a file's order is turned on the way, plane by plane."""
    floats, bounds = np.empty(hu.shape, np.float32), _bounds(hu, limits_hu)
    for at in range(hu.shape[1]):
        floats[:, at] = np.ascontiguousarray(np.clip(hu[:, at], *bounds))
    return floats


def _bounds(hu: np.ndarray, limits_hu: tuple[float, float]) -> np.ndarray:
    """The limits as int16 where that changes nothing: numpy would turn a whole CT to float64 to clip it by floats."""
    limits = np.array(limits_hu)
    if hu.dtype != np.int16 or (limits != np.rint(limits)).any():
        return limits
    return np.clip(limits, -32768, 32767).astype(np.int16)
