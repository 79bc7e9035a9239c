"""Fitting the atlas to a patient: place and size first, then an affine map, then a smooth deformation.

The deformation follows Thirion, "Image matching as a diffusion process: an analogy with Maxwell's demons" (1998),
with the symmetric force of Vercauteren et al., "Diffeomorphic demons" (2009), summed over several channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from core.volume import Grid

COARSE_MM = 8.0
FINE_MM = 4.0
_SCALES = (0.85, 1.0, 1.18)


class Channels(NamedTuple):
    """What is compared between two patients, on one RAS-aligned grid."""

    values: np.ndarray
    """(C, X, Y, Z) float32, each channel between about -1 and 1."""
    weight: np.ndarray
    """(X, Y, Z) float32, 0 where there is nothing to compare (outside the scan)."""
    grid: Grid
    """Where the voxels lie."""


class Fit(NamedTuple):
    """A map from patient to atlas: first the displacement, then the affine."""

    affine: np.ndarray
    """(4, 4) float64, patient mm -> atlas mm."""
    displacement: np.ndarray
    """(3, X, Y, Z) float32 in voxels of `grid`, added to a voxel's index before the affine map."""
    grid: Grid
    """Grid of the displacement, in the patient."""


class Start(NamedTuple):
    """Where and how large the atlas lies in the patient, before any deformation."""

    affine: np.ndarray
    """(4, 4) float64, patient mm -> atlas mm."""
    likeness: float
    """Mean correlation of the channels in [-1, 1] over what both show."""


def start_fit(patient: Channels, atlas: Channels) -> Start:
    """The affine map under which the two look most alike."""
    affine = refine_affine(patient, atlas, place_atlas(patient, atlas))
    moved = warp_channels(atlas, patient.grid, affine)
    shared = (patient.weight > 0.5) & (moved.weight > 0.5)
    if shared.sum() < 2:
        return Start(affine, 0.0)
    pairs = [(fixed[shared], value[shared]) for fixed, value in zip(patient.values, moved.values, strict=True)]
    alike = [float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 < other.std() else 0.0 for one, other in pairs]
    return Start(affine, sum(alike) / len(alike))


def fit_atlas(
    patient: Sequence[Channels], atlas: Sequence[Channels], affine: np.ndarray, rounds: tuple[int, int] = (60, 25)
) -> Fit:
    """Deform `atlas` from its affine start to `patient`, each given as [coarse, fine]; `rounds` at the two."""
    coarse = patient[0].grid
    still = np.zeros((3, *coarse.shape), np.float32)
    field = deform(patient[0], warp_channels(atlas[0], coarse, affine), still, rounds[0])
    fine = patient[1].grid
    start = scale_displacement(field, coarse, fine)
    field = deform(patient[1], warp_channels(atlas[1], fine, affine), start, rounds[1])
    return Fit(affine, field, fine)


def place_atlas(patient: Channels, atlas: Channels) -> np.ndarray:
    """The scale and shift under which the images overlap best: (4, 4) patient mm -> atlas mm.

    Searches all shifts at once by normalised cross-correlation of the parts that overlap, so it also places
    a scan that shows only some of the chest.
    """
    best, best_score = np.eye(4), -np.inf
    for scale in _SCALES:
        turned = np.diag([1 / scale, 1 / scale, 1 / scale, 1.0])
        turned[:3, 3] = atlas.grid.centre_mm - patient.grid.centre_mm / scale
        grid = _covering_grid(patient.grid, atlas.grid, scale)
        moved = warp_channels(atlas, grid, turned)
        shift, score = _best_shift(patient, moved)
        offset = np.eye(4)
        offset[:3, 3] = -(patient.grid.to_mm(shift) - grid.to_mm((0, 0, 0)))
        if score > best_score:
            best, best_score = turned @ offset, score
    return best


def _covering_grid(patient: Grid, atlas: Grid, scale: float) -> Grid:
    """A grid like the patient's that holds the whole scaled atlas about the patient's centre."""
    edge = patient.spacing_mm[0]
    extent = np.array(atlas.shape) * np.array(atlas.spacing_mm) * scale
    shape = np.ceil(extent / edge).astype(int)
    affine = np.diag([edge, edge, edge, 1.0])
    affine[:3, 3] = patient.centre_mm - (shape - 1) / 2 * edge
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _best_shift(fixed: Channels, moving: Channels) -> tuple[np.ndarray, float]:
    """Voxel of `fixed` on which voxel (0, 0, 0) of `moving` falls best, (3,), and the correlation there."""
    from scipy import fft

    shape = tuple(
        fft.next_fast_len(a + b - 1, real=True) for a, b in zip(fixed.weight.shape, moving.weight.shape, strict=True)
    )

    def spectrum(image: np.ndarray) -> np.ndarray:
        return fft.rfftn(image, shape)

    def correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return fft.irfftn(a * np.conj(b), shape)

    a_weight, b_weight = spectrum(fixed.weight), spectrum(moving.weight)
    overlap = np.maximum(correlate(a_weight, b_weight), 1.0)
    least = 0.45 * min(fixed.weight.sum(), moving.weight.sum())
    total = np.zeros(shape)
    for a, b in zip(fixed.values, moving.values, strict=True):
        aw, bw = spectrum(a * fixed.weight), spectrum(b * moving.weight)
        a_sum, b_sum = correlate(aw, b_weight), correlate(a_weight, bw)
        a_var = correlate(spectrum(a * a * fixed.weight), b_weight) - a_sum**2 / overlap
        b_var = correlate(a_weight, spectrum(b * b * moving.weight)) - b_sum**2 / overlap
        cross = correlate(aw, bw) - a_sum * b_sum / overlap
        floor = 1e-3 * overlap
        total += cross / np.sqrt(np.maximum(a_var, floor) * np.maximum(b_var, floor))
    total[overlap < least] = -np.inf
    peak = np.array(np.unravel_index(int(np.argmax(total)), shape))
    shift = np.where(peak >= np.array(fixed.weight.shape), peak - np.array(shape), peak)
    return shift, float(total.max() / len(fixed.values))


