"""Emphysema: small holes without walls, and air cysts under the pleura."""

import numpy as np

from core.synthesis.lobe_fields import cloud, openness
from core.synthesis.scene import Box, Scene, blend, edge_closeness, noise_mm, offsets_mm, pick_voxel

HOLE_HU = (-998.0, -965.0)


def paint_emphysema(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Centrilobular holes, bullae under the pleura, or both; more and larger ones with the grade."""
    kind = rng.random()
    changed = np.zeros(lobe.shape, bool)
    if kind < 0.75:
        changed |= _paint_holes(scene, box, lobe, grade, rng)
    if kind > 0.5:
        changed |= _paint_bullae(scene, box, lobe, grade, rng)
    return changed


def _paint_holes(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Round holes of 4 to 12 mm, thickest in the upper part of the lobe; their region is the finding."""
    holes = noise_mm(scene, lobe.shape, float(rng.uniform(5.0, 8.0)), rng)
    holes = np.clip((holes - (0.7, 0.35, 0.0)[grade]) / 0.25, 0.0, 1.0)
    region = cloud(scene, box, lobe, (0.5, 0.7, 0.95)[grade], rng) * lobe
    hu = scene.hu[box]
    hu -= region * (15.0, 30.0, 45.0)[grade] * openness(hu)
    blend(hu, holes * region * openness(hu), float(rng.uniform(*HOLE_HU)))
    return region >= 0.5


def _paint_bullae(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Thin-walled air cysts along the surface of the lobe."""
    origin = np.array([part.start for part in box])
    surface = lobe & (edge_closeness(scene, lobe, 5.0) > 0.35)
    changed, hu = np.zeros(lobe.shape, bool), scene.hu[box]
    for _ in range(int(rng.integers(3, 6) + 3 * grade)):
        voxel = pick_voxel(surface, rng)
        if voxel is None:
            break
        radius = float(rng.uniform(5, 9 + 5 * grade))
        gap = np.sqrt((offsets_mm(scene, box, voxel + origin) ** 2).sum(axis=0)) - radius
        gap = gap + 0.12 * radius * noise_mm(scene, lobe.shape, max(6.0, radius), rng)
        wall = np.clip(1.0 - np.abs(gap) / scene.coarsest_mm(), 0.0, 1.0) * lobe
        hu += wall * 90.0 * openness(hu)
        inner = np.clip(0.5 - gap / scene.coarsest_mm(), 0.0, 1.0) * lobe
        blend(hu, inner, float(rng.uniform(*HOLE_HU)))
        changed |= inner >= 0.5
    return changed
