"""Lines and nets: plates and bands, thickened septa, reticulation, and the patchwork of mosaic attenuation."""

import numpy as np
from scipy.spatial import cKDTree

from core.synthesis.lobe_fields import cloud, openness, rind
from core.synthesis.scene import FAR_MM, Box, Scene, blend, noise_mm, offsets_mm, pick_voxel, soft_share, with_rim


def paint_plates(
    scene: Scene, box: Box, lobe: np.ndarray, how: tuple[int, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Plates of tissue: how many, from which lowest share of the lobe, how thick in mm."""
    count, lowest, thick_mm = how
    origin = np.array([part.start for part in box])
    height = np.arange(lobe.shape[2]) <= np.quantile(np.nonzero(lobe)[2], min(1.0, lowest + 0.02)) + 1
    space, changed = with_rim(scene, box, lobe), np.zeros(lobe.shape, bool)
    for _ in range(count):
        voxel = pick_voxel(lobe & height[None, None, :], rng)
        if voxel is None:
            continue
        offset = offsets_mm(scene, box, voxel + origin)
        normal = rng.standard_normal(3) * np.array([0.5, 0.5, 1.0])
        normal = (normal / np.linalg.norm(normal)).astype(np.float32)
        across = np.abs(np.tensordot(normal, offset, 1) + 2.5 * noise_mm(scene, lobe.shape, 30.0, rng))
        along = np.sqrt((offset**2).sum(axis=0)) + 3.0 * noise_mm(scene, lobe.shape, 12.0, rng)
        share = thin_share(scene, across, thick_mm) * soft_share(along - rng.uniform(14, 38), 8.0) * space
        blend(scene.hu[box], share, rng.normal(10, 30))
        changed |= (share >= 0.3) & lobe
    return changed


def thin_share(scene: Scene, across_mm: np.ndarray, thick_mm: float) -> np.ndarray:
    """Partial volume of a plate `thick_mm` thick: never more than it can fill of a voxel."""
    edge = scene.coarsest_mm()
    return np.clip((thick_mm / 2 - across_mm) / edge + 0.5, 0.0, min(1.0, thick_mm / edge))


def paint_fibrotic_bands(scene: Scene, box: Box, lobe: np.ndarray, _grade: int, rng: np.random.Generator) -> np.ndarray:
    """One to three thin bands anywhere in the lobe."""
    return paint_plates(scene, box, lobe, (int(rng.integers(1, 4)), 1.0, float(rng.uniform(2.0, 4.5))), rng)


def paint_septa(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """A net of thin walls around polygons the size of lobules."""
    region = cloud(scene, box, lobe, float(rng.uniform(0.5, 0.9)), rng) * lobe
    across = _wall_distance_mm(scene, region > 0.05, float(rng.uniform(13.0, 20.0)), rng)
    gaps = np.clip(0.55 + 0.6 * noise_mm(scene, lobe.shape, 14.0, rng), 0.0, 1.0)  # most meshes stay open somewhere
    walls = thin_share(scene, across, (1.0, 1.5, 2.2)[grade]) * region * gaps
    hu = scene.hu[box]
    hu += walls * rng.uniform(450, 750) * openness(hu)
    hu += region * float(rng.uniform(0, 40)) * openness(hu)
    return region >= 0.5


def _wall_distance_mm(scene: Scene, where: np.ndarray, size_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Distance to the nearest wall between cells of random points `size_mm` apart: (x, y, z), far outside `where`."""
    distance = np.full(where.shape, np.float32(FAR_MM))
    places = np.argwhere(where) * scene.spacing_mm
    if len(places) == 0:
        return distance
    low, high = places.min(axis=0) - size_mm, places.max(axis=0) + size_mm
    count = max(2, int(np.prod(high - low) / size_mm**3))
    near, _ = cKDTree(rng.uniform(low, high, (count, 3))).query(places, k=2)
    distance[where] = (near[:, 1] - near[:, 0]) / 2
    return distance


def paint_reticulation(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """A fine net under the pleura, densest at its edge, with a little haze."""
    region = rind(scene, lobe, (0.15, 0.25, 0.4)[grade] * float(rng.uniform(0.8, 1.2)), rng) * lobe
    cells = noise_mm(scene, lobe.shape, float(rng.uniform(5.0, 8.0)), rng)
    walls = np.clip(1.0 - np.abs(cells) / 0.45, 0.0, 1.0) * region
    hu = scene.hu[box]
    hu += (walls * rng.uniform(300, 500) + region * rng.uniform(30, 110)) * openness(hu)
    return region >= 0.5


def paint_mosaic(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Sharp-edged groups of lobules that are darker or brighter than their neighbours."""
    tiles = np.clip(noise_mm(scene, lobe.shape, float(rng.uniform(14.0, 22.0)), rng) * 5.0, -1.0, 1.0)
    hu = scene.hu[box]
    hu += tiles * (60, 85, 115)[grade] * lobe * openness(hu)
    np.maximum(hu, -1000, out=hu, where=lobe)
    return lobe
