"""Moving values between grids: the only place where voxels are interpolated."""

from typing import Literal

import numpy as np
from einops import reduce

from core.volume import Grid

Mode = Literal["linear", "nearest"]
SLAB_VOXELS = 8_000_000
"""Target voxels interpolated at a time, to bound memory."""


def target_grid(centre_mm: np.ndarray, shape: tuple[int, int, int], spacing_mm: np.ndarray) -> Grid:
    """A RAS-aligned grid of `shape` voxels of `spacing_mm` (3,), its middle at patient point `centre_mm` (3,)."""
    affine = np.diag([*np.asarray(spacing_mm, np.float64), 1.0])
    affine[:3, 3] = centre_mm - (np.array(shape) - 1) / 2 * np.asarray(spacing_mm)
    return Grid(shape, affine)


def spaced_grid(grid: Grid, spacing_mm: np.ndarray) -> Grid:
    """A grid along the axes of `grid`, same outer faces to within a voxel, with voxels of `spacing_mm` (3,)."""
    spacing = np.asarray(spacing_mm, np.float64)
    old = np.array(grid.spacing_mm)
    shape = np.maximum(1, np.rint(np.array(grid.shape) * old / spacing)).astype(int)
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] / old * spacing
    affine[:3, 3] += grid.centre_mm - Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine).centre_mm
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def average_down(array: np.ndarray, grid: Grid, factors: tuple[int, int, int]) -> tuple[np.ndarray, Grid]:
    """Mean over blocks of `factors` voxels: (X, Y, Z) -> float32 and its grid. A ragged edge is dropped."""
    fx, fy, fz = factors
    kept = tuple(n - n % f for n, f in zip(array.shape, factors, strict=True))
    block = array[: kept[0], : kept[1], : kept[2]].astype(np.float32, copy=False)
    mean = reduce(block, "(x fx) (y fy) (z fz) -> x y z", "mean", fx=fx, fy=fy, fz=fz)
    affine = grid.affine @ np.diag([fx, fy, fz, 1.0])
    affine[:3, 3] = grid.to_mm((np.array(factors) - 1) / 2)
    return mean, Grid(mean.shape, affine)


def resample(array: np.ndarray, source: Grid, target: Grid, mode: Mode = "linear", fill: float = 0) -> np.ndarray:
    """Values of `array`, (X, Y, Z) on `source`, at the voxel centres of `target`; `fill` outside.

    linear gives float32 (trilinear), nearest keeps the dtype. Within half a voxel outside the source the
    border value is repeated. No smoothing: going to much larger voxels, use `resample_smooth`.
    """
    if array.shape != tuple(source.shape):
        raise ValueError(f"array {array.shape} is not on its grid {source.shape}")
    step = _aligned_step(target, source)
    if step is not None:
        return _resample_along_axes(array, step, target.shape, mode, fill)
    return _resample_rotated(array, np.linalg.inv(source.affine) @ target.affine, target.shape, mode, fill)


