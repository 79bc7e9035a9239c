"""Turning carried-over atlas labels into this patient's organs: density decides at the edge."""

import numpy as np

from core.anatomy.bones import BONE_HU
from core.anatomy.frame import Frame
from core.anatomy.lungs import Lungs
from core.anatomy.shapes import bounding_box, close, distance_to, fill_solid, grow, largest, parts_over, shrink
from core.structures import BY_NAME, LOBES_LEFT, LOBES_RIGHT, parts_of

_LEAST_LOBE_SHARE = 0.04
_SOFT_HU = (-40, 600)
_DEEP_MM = 4.0
"""Deeper than the carried-over surface may be wrong."""
_LEAST_DENSE_ML = 2.0
_SMOOTH_MM = {
    "heart": 6.0,
    "aorta": 3.0,
    "esophagus": 2.0,
    "liver": 6.0,
    "spleen": 4.0,
    "stomach": 4.0,
    "spinal_cord": 3.0,
}
"""Soft organs taken from the atlas, and how wide the gaps are that are closed in them."""
_WITH_GAS = ("stomach", "esophagus")
_ALSO = {"heart": ("atrial_appendage_left", "pulmonary_vein")}


def soft_organs(frame: Frame, warped: np.ndarray, free: np.ndarray) -> dict[str, np.ndarray]:
    """Organ name -> (X, Y, Z) bool from carried-over atlas labels `warped`, (X, Y, Z) uint8.

    free (X, Y, Z) bool is where they may be: in the body, in no lung and no airway.
    """
    organs = {}
    for name, radius_mm in _SMOOTH_MM.items():
        rough = np.isin(warped, list(parts_of(name)))
        for part in _ALSO.get(name, ()):
            rough |= parts_beside(np.isin(warped, list(parts_of(part))), rough, 6.0 / frame.edge_mm)
        if not rough.any():
            continue
        low = -1024 if name in _WITH_GAS else _SOFT_HU[0]
        organs[name] = largest(
            close(rough, radius_mm / frame.edge_mm) & free & (frame.hu > low) & (frame.hu < _SOFT_HU[1])
        )
    return organs


def parts_beside(part: np.ndarray, whole: np.ndarray, reach: float) -> np.ndarray:
    """The voxels of `part` at most `reach` voxels from `whole`, both (X, Y, Z) bool."""
    return part & (distance_to(whole) <= reach)


def with_dense_parts(frame: Frame, lungs: Lungs, warped: np.ndarray, free: np.ndarray) -> Lungs:
    """Add tumour and consolidation: tissue deep inside the carried-over atlas lung that holds no air.

    free (X, Y, Z) bool is where lung may be: in the body, not in the airway.
    """
    sides = []
    for lung, other, name in ((lungs.left, lungs.right, "lung_left"), (lungs.right, lungs.left, "lung_right")):
        atlas_lung = np.isin(warped, list(parts_of(name)))
        open_to = free & ~other & (frame.hu < BONE_HU)
        deep = parts_over(
            shrink(atlas_lung, _DEEP_MM / frame.edge_mm) & open_to & ~lung, _LEAST_DENSE_ML / frame.grid.voxel_ml
        )
        if not deep.any():
            sides.append(lung)
            continue
        whole = lung | (grow(deep, 2 * _DEEP_MM / frame.edge_mm) & atlas_lung & open_to)
        near = grow(deep, 4 * _DEEP_MM / frame.edge_mm)
        sides.append(lung | (fill_solid(close(whole, _DEEP_MM / frame.edge_mm)) & near & open_to))
    return Lungs(sides[0], sides[1] & ~sides[0])


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
