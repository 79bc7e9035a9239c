"""Turning carried-over atlas labels into this patient's organs: density decides at the edge."""

import numpy as np

from core.anatomy.frame import Frame
from core.anatomy.lungs import Lungs
from core.anatomy.shapes import bounding_box, close, distance_to, largest
from core.structures import BY_NAME, LOBES_LEFT, LOBES_RIGHT, parts_of

_LEAST_LOBE_SHARE = 0.04
_SOFT_HU = (-40, 600)
_SMOOTH = {
    "heart": 3.0,
    "aorta": 1.5,
    "esophagus": 1.0,
    "liver": 3.0,
    "spleen": 2.0,
    "stomach": 2.0,
    "spinal_cord": 1.5,
}
"""Soft organs taken from the atlas -> closing radius in voxels."""
_WITH_GAS = ("stomach", "esophagus")
_ALSO = {"heart": ("atrial_appendage_left", "pulmonary_vein")}


def soft_organs(frame: Frame, warped: np.ndarray, free: np.ndarray) -> dict[str, np.ndarray]:
    """Organ name -> (X, Y, Z) bool from carried-over atlas labels `warped`, (X, Y, Z) uint8.

    free (X, Y, Z) bool is where they may be: in the body, in no lung and no airway.
    """
    organs = {}
    for name, radius in _SMOOTH.items():
        rough = np.isin(warped, list(parts_of(name)))
        for part in _ALSO.get(name, ()):
            rough |= close_beside(np.isin(warped, list(parts_of(part))), rough)
        if not rough.any():
            continue
        low = -1024 if name in _WITH_GAS else _SOFT_HU[0]
        organs[name] = largest(close(rough, radius) & free & (frame.hu > low) & (frame.hu < _SOFT_HU[1]))
    return organs


def close_beside(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The voxels of `part` within three voxels of `whole`, both (X, Y, Z) bool."""
    return part & (distance_to(whole) <= 3.0) if part.any() and whole.any() else part & whole


def split_lobes(lungs: Lungs, warped: np.ndarray) -> dict[str, np.ndarray]:
    """Lobe name -> (X, Y, Z) bool: each lung voxel goes to its side's nearest atlas lobe.

    A side whose lobes are implausibly small is left out: it stays one lung.
    """
    lobes: dict[str, np.ndarray] = {}
    for lung, names in ((lungs.left, LOBES_LEFT), (lungs.right, LOBES_RIGHT)):
        if lung.any():
            divided = _nearest_lobe(lung, warped, names)
            if all(mask.sum() > _LEAST_LOBE_SHARE * lung.sum() for mask in divided.values()):
                lobes |= divided
    return lobes


def _nearest_lobe(lung: np.ndarray, warped: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Every voxel of `lung` to the nearest of the atlas lobes `names`."""
    box = bounding_box(lung, 4)
    part = warped[box]
    distance = np.stack([distance_to(part == BY_NAME[name].number) for name in names])
    nearest = distance.argmin(axis=0)
    divided = {}
    for index, name in enumerate(names):
        mask = np.zeros_like(lung)
        mask[box] = lung[box] & (nearest == index)
        divided[name] = mask
    return divided