def lines_inside(target: Grid, source: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Per axis of `target` (N,) bool, True = those voxels lie within the outer faces of `source`.

    None where the axes of the grids differ, so that no axis can be told by itself.
    """
    step = _aligned_step(target, source)
    if step is None:
        return None
    x, y, z = ((at >= -0.5) & (at <= n - 0.5) for at, n in zip(_places(step, target.shape), source.shape, strict=True))
    return x, y, z


def sample_at(array: np.ndarray, places: np.ndarray, mode: Mode = "linear", fill: float = 0) -> np.ndarray:
    """Values of `array` (X, Y, Z) at any `places` (3, x, y, z) float32 in its voxels; `fill` outside.

    linear gives float32 (trilinear), nearest keeps the dtype. A place is outside when its voxel's centre is more than
    half a voxel beyond the first or last one.
    """
    inside = np.ones(places.shape[1:], bool)
    for at, n in zip(places, array.shape, strict=True):
        inside &= (at >= -0.5) & (at <= n - 0.5)
    values = _nearest_at(array, places) if mode == "nearest" else _linear_at(array, places)
    values[~inside] = fill
    return values


def _nearest_at(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    flat = np.zeros(places.shape[1:], np.int32)
    for at, n in zip(places, array.shape, strict=True):
        flat *= n
        flat += np.clip(np.rint(at), 0, n - 1).astype(np.int32)
    return np.take(array, flat)


def _linear_at(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    import torch  # seconds to import, needed for bent grids only
    from torch.nn.functional import grid_sample

    grid = torch.empty((1, *places.shape[1:], 3), dtype=torch.float32)
    for axis, n in enumerate(array.shape):  # faces of the array at -1 and 1, last axis first
        np.multiply(places[axis], 2 / n, out=grid[0, ..., 2 - axis].numpy())
        grid[0, ..., 2 - axis] += 1 / n - 1
    values = torch.from_numpy(np.ascontiguousarray(array, np.float32))[None, None]
    result: np.ndarray = grid_sample(values, grid, "bilinear", "border", align_corners=False)[0, 0].numpy()
    return result


def lies_inside(target: Grid, source: Grid) -> np.ndarray:
    """(X, Y, Z) bool on `target`, True = the voxel's centre lies within the outer faces of `source`."""
    centres = np.stack(np.meshgrid(*[np.arange(n) for n in target.shape], indexing="ij"), axis=-1)
    at = source.to_voxel(target.to_mm(centres))
    return np.all((at >= -0.5) & (at <= np.array(source.shape) - 0.5), axis=-1)


def resample_smooth(array: np.ndarray, source: Grid, target: Grid, fill: float = 0) -> np.ndarray:
    """Like `resample` linear, after averaging over as many source voxels as fit into a target voxel."""
    ratio = np.array(target.spacing_mm) / np.array(source.spacing_mm)
    factors = np.clip(np.floor(ratio + 1e-3), 1, np.array(source.shape)).astype(int)
    if factors.max() > 1:
        array, source = average_down(array, source, (int(factors[0]), int(factors[1]), int(factors[2])))
    return resample(array, source, target, "linear", fill)


def _aligned_step(target: Grid, source: Grid) -> np.ndarray | None:
    """Target to source indices (4, 4), None unless every axis of one grid is the same axis of the other."""
    step: np.ndarray = np.linalg.inv(source.affine) @ target.affine
    off_diagonal = step[:3, :3] - np.diag(np.diag(step[:3, :3]))
    drift = np.abs(off_diagonal * (np.array(target.shape) - 1)).max()  # in source voxels
    return step if drift < 1e-3 else None


def _places(step: np.ndarray, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Source indices of the voxels along each axis, for grids with the same axes."""
    return [step[axis, axis] * np.arange(shape[axis]) + step[axis, 3] for axis in range(3)]


def _resample_along_axes(
    array: np.ndarray, step: np.ndarray, shape: tuple[int, int, int], mode: Mode, fill: float
) -> np.ndarray:
    """Separable interpolation: source index = step[a, a] * target index + step[a, 3] on every axis a."""
    places = _places(step, shape)
    outside = [(at < -0.5) | (at > n - 0.5) for at, n in zip(places, array.shape, strict=True)]
    if mode == "nearest":
        index = [np.clip(np.rint(at), 0, n - 1).astype(int) for at, n in zip(places, array.shape, strict=True)]
        result = array[np.ix_(*index)]
    else:
        result = _linear_along_axes(array, places)
    for axis, mask in enumerate(outside):
        if mask.any():
            result[(slice(None),) * axis + (mask,)] = fill
    return result


def _linear_along_axes(array: np.ndarray, places: list[np.ndarray]) -> np.ndarray:
    """Trilinear values at the outer product of `places` (source indices per axis), in slabs of the last axis."""
    result = np.empty(tuple(len(at) for at in places), np.float32)
    thickness = max(1, SLAB_VOXELS // max(1, result.shape[0] * result.shape[1]))
    for start in range(0, result.shape[2], thickness):
        slab = places[2][start : start + thickness]
        value = _linear_on_axis(array, slab, 2)
        for axis in (1, 0):
            value = _linear_on_axis(value, places[axis], axis)
        result[:, :, start : start + thickness] = value
    return result


def _linear_on_axis(array: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation along one axis at fractional indices `at`, clamped to the ends. -> float32."""
    at = np.clip(at, 0, array.shape[axis] - 1)
    low = np.minimum(np.floor(at).astype(int), max(0, array.shape[axis] - 2))
    high = np.minimum(low + 1, array.shape[axis] - 1)
    shape = [1, 1, 1]
    shape[axis] = -1
    weight = (at - low).astype(np.float32).reshape(shape)
    below = np.take(array, low, axis=axis).astype(np.float32, copy=False)
    above = np.take(array, high, axis=axis).astype(np.float32, copy=False)
    above -= below
    above *= weight
    above += below
    return above


def _resample_rotated(
    array: np.ndarray, step: np.ndarray, shape: tuple[int, int, int], mode: Mode, fill: float
) -> np.ndarray:
    """General affine case by SimpleITK (threaded); step maps target to source indices."""
    import SimpleITK as sitk  # noqa: N813  (half a second to import, needed for tilted scans only)

    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    transform = sitk.AffineTransform(step[:3, :3].ravel().tolist(), step[:3, 3].tolist())
    linear = mode == "linear"
    out = sitk.Resample(
        image,
        [int(n) for n in shape],
        transform,
        sitk.sitkLinear if linear else sitk.sitkNearestNeighbor,
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        float(fill),
        sitk.sitkFloat32 if linear else image.GetPixelID(),
    )
    return np.ascontiguousarray(sitk.GetArrayFromImage(out).transpose(2, 1, 0))
