"""Findings that spread through lung tissue: opacities, collapse, emphysema, bands, septa, bronchi."""

from collections.abc import Callable

import numpy as np

from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.scene import (
    Box,
    Finding,
    Scene,
    blend,
    bounding_box,
    mask_in_box,
    offsets_mm,
    pick_voxel,
    smooth_noise,
    soft_share,
    tube_distance_mm,
)

AERATED_HU = -500.0
"""Lung darker than this counts as open tissue; vessels are brighter and stay as they are."""

Painter = Callable[[Scene, Box, np.ndarray, int, np.random.Generator], np.ndarray]
"""Changes scene.hu in a box of one lobe (x, y, z) bool for a grade, and returns what it changed, (x, y, z) bool."""


def insert_in_lobes(scene: Scene, kind: str, rng: np.random.Generator) -> Finding | None:
    """A finding of `kind` in one or more random lobes; None where there is no lung."""
    lobes = scene.lobes()
    if not lobes:
        return None
    count = min(len(lobes), int(rng.choice(_LOBE_COUNTS[kind])))
    chosen = sorted(rng.choice(lobes, count, replace=False).tolist(), key=lobes.index)
    grade = int(rng.integers(max(1, len(KINDS[kind].grades))))
    mask = np.zeros(scene.hu.shape, bool)
    touched = []
    for lobe in chosen:
        painted = _paint_lobe(scene, kind, lobe, grade, rng)
        if painted is not None:
            mask |= painted
            touched.append(lobe)
    if not touched:
        return None
    return Finding(Claim(kind, "present", tuple(touched), side_of_organs(touched), grade=grade), mask)


def _paint_lobe(scene: Scene, kind: str, lobe: str, grade: int, rng: np.random.Generator) -> np.ndarray | None:
    inside = scene.mask(lobe)
    box = bounding_box(inside)
    if box is None:
        return None
    changed = _PAINTERS[kind](scene, box, inside[box], grade, rng)
    return mask_in_box(scene, box, changed) if changed.sum() * scene.grid.voxel_ml > 0.5 else None


def _patch_share(scene: Scene, box: Box, lobe: np.ndarray, fill: float, rng: np.random.Generator) -> np.ndarray:
    """A cloudy region around a random place that takes about the fraction `fill` of the lobe: (x, y, z) in 0..1."""
    origin = np.array([part.start for part in box])
    voxel = pick_voxel(lobe, rng)
    assert voxel is not None  # the box was drawn around a lobe with voxels
    distance = np.sqrt((offsets_mm(scene, box, voxel + origin) ** 2).sum(axis=0))
    reach_mm = max(12.0, float(np.cbrt(lobe.sum() * scene.grid.voxel_ml * 1000.0)) * 0.5)
    field = distance / reach_mm + 0.45 * smooth_noise(lobe.shape, 16.0 / float(scene.spacing_mm.max()), rng)
    level = float(np.quantile(field[lobe], fill))
    return np.clip((level - field) / 0.25 + 0.5, 0.0, 1.0) * lobe


