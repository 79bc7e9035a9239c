"""Calcium in the walls of arteries, and where the coronary arteries run on a heart that only has an outline."""

import numpy as np
from scipy import ndimage

from core.synthesis.claims import Claim
from core.synthesis.scene import Finding, Scene, blend, bounding_box, mask_in_box, noise_mm, tube_depth_mm

LEAST_ML = 30.0
PLAQUES = ((1, 3), (3, 6), (6, 12))
"""Fewest and most coronary plaques, by grade."""
WALL_SHARES = (0.03, 0.08, 0.18)
"""Share of the aortic wall that is calcified, by grade."""


def insert_coronary_calcification(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """Dense short pieces along the coronary arteries."""
    lines = coronary_lines(scene, rng)
    box = bounding_box(scene.mask("heart"), margin=2)
    if not lines or box is None:
        return None
    grade = int(rng.integers(3))
    mask = np.zeros(scene.hu[box].shape, bool)
    for _ in range(int(rng.integers(*PLAQUES[grade])) + 1):
        line = lines[min(len(lines) - 1, int(rng.choice([0, 0, 0, 1, 2])))]
        start = int(rng.integers(max(1, len(line) - 4)))
        piece = line[start : start + int(rng.integers(2, 4))]
        share = np.clip(0.5 - tube_depth_mm(scene, box, piece, rng.uniform(0.9, 2.0)) / scene.coarsest_mm(), 0, 1)
        blend(scene.hu[box], share, float(rng.uniform(450, 1300)))
        mask |= share >= 0.35
    if not mask.any():
        return None
    return Finding(Claim("coronary calcification", "present", ("heart",), grade=grade), mask_in_box(scene, box, mask))


def coronary_lines(scene: Scene, rng: np.random.Generator) -> list[np.ndarray]:
    """Anterior descending, right and circumflex artery as (P, 3) voxels on the heart's surface; [] without a heart.

    They start where the aorta leaves the heart and run to the apex, along the right border and around the back. A step
    is about 5 mm. Which side the apex points to is read from the heart, so that mirrored patients keep their anatomy.
    """
    heart = scene.mask("heart")
    box = bounding_box(heart, margin=1)
    if box is None or heart.sum() * scene.grid.voxel_ml < LEAST_ML:
        return []
    inside, origin = heart[box], np.array([part.start for part in box])
    wall = np.argwhere(inside & ~ndimage.binary_erosion(inside)) + origin
    places = wall * scene.spacing_mm
    middle, size = places.mean(axis=0), np.ptp(places, axis=0)
    side = apex_side(scene)
    root = middle + size * [0.05 * side, 0.12, 0.33]
    ends = ((0.45, 0.32, -0.38), (-0.45, 0.2, -0.35), (0.42, -0.3, -0.1))
    bows = ((0.12, 0.35, 0.0), (-0.3, 0.3, 0.05), (0.35, 0.1, 0.15))
    lines = []
    for end, bow in zip(ends, bows, strict=True):
        tip = middle + size * end * np.array([side, 1, 1]) + rng.normal(0, 4, 3)
        steps = max(5, int(np.linalg.norm(tip - root) / 5.0))
        at = np.linspace(0.05, 1, steps)[:, None]
        path = root + at * (tip - root) + np.sin(np.pi * at) * size * bow * np.array([side, 1, 1])
        nearest = [((places - point) ** 2).sum(axis=1).argmin() for point in path]
        lines.append(wall[nearest] * 0.5 + wall[np.roll(nearest, -1)] * 0.5)
        lines[-1][-1] = wall[nearest[-1]]
    return lines


def apex_side(scene: Scene) -> float:
    """-1 where the heart lies more to the left of the chest (as it should), 1 in a mirrored patient."""
    heart, lungs = bounding_box(scene.mask("heart")), bounding_box(scene.mask("lung"))
    if heart is None or lungs is None:
        return -1.0
    return -1.0 if heart[0].start + heart[0].stop < lungs[0].start + lungs[0].stop else 1.0


def insert_aortic_calcification(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """Plaques in the wall of the aorta."""
    aorta = scene.mask("aorta")
    box = bounding_box(aorta, margin=1)
    if box is None or aorta.sum() * scene.grid.voxel_ml < LEAST_ML:
        return None
    grade = int(rng.integers(3))
    inside = aorta[box]
    wall = inside & ~ndimage.binary_erosion(inside)
    field = noise_mm(scene, wall.shape, float(rng.uniform(6.0, 11.0)), rng)
    level = float(np.quantile(field[wall], 1 - WALL_SHARES[grade] * rng.uniform(0.7, 1.3)))
    share = np.clip((field - level) / 0.35 + 0.3, 0.0, 1.0) * wall * (field > level)
    if not (share > 0.35).any():
        return None
    thickness = min(1.0, 2.0 / scene.coarsest_mm())
    blend(scene.hu[box], share * thickness, float(rng.uniform(700, 1500)))
    return Finding(
        Claim("aortic calcification", "present", ("aorta",), grade=grade), mask_in_box(scene, box, share > 0.35)
    )
