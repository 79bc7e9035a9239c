"""Findings that spread through lung tissue: one or more lobes, an extent, and a painter for each kind."""

from collections.abc import Callable

import numpy as np

from core.synthesis.bronchi import paint_bronchial_walls, paint_bronchiectasis
from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.emphysema import paint_emphysema
from core.synthesis.interstitium import paint_fibrotic_bands, paint_mosaic, paint_reticulation, paint_septa
from core.synthesis.opacities import paint_atelectasis, paint_consolidation, paint_ground_glass
from core.synthesis.scene import Box, Finding, Scene, bounding_box, mask_in_box

Painter = Callable[[Scene, Box, np.ndarray, int, np.random.Generator], np.ndarray]
"""Changes scene.hu in a box of one lobe (x, y, z) bool for a grade, and returns what it changed, (x, y, z) bool."""

LEAST_ML = 0.3
"""Less than this is not a finding."""


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
    box = bounding_box(inside, margin=2)
    if box is None:
        return None
    changed = _PAINTERS[kind](scene, box, inside[box], grade, rng)
    return mask_in_box(scene, box, changed) if changed.sum() * scene.grid.voxel_ml > LEAST_ML else None


_PAINTERS: dict[str, Painter] = {
    "consolidation": paint_consolidation,
    "ground-glass opacity": paint_ground_glass,
    "atelectasis": paint_atelectasis,
    "fibrotic band": paint_fibrotic_bands,
    "fibrotic reticulation": paint_reticulation,
    "emphysema": paint_emphysema,
    "septal thickening": paint_septa,
    "mosaic attenuation": paint_mosaic,
    "bronchial wall thickening": paint_bronchial_walls,
    "bronchiectasis": paint_bronchiectasis,
}
_LOBE_COUNTS: dict[str, tuple[int, ...]] = {
    "consolidation": (1, 1, 1, 2),
    "ground-glass opacity": (1, 1, 2, 5),
    "atelectasis": (1, 1, 2),
    "fibrotic band": (1,),
    "fibrotic reticulation": (1, 2, 5),
    "emphysema": (1, 2, 5),
    "septal thickening": (1, 2, 5),
    "mosaic attenuation": (1, 2, 5),
    "bronchial wall thickening": (1, 2),
    "bronchiectasis": (1, 1, 2),
}
"""How many lobes a kind takes; drawn evenly."""
