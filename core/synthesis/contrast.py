"""Contrast medium: which vessels and organs hold how much of it, by the time after the injection."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from core.structures import BY_NAME
from core.synthesis.scene import Scene, bounding_box, noise_mm

BLOOD_HU = 42.0
"""Blood without contrast medium."""
ENHANCED_HU = 90.0
"""Blood brighter than this holds contrast medium already."""

GROUPS: dict[str, tuple[str, ...]] = {
    "veins": ("superior_vena_cava", "brachiocephalic_vein_left", "brachiocephalic_vein_right"),
    "pulmonary": ("pulmonary_artery",),
    "heart": ("heart",),
    "arteries": (
        "aorta",
        "pulmonary_vein",
        "brachiocephalic_trunk",
        "subclavian_artery_left",
        "subclavian_artery_right",
        "common_carotid_artery_left",
        "common_carotid_artery_right",
    ),
    "lower veins": ("inferior_vena_cava", "portal_vein_and_splenic_vein"),
    "liver": ("liver",),
    "spleen": ("spleen",),
    "kidney": ("kidney",),
}
"""Structures that light up together."""


class Phase(NamedTuple):
    """One moment after the injection."""

    chance: float
    levels_hu: tuple[float, ...]
    """Mean HU of each of `GROUPS`, in their order."""


PHASES: dict[str, Phase] = {
    "plain": Phase(0.35, (42, 42, 42, 42, 42, 58, 50, 35)),
    "pulmonary": Phase(0.15, (450, 360, 220, 130, 45, 60, 60, 50)),
    "arterial": Phase(0.25, (260, 250, 210, 310, 60, 68, 110, 130)),
    "venous": Phase(0.25, (150, 145, 140, 145, 130, 105, 115, 180)),
}
"""Phases and how often each is drawn."""
SPREAD = 0.2
"""Deviation of a group's uptake relative to its phase's mean: no two patients' circulation is alike."""


def recontrast(scene: Scene, rng: np.random.Generator) -> None:
    """Draw a phase and bring every group of vessels and organs to its level, in place. Missing structures stay."""
    names = list(PHASES)
    chances = np.array([phase.chance for phase in PHASES.values()])
    phase = PHASES[names[rng.choice(len(names), p=chances / chances.sum())]]
    targets = [mean + (mean - BLOOD_HU) * SPREAD * float(rng.standard_normal()) for mean in phase.levels_hu]
    blood_now = _median(scene, scene.mask("aorta"))
    unnamed = _unnamed_vessels(scene) if blood_now > ENHANCED_HU else None
    for (group, parts), target in zip(GROUPS.items(), targets, strict=True):
        where = scene.mask(*parts)
        if group == "pulmonary" and unnamed is not None:
            where |= unnamed
        _bring_to(scene, where, target, rng if group == "heart" else None)


def _median(scene: Scene, where: np.ndarray) -> float:
    values = scene.hu[where]
    return float(np.median(values)) if len(values) else BLOOD_HU


def _unnamed_vessels(scene: Scene) -> np.ndarray:
    """Bright blood that no label names: the pulmonary arteries of many label maps, and vessels within the lung."""
    middle = bounding_box(scene.mask("heart", "aorta"))
    found = np.zeros(scene.hu.shape, bool)
    if middle is None:
        return found
    rest = (scene.labels == BY_NAME["body"].number) | scene.mask("mediastinum", "lung")
    found[middle] = rest[middle] & (scene.hu[middle] > ENHANCED_HU)
    return found


def _bring_to(scene: Scene, where: np.ndarray, target_hu: float, rng: np.random.Generator | None) -> None:
    """Scale what is enhanced, else add; a heart (with `rng`) fills unevenly, chamber by chamber."""
    box = bounding_box(where, margin=2)
    if box is None:
        return
    inside, hu = where[box], scene.hu[box]
    now = float(np.median(hu[inside]))
    if now > ENHANCED_HU:
        gain = max(0.0, (target_hu - BLOOD_HU) / (now - BLOOD_HU))
        np.copyto(hu, BLOOD_HU + (hu - BLOOD_HU) * np.float32(gain), where=inside & (hu > BLOOD_HU))
        return
    uptake = inside.astype(np.float32) * np.float32(target_hu - now)
    if rng is not None and abs(target_hu - now) > 30:
        uptake *= np.clip(0.75 + 0.6 * noise_mm(scene, hu.shape, 24.0, rng), 0.3, 1.15)
    uptake = ndimage.gaussian_filter(uptake, 1.5 / np.array(scene.grid.spacing_mm), truncate=2.5)
    hu += uptake * np.clip((hu + 60.0) / 80.0, 0.0, 1.0)
