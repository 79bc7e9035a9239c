"""Opacities of lung tissue: consolidation with air bronchograms, ground glass, atelectasis as plates or collapse."""

import numpy as np

from core.synthesis.bronchi import draw_tree, find_hilum
from core.synthesis.interstitium import paint_plates
from core.synthesis.lobe_fields import VESSEL_HU, cloud, dependent, openness, patches, rind
from core.synthesis.scene import Box, Scene, blend, noise_mm, soft_share, tube_depth_mm, with_rim


def paint_consolidation(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Airless lung as dense as muscle: scattered foci, one focus or most of a lobe, with open bronchi in it."""
    fill = (0.08, 0.13, 0.28, 0.7)[grade] * float(rng.uniform(0.7, 1.3))
    field = patches(scene, lobe, fill, 16.0, rng) if grade == 0 else cloud(scene, box, lobe, fill, rng)
    share = field * with_rim(scene, box, lobe)
    hu = scene.hu[box]
    halo = np.clip(share * 2.5, 0, 1) * openness(hu) * (share < 0.5)
    hu += halo * float(rng.uniform(80, 300))
    solid = np.clip((share - 0.3) / 0.4, 0.0, 1.0)
    solidify(scene, box, solid, float(rng.normal(38, 12)), rng)
    _open_bronchi(scene, box, lobe, solid, rng)
    return (share >= 0.45) & lobe


def solidify(scene: Scene, box: Box, share: np.ndarray, target_hu: float, rng: np.random.Generator) -> None:
    """Fill `share` of each voxel of a box with tissue; enhanced vessels stay."""
    hu = scene.hu[box]
    tissue = target_hu + 12.0 * noise_mm(scene, hu.shape, 5.0, rng)
    blend(hu, share, np.where(hu > VESSEL_HU, hu, tissue))


def _open_bronchi(scene: Scene, box: Box, lobe: np.ndarray, solid: np.ndarray, rng: np.random.Generator) -> None:
    """Air bronchograms: dark branching lines where the tissue around them is solid."""
    if rng.random() < 0.2:
        return
    inside = solid > 0.6
    if not inside.any():
        return
    hilum = find_hilum(scene, box, lobe)
    for line in draw_tree(scene, box, (hilum, inside), int(rng.integers(4, 9)), 0.9, rng):
        radii = np.linspace(float(rng.uniform(1.8, 2.8)), 0.9, len(line))
        air = np.clip(0.5 - tube_depth_mm(scene, box, line, radii) / scene.coarsest_mm(), 0.0, 1.0)
        blend(scene.hu[box], air * solid, -920.0)


def paint_ground_glass(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """A haze that leaves vessels visible: one cloud, patches, a rind under the pleura, or most of the lobe."""
    fill = (0.12, 0.25, 0.5, 0.85)[grade] * float(rng.uniform(0.8, 1.15))
    kind = rng.random()
    if kind < 0.3:
        share = rind(scene, lobe, fill * 0.8, rng)
    elif kind < 0.55:
        share = patches(scene, lobe, fill, float(rng.uniform(14, 26)), rng)
    else:
        share = cloud(scene, box, lobe, fill, rng)
    share = share * lobe
    gain = float(rng.uniform(130, 380)) if grade else float(rng.uniform(110, 220))
    texture = np.clip(1 + 0.2 * noise_mm(scene, lobe.shape, 6.0, rng), 0.5, 1.5)
    hu = scene.hu[box]
    hu += share * gain * texture * openness(hu)
    return share >= 0.5


def paint_atelectasis(scene: Scene, box: Box, lobe: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Plates near the base, or, from moderate on, airless dependent lung."""
    if grade < 2:
        return paint_plates(scene, box, lobe, (int(rng.integers(1, 4)), 0.4, float(rng.uniform(3.0, 7.0))), rng)
    share = dependent(scene, box, lobe, (0.0, 0.0, 0.14, 0.38)[grade] * float(rng.uniform(0.7, 1.3)), rng)
    share = share * with_rim(scene, box, lobe)
    solidify(scene, box, share, float(rng.normal(62, 15)), rng)
    if grade == 3:
        _open_bronchi(scene, box, lobe, share * float(rng.uniform(0, 1)), rng)
    return (share >= 0.5) & lobe


def paint_collapsed(
    scene: Scene, box: Box, depth_mm: np.ndarray, allowed: np.ndarray, rng: np.random.Generator
) -> None:
    """Lung that fluid has pressed airless: where `depth_mm` (x, y, z) is negative and `allowed`, share-wise."""
    share = soft_share(depth_mm, 5.0) * allowed
    solidify(scene, box, share * float(rng.uniform(0.75, 1.0)), float(rng.normal(60, 14)), rng)
