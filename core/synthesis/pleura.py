"""Fluid and air between lung and chest wall; they obey gravity in a patient who lies on the back."""

import numpy as np

from core.structures import BY_NAME
from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.scene import Box, Finding, Scene, blend, bounding_box, offsets_mm, smooth_noise, soft_share

BOTH_SIDES_CHANCE = 0.25
COMPRESSED_MM = 10.0
"""Thickness of the airless lung that borders an effusion."""
LEAST_LUNG_ML = 150.0


def insert_pleural(scene: Scene, kind: str, rng: np.random.Generator) -> Finding | None:
    """An effusion or a pneumothorax of one side or both; None where there is no lung."""
    volume = scene.volumes_ml()
    sides = [side for side in ("left", "right") if volume[f"lung_{side}"] > LEAST_LUNG_ML]
    if not sides:
        return None
    both = kind == "pleural effusion" and len(sides) == 2 and rng.random() < BOTH_SIDES_CHANCE
    chosen = sides if both else [sides[rng.integers(len(sides))]]
    grade = int(rng.integers(len(KINDS[kind].grades)))
    mask = np.zeros(scene.hu.shape, bool)
    depth_mm = 0.0
    for side in chosen:
        depth_mm = max(depth_mm, _fill_side(scene, kind, (side, grade), mask, rng))
    if not mask.any():
        return None
    organs = tuple(f"pleura_{side}" for side in chosen)
    return Finding(Claim(kind, "present", organs, side_of_organs(organs), depth_mm, None, grade), mask)


def _fill_side(scene: Scene, kind: str, what: tuple[str, int], mask: np.ndarray, rng: np.random.Generator) -> float:
    """Replace the lowest (fluid) or highest (air) part of one lung; marks it in `mask`, returns its depth in mm."""
    side, grade = what
    lung = scene.mask(f"lung_{side}")
    box = bounding_box(lung)
    assert box is not None  # the side was chosen for its lung
    height_mm = _height_mm(scene, box, kind, rng)
    inside = lung[box]
    shares = (0.02, 0.07, 0.18, 0.4) if kind == "pleural effusion" else (0.02, 0.06, 0.15, 0.35)
    level = float(np.quantile(height_mm[inside], shares[grade] * rng.uniform(0.7, 1.3)))
    share = soft_share(height_mm - level, float(scene.spacing_mm.max())) * inside
    hu = scene.hu[box]
    if kind == "pleural effusion":
        collapsed = soft_share(height_mm - level - COMPRESSED_MM * rng.uniform(0.3, 1.0), 6.0) * inside
        blend(hu, collapsed * (1 - share) * rng.uniform(0.5, 1.0), rng.normal(50, 12))
        blend(hu, share, rng.normal(10, 5) + 6 * smooth_noise(hu.shape, 1.5, rng))
    else:
        rim = soft_share(np.abs(height_mm - level - 1.5) - 1.5, 2.0) * inside
        blend(hu, share, -1000.0)
        blend(hu, rim, -620.0)
    filled = share >= 0.5
    mask[box] |= filled
    scene.labels[box][filled] = BY_NAME[f"pleura_{side}"].number
    return level - float(height_mm[inside].min())


def _height_mm(scene: Scene, box: Box, kind: str, rng: np.random.Generator) -> np.ndarray:
    """What rises from where the fluid (back) or the air (front) gathers first, in mm, with a slope and waves."""
    offset = offsets_mm(scene, box, np.array([float(part.start) for part in box]))
    slope = rng.uniform(0.1, 0.45)  # the base fills before the apex
    upright = offset[1] + slope * offset[2] if kind == "pleural effusion" else -offset[1] - slope * 0.5 * offset[2]
    return upright + 3.0 * smooth_noise(upright.shape, 10.0, rng)
