"""Bronchi drawn from the hilum outwards: dilated, with thick walls, or open in consolidated lung."""

import numpy as np

from core.synthesis.scene import Box, Scene, blend, bounding_box, pick_voxel, tube_depth_mm

WALL_HU = (-60.0, 40.0)


def draw_tree(
    scene: Scene, box: Box, between: tuple[np.ndarray, np.ndarray], count: int, reach: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """Middle lines of `count` bronchi that share their first part: each (4, 3) voxels of the scene.

    `between`: where they start, (3,) voxels within the box, and where they may end, (x, y, z) bool. `reach` is the
    share of the way to a random voxel of these that a bronchus goes.
    """
    origin = np.array([part.start for part in box])
    hilum = origin + between[0]
    ends = [origin + voxel for voxel in (pick_voxel(between[1], rng) for _ in range(count)) if voxel is not None]
    trunk = hilum + 0.3 * (np.mean(ends, axis=0) - hilum)
    lines = []
    for end in ends:
        tip = hilum + reach * (end - hilum)
        bend = rng.normal(0, 4.0, 3) / scene.spacing_mm
        lines.append(np.array([hilum, trunk, (trunk + tip) / 2 + bend, tip]))
    return lines


def find_hilum(scene: Scene, box: Box, lobe: np.ndarray) -> np.ndarray:
    """The lobe's voxel nearest to the middle of the chest, (3,) within the box."""
    places = np.argwhere(lobe)
    places = places[:: max(1, len(places) // 5000)]
    chest = bounding_box(scene.mask("lung"))
    assert chest is not None  # the lobe is part of it
    middle = np.array([(part.start + part.stop) / 2 for part in chest]) - [part.start for part in box]
    return places[(((places - middle) * scene.spacing_mm) ** 2).sum(axis=1).argmin()]


def paint_bronchial_walls(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Bronchi of ordinary width with walls of 1.2 to 2.4 mm, far out into the lobe."""
    return _paint_tubes(scene, box, lobe, (float(rng.uniform(1.4, 2.2)), 1.2 + 0.6 * grade), rng)


def paint_bronchiectasis(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Bronchi wider than the artery beside them that do not taper."""
    return _paint_tubes(scene, box, lobe, (2.6 + 1.2 * grade + float(rng.uniform(0, 0.8)), 1.3), rng)


def _paint_tubes(
    scene: Scene, box: Box, lobe: np.ndarray, radii_mm: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Tubes and their arteries; `radii_mm`: lumen and thickness of the wall. Returns tubes with their walls."""
    lumen_mm, wall_mm = radii_mm
    changed, hu, edge = np.zeros(lobe.shape, bool), scene.hu[box], scene.coarsest_mm()
    artery = scene.hu[scene.mask("heart")]
    artery_hu = float(np.clip(np.median(artery), 20, 250)) if len(artery) else 40.0
    ends = (find_hilum(scene, box, lobe), lobe)
    for line in draw_tree(scene, box, ends, int(rng.integers(4, 9)), float(rng.uniform(0.6, 0.85)), rng):
        radii = lumen_mm * np.linspace(1.1, 0.75, len(line)) * rng.uniform(0.85, 1.2, len(line))
        depth = tube_depth_mm(scene, box, line, radii)
        beside = rng.standard_normal(3) * (radii.mean() + wall_mm + 2.0) / scene.spacing_mm / 1.7
        vessel = tube_depth_mm(scene, box, line + beside, radii * 0.55)
        blend(hu, np.clip(0.5 - vessel / edge, 0, 1) * lobe, artery_hu)
        wall = np.clip(np.minimum(0.5 - (depth - wall_mm) / edge, 1.0), 0.0, min(1.0, 2 * wall_mm / edge)) * lobe
        blend(hu, wall, float(rng.uniform(*WALL_HU)))
        blend(hu, np.clip(0.5 - depth / edge, 0, 1) * lobe, -945.0)
        changed |= (depth < wall_mm + 0.3 * edge) & lobe
    return changed