def _consolidation(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    share = _patch_share(scene, box, lobe, (0.12, 0.18, 0.3, 0.6)[grade] * rng.uniform(0.8, 1.3), rng)
    open_bronchi = np.abs(smooth_noise(lobe.shape, 3.0, rng)) < 0.08
    share = share * np.where(open_bronchi, 0.45, 1.0)
    blend(scene.hu[box], share, rng.normal(35, 15) + 20 * smooth_noise(lobe.shape, 1.5, rng))
    return share >= 0.4


def _ground_glass(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    share = _patch_share(scene, box, lobe, (0.15, 0.25, 0.5, 0.75)[grade] * rng.uniform(0.8, 1.2), rng)
    gain = rng.uniform(200, 380) * (1 + 0.25 * smooth_noise(lobe.shape, 2.0, rng))
    hu = scene.hu[box]
    hu += share * np.clip(gain, 60, 480) * (hu < AERATED_HU)
    return share >= 0.5


def _atelectasis(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Bands near the base, or, when extensive, the lobe's dependent base collapsed."""
    if grade >= 2:
        return _collapse(scene, box, lobe, grade, rng)
    return _bands(scene, box, lobe, (int(rng.integers(1, 4)), 0.35, float(rng.uniform(4.0, 7.5))), rng)


def _collapse(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """The lowest and hindmost part of the lobe becomes airless."""
    origin = np.array([float(part.start) for part in box])
    offset = offsets_mm(scene, box, origin)
    depth = offset[2] + rng.uniform(0.4, 1.0) * offset[1] + 6.0 * smooth_noise(lobe.shape, 6.0, rng)
    level = float(np.quantile(depth[lobe], (0.0, 0.0, 0.12, 0.3)[grade]))
    share = soft_share(depth - level, 6.0) * lobe
    blend(scene.hu[box], share, rng.normal(55, 15))
    return share >= 0.5


def _fibrotic_band(scene: Scene, box: Box, lobe: np.ndarray, _grade: int, rng: np.random.Generator) -> np.ndarray:
    return _bands(scene, box, lobe, (int(rng.integers(1, 3)), 1.0, float(rng.uniform(3.0, 5.0))), rng)


def _bands(
    scene: Scene, box: Box, lobe: np.ndarray, how: tuple[int, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Plates of tissue: how many, from which lowest share of the lobe, how thick in mm."""
    count, lowest, thick_mm = how
    origin = np.array([part.start for part in box])
    height = np.arange(lobe.shape[2]) < np.quantile(np.nonzero(lobe)[2], min(1.0, lowest + 0.02)) + 1
    changed = np.zeros(lobe.shape, bool)
    for _ in range(count):
        voxel = pick_voxel(lobe & height[None, None, :], rng)
        if voxel is None:
            continue
        offset = offsets_mm(scene, box, voxel + origin)
        normal = rng.standard_normal(3) * np.array([0.5, 0.5, 1.0])
        normal = (normal / np.linalg.norm(normal)).astype(np.float32)
        across = np.abs(np.einsum("i,ixyz->xyz", normal, offset)) + 1.5 * smooth_noise(lobe.shape, 8.0, rng)
        along = np.sqrt((offset**2).sum(axis=0))
        share = soft_share(across - thick_mm / 2, 4.0) * soft_share(along - rng.uniform(18, 38), 8.0) * lobe
        blend(scene.hu[box], share, rng.normal(0, 40))
        changed |= share >= 0.4
    return changed


def _emphysema(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Holes without walls; more and larger ones with the grade."""
    share = np.clip(smooth_noise(lobe.shape, rng.uniform(1.6, 3.2), rng) - (0.9, 0.5, 0.1)[grade], 0.0, 0.6) / 0.6
    region = _patch_share(scene, box, lobe, (0.5, 0.7, 0.9)[grade], rng)
    hu = scene.hu[box]
    where = share * region * (hu < -650)
    blend(hu, where, rng.uniform(-995, -970))
    return (region >= 0.5) & lobe


def _septal(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """A net of thin walls: zero lines of a random field with the size of lobules."""
    cells = smooth_noise(lobe.shape, rng.uniform(3.0, 4.5), rng)
    region = _patch_share(scene, box, lobe, rng.uniform(0.5, 0.85), rng)
    walls = np.clip(1.0 - np.abs(cells) / (0.12, 0.18, 0.25)[grade], 0.0, 1.0) * region
    hu = scene.hu[box]
    hu += walls * rng.uniform(220, 380) * (hu < AERATED_HU)
    return (region >= 0.5) & lobe


def _mosaic(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Sharp-edged lobules that are darker or brighter than their neighbours."""
    tiles = np.clip(smooth_noise(lobe.shape, rng.uniform(4.0, 6.0), rng) * 4.0, -1.0, 1.0)
    hu = scene.hu[box]
    hu += tiles * (55, 80, 110)[grade] * lobe * (hu < AERATED_HU)
    np.maximum(hu, -1000, out=hu)
    return lobe


def _bronchial_walls(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    return _bronchi(scene, box, lobe, (2.0 + 0.3 * grade, 2.2 + 0.7 * grade), rng)


def _bronchiectasis(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    return _bronchi(scene, box, lobe, (4.0 + 1.5 * grade, 2.0), rng)


def _bronchi(
    scene: Scene, box: Box, lobe: np.ndarray, radii_mm: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Branching tubes from the hilum outwards; `radii_mm`: lumen and wall thickness."""
    lumen_mm, wall_mm = radii_mm
    origin = np.array([part.start for part in box])
    hilum = origin + _hilum(scene, box, lobe)
    changed = np.zeros(lobe.shape, bool)
    hu = scene.hu[box]
    for _ in range(int(rng.integers(3, 6))):
        end = pick_voxel(lobe, rng)
        assert end is not None  # the box was drawn around a lobe with voxels
        middle = hilum + (end + origin - hilum) * 0.5 + rng.uniform(-2, 2, 3)
        distance = tube_distance_mm(scene, box, np.array([hilum, middle, end + origin]))
        blend(hu, soft_share(distance - lumen_mm - wall_mm, 3.0) * lobe, rng.normal(-20, 40))
        blend(hu, soft_share(distance - lumen_mm, 3.0) * lobe, -940.0)
        changed |= (distance < lumen_mm + wall_mm + 1.0) & lobe
    return changed


def _hilum(scene: Scene, box: Box, lobe: np.ndarray) -> np.ndarray:
    """The lobe's voxel nearest to the middle of the chest, (3,) within the box."""
    places = np.argwhere(lobe)
    lung = np.argwhere(scene.mask("lung")[:, :, ::2])
    centre = lung.mean(axis=0) * [1, 1, 2] - [part.start for part in box]
    return places[(((places - centre) * scene.spacing_mm) ** 2).sum(axis=1).argmin()]


_PAINTERS: dict[str, Painter] = {
    "consolidation": _consolidation,
    "ground-glass opacity": _ground_glass,
    "atelectasis": _atelectasis,
    "fibrotic band": _fibrotic_band,
    "emphysema": _emphysema,
    "septal thickening": _septal,
    "mosaic attenuation": _mosaic,
    "bronchial wall thickening": _bronchial_walls,
    "bronchiectasis": _bronchiectasis,
}
_LOBE_COUNTS: dict[str, tuple[int, ...]] = {
    "consolidation": (1, 1, 1, 2),
    "ground-glass opacity": (1, 1, 2, 5),
    "atelectasis": (1, 1, 2),
    "fibrotic band": (1,),
    "emphysema": (1, 2, 5),
    "septal thickening": (1, 2, 5),
    "mosaic attenuation": (1, 2, 5),
    "bronchial wall thickening": (1, 2),
    "bronchiectasis": (1, 1, 2),
}
"""How many lobes a kind takes; drawn evenly."""
