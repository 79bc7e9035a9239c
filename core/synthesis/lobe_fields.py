"""Where in a lobe a finding spreads: clouds, subpleural rinds, plates, and how open the tissue is."""

import numpy as np

from core.synthesis.scene import Box, Scene, edge_closeness, noise_mm, offsets_mm, pick_voxel

VESSEL_HU = 90.0
"""Brighter than this is a vessel with contrast medium or calcium: opacities leave it."""


def cloud(scene: Scene, box: Box, lobe: np.ndarray, fill: float, rng: np.random.Generator) -> np.ndarray:
    """A cloudy region around a random place that takes about the share `fill` of the lobe: (x, y, z) in 0..1."""
    voxel = pick_voxel(lobe, rng)
    assert voxel is not None  # the box was drawn around a lobe with voxels
    origin = np.array([part.start for part in box])
    distance = np.sqrt((offsets_mm(scene, box, voxel + origin) ** 2).sum(axis=0))
    reach_mm = max(12.0, float(np.cbrt(lobe.sum() * scene.grid.voxel_ml * 1000.0)) * 0.5)
    ragged = 0.3 * noise_mm(scene, lobe.shape, 18.0, rng) + 0.15 * noise_mm(scene, lobe.shape, 7.0, rng)
    return _fill_lowest(distance / reach_mm + ragged, lobe, fill)


def patches(scene: Scene, lobe: np.ndarray, fill: float, size_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Several separate clouds all over the lobe: (x, y, z) in 0..1."""
    return _fill_lowest(0.8 * noise_mm(scene, lobe.shape, size_mm, rng), lobe, fill)


def rind(scene: Scene, lobe: np.ndarray, fill: float, rng: np.random.Generator) -> np.ndarray:
    """A band under the pleura with a ragged inner edge: (x, y, z) in 0..1."""
    depth = -2.5 * edge_closeness(scene, lobe, 14.0) + 0.35 * noise_mm(scene, lobe.shape, 14.0, rng)
    return _fill_lowest(depth, lobe, fill)


def dependent(scene: Scene, box: Box, lobe: np.ndarray, fill: float, rng: np.random.Generator) -> np.ndarray:
    """The lowest part by gravity and height: (x, y, z) in 0..1."""
    offset = offsets_mm(scene, box, np.array([float(part.start) for part in box]))
    down = offset[1] * (-1.0 if scene.is_prone else 1.0)
    depth = (rng.uniform(0.3, 1.0) * offset[2] + down) / 40.0 + 0.15 * noise_mm(scene, lobe.shape, 20.0, rng)
    return _fill_lowest(depth, lobe, fill)


def _fill_lowest(field: np.ndarray, lobe: np.ndarray, fill: float) -> np.ndarray:
    """1 where `field` is among the lowest `fill` of the lobe, with a ramp at the edge; also beyond the lobe."""
    values = field[lobe]
    level = float(np.quantile(values[:: max(1, len(values) // 4000)], min(0.999, fill)))
    return np.clip((level - field) / 0.2 + 0.5, 0.0, 1.0)


def openness(hu: np.ndarray) -> np.ndarray:
    """1 in aerated lung, 0 in vessels and walls, a ramp between -600 and -400 HU."""
    return np.clip((-400.0 - hu) / 200.0, 0.0, 1.0)
