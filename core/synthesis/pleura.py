"""Fluid and air between lung and chest wall; they obey gravity."""

import numpy as np

from core.structures import BY_NAME
from core.synthesis.bronchi import find_hilum
from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.lobe_fields import openness
from core.synthesis.opacities import paint_collapsed
from core.synthesis.scene import (
    Box,
    Finding,
    Scene,
    blend,
    bounding_box,
    edge_closeness,
    noise_mm,
    offsets_mm,
    soft_share,
    with_rim,
)

BOTH_SIDES_CHANCE = 0.25
COMPRESSED_MM = (5.0, 22.0)
"""Thickness of the airless lung that borders an effusion, from a small to a large one."""
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


_FLUID_SHARES, _AIR_SHARES = (0.015, 0.06, 0.17, 0.42), (0.02, 0.06, 0.16, 0.38)
"""Share of the lung's space that each grade takes."""


def _fill_side(scene: Scene, kind: str, what: tuple[str, int], mask: np.ndarray, rng: np.random.Generator) -> float:
    """Replace the lowest (fluid) or highest (air) part of one lung; marks it in `mask`, returns its depth in mm."""
    side, grade = what
    lung = scene.mask(f"lung_{side}")
    box = bounding_box(lung, margin=2)
    assert box is not None  # the side was chosen for its lung
    inside = lung[box]
    is_fluid = kind == "pleural effusion"
    height_mm = _height_mm(scene, box, inside, kind, rng)
    shares = _FLUID_SHARES if is_fluid else _AIR_SHARES
    level = float(np.quantile(height_mm[inside], shares[grade] * rng.uniform(0.7, 1.3)))
    if is_fluid:
        share = _paint_fluid(scene, box, inside, (height_mm - level, grade), rng)
    else:
        share = _paint_air(scene, box, inside, (height_mm - level, grade), rng)
    filled = (share >= 0.5) & inside
    mask[box] |= filled
    scene.labels[box][filled] = BY_NAME[f"pleura_{side}"].number
    return level - float(height_mm[inside].min())


def _paint_fluid(
    scene: Scene, box: Box, inside: np.ndarray, what: tuple[np.ndarray, int], rng: np.random.Generator
) -> np.ndarray:
    """Water below the level, and lung pressed airless above it."""
    above_mm, grade = what
    space = with_rim(scene, box, inside)
    share = soft_share(above_mm, scene.coarsest_mm()) * space
    low, high = COMPRESSED_MM
    pressed = low + (high - low) * grade / 3 * float(rng.uniform(0.4, 1.0))
    uneven = pressed * np.clip(1 + 0.5 * noise_mm(scene, inside.shape, 30.0, rng), 0.1, 2.0)
    paint_collapsed(scene, box, above_mm - uneven, space * (1 - share), rng)
    blend(scene.hu[box], share, float(rng.normal(10, 6)) + 4 * noise_mm(scene, inside.shape, 6.0, rng))
    return share


def _paint_air(
    scene: Scene, box: Box, inside: np.ndarray, what: tuple[np.ndarray, int], rng: np.random.Generator
) -> np.ndarray:
    """Air without vessels above the level, a thin pleural line, and lung that is denser for having shrunk."""
    below_mm, grade = what
    share = soft_share(below_mm, scene.coarsest_mm()) * inside
    hu = scene.hu[box]
    hu += inside * (share < 0.5) * openness(hu) * float(rng.uniform(10, 40)) * (1 + grade)
    blend(hu, share, -1000.0)
    line = np.clip(1.2 - np.abs(below_mm - 1.0) / scene.coarsest_mm(), 0, min(1.0, 2.0 / scene.coarsest_mm())) * inside
    blend(hu, line, -450.0)
    return share


def _height_mm(scene: Scene, box: Box, inside: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """What rises from where the fluid (lowest) or the air (highest) gathers first, in mm; fluid climbs at the walls."""
    offset = offsets_mm(scene, box, np.array([float(part.start) for part in box]))
    up = -offset[1] if scene.is_prone else offset[1]
    slope = float(rng.uniform(0.12, 0.5))  # the base fills before the apex, air goes to the apex as well as forward
    waves = 2.5 * noise_mm(scene, up.shape, 35.0, rng)
    if kind == "pneumothorax":
        # the lung shrinks towards its root and leaves a rounded edge
        root = offset[:, *find_hilum(scene, box, inside)]
        away = np.sqrt(((offset - root[:, None, None, None]) ** 2).sum(axis=0))
        return -0.8 * up - slope * offset[2] - 0.7 * away + waves
    meniscus = float(rng.uniform(8, 25)) * edge_closeness(scene, inside, 10.0)
    return up + slope * offset[2] - meniscus + waves