def refine_affine(patient: Channels, atlas: Channels, start: np.ndarray) -> np.ndarray:
    """Gauss-Newton on the 12 numbers of the affine map (patient mm -> atlas mm), all channels together."""
    centre = patient.grid.centre_mm
    index = np.indices(patient.weight.shape[:3], dtype=np.float32)
    mm = (
        index * patient.grid.spacing_mm[0]
        + patient.grid.affine[:3, 3][:, None, None, None]
        - centre[:, None, None, None]
    ) / 100
    basis = np.concatenate([mm, np.ones_like(mm[:1])])  # (4, X, Y, Z), about unit size
    best = start
    for _ in range(25):
        moved = warp_channels(atlas, patient.grid, best)
        weight = patient.weight * moved.weight
        normal, right = np.zeros((12, 12)), np.zeros(12)
        for fixed, value in zip(patient.values, moved.values, strict=True):
            slope = np.array(np.gradient(ndimage.gaussian_filter((value + fixed) / 2, 0.7)))
            rows = (slope[:, None] * basis[None]).reshape(12, -1)  # d value / d parameter
            kept = (weight > 0).ravel() & (np.abs(slope).sum(axis=0) > 1e-3).ravel()
            weighted = rows[:, kept] * weight.ravel()[kept]
            normal += weighted @ rows[:, kept].T
            right += weighted @ (fixed - value).ravel()[kept]
        step = np.linalg.solve(normal + 1e-3 * np.trace(normal) / 12 * np.eye(12), right).reshape(3, 4)
        move = np.eye(4)  # voxel steps of the patient grid -> mm
        edge = patient.grid.spacing_mm[0]
        move[:3, :3] += step[:, :3] * edge / 100
        move[:3, 3] = step[:, 3] * edge - step[:, :3] @ centre * edge / 100
        best = best @ move
        if np.abs(step).max() < 0.02:
            break
    return best


def deform(patient: Channels, atlas: Channels, start: np.ndarray, rounds: int) -> np.ndarray:
    """Smooth displacement (3, X, Y, Z) in voxels under which `atlas`, on the patient's grid, looks like the patient."""
    field = start
    index = np.indices(patient.weight.shape, dtype=np.float32)
    fixed_slopes = [np.array(np.gradient(channel)) for channel in patient.values]
    weight = patient.weight * _sample(atlas.weight, index + field)
    for _ in range(rounds):
        at = index + field
        force = np.zeros_like(field)
        scale = np.full(weight.shape, 1e-6, np.float32)
        for fixed, slope, channel in zip(patient.values, fixed_slopes, atlas.values, strict=True):
            moved = _sample(channel, at)
            gap = fixed - moved
            both = (slope + np.array(np.gradient(moved))) / 2
            force += gap * both
            scale += np.square(both).sum(axis=0) + np.square(gap) / 4
        step = force / scale * weight
        field = field + np.stack([ndimage.gaussian_filter(part, 1.0) for part in step])
        field = np.stack([ndimage.gaussian_filter(part, 1.0) for part in field])
    return field


def _sample(channel: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Linear values of (X, Y, Z) at voxel indices (3, X, Y, Z), the border repeated."""
    return ndimage.map_coordinates(channel, at, order=1, mode="nearest")


def warp_channels(channels: Channels, grid: Grid, affine: np.ndarray) -> Channels:
    """`channels` seen on `grid`, whose mm the (4, 4) `affine` takes to theirs; weight 0 beyond their border."""
    step = np.linalg.inv(channels.grid.affine) @ affine @ grid.affine

    def moved(image: np.ndarray, mode: str) -> np.ndarray:
        return ndimage.affine_transform(image, step[:3, :3], step[:3, 3], grid.shape, order=1, mode=mode)

    values = np.stack([moved(value, "nearest") for value in channels.values])
    return Channels(values, np.clip(moved(channels.weight, "constant"), 0.0, 1.0), grid)


def scale_displacement(field: np.ndarray, coarse: Grid, fine: Grid) -> np.ndarray:
    """A displacement (3, ...) in voxels of `coarse` as one in voxels of `fine`."""
    step = np.linalg.inv(coarse.affine) @ fine.affine
    ratio = coarse.spacing_mm[0] / fine.spacing_mm[0]
    parts = [
        ndimage.affine_transform(part, step[:3, :3], step[:3, 3], fine.shape, order=1, mode="nearest") for part in field
    ]
    return np.stack(parts) * np.float32(ratio)


def warp_labels(labels: np.ndarray, source: Grid, fit: Fit, target: Grid) -> np.ndarray:
    """Atlas labels (X, Y, Z) on `source` carried to the patient grid `target`; 0 where the atlas ends."""
    fine = scale_displacement(fit.displacement, fit.grid, target)
    step = np.linalg.inv(source.affine) @ fit.affine @ target.affine
    result = np.zeros(target.shape, labels.dtype)
    for start in range(0, target.shape[2], 32):  # slabs bound the memory of the coordinates
        slab = slice(start, min(start + 32, target.shape[2]))
        at = np.indices((*target.shape[:2], slab.stop - slab.start), dtype=np.float32)
        at[2] += start
        at += fine[..., slab]
        flat = step[:3, :3].astype(np.float32) @ at.reshape(3, -1) + step[:3, 3:4].astype(np.float32)
        result[..., slab] = ndimage.map_coordinates(labels, flat, order=0, mode="constant").reshape(at.shape[1:])
    return result
