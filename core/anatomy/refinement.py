"""Turning the network's opinion into this patient's organs: density decides at the edge."""

import numpy as np

from core.anatomy.bones import BONE_HU
from core.anatomy.frame import Frame
from core.anatomy.lungs import Lungs
from core.anatomy.shapes import bounding_box, close, distance_to, fill_solid, grow, largest, parts_over, shrink
from core.structures import BY_NAME, LOBES_LEFT, LOBES_RIGHT, parts_of

_LEAST_LOBE_SHARE = 0.04
_DEEP_MM = 4.0
"""Deeper than the network's surface may be wrong."""
_LEAST_DENSE_ML = 2.0
_PLAIN_HU = (-60, 600)
_ODD_HU = {"heart": (-200, 600), "esophagus": (-1024, 600), "stomach": (-1024, 600), "colon": (-1024, 3071)}
"""Organs with fat, gas or faeces inside them, and the densities they may have."""
_CLOSE_MM = {"heart": 6.0, "liver": 4.0, "spleen": 4.0, "stomach": 4.0, "aorta": 3.0}
"""Width of gaps that are closed in an organ."""
SOFT_ORGANS = (
    "colon",
    "pancreas",
    "liver",
    "spleen",
    "stomach",
    "kidney_left",
    "kidney_right",
    "heart",
    "pulmonary_vein",
    "inferior_vena_cava",
    "superior_vena_cava",
    "pulmonary_artery",
    "aorta",
    "esophagus",
    "spinal_cord",
)
"""Organs without air or bone, in the order in which later ones win."""
_IN_PIECES = ("pulmonary_vein", "pulmonary_artery", "colon", "aorta", "esophagus")
"""Organs that may come apart; of the others the largest piece is kept."""
_LEAST_PIECE_ML = 0.5


def soft_organs(frame: Frame, named: np.ndarray, free: np.ndarray) -> dict[str, np.ndarray]:
    """Organ name -> (X, Y, Z) bool from the network's structures `named`, (X, Y, Z) uint8.

    free (X, Y, Z) bool is where they may be: in the body, in no lung and no airway.
    """
    organs = {}
    for name in SOFT_ORGANS:
        rough = np.isin(named, list(parts_of(name)))
        if not rough.any():
            continue
        low, high = _ODD_HU.get(name, _PLAIN_HU)
        whole = close(rough, _CLOSE_MM[name] / frame.edge_mm) if name in _CLOSE_MM else rough
        fitting = whole & free & (frame.hu > low) & (frame.hu < high)
        is_one = name not in _IN_PIECES
        organs[name] = largest(fitting) if is_one else parts_over(fitting, _LEAST_PIECE_ML / frame.grid.voxel_ml)
    return organs


def with_dense_parts(frame: Frame, lungs: Lungs, named: np.ndarray, free: np.ndarray) -> Lungs:
    """Add tumour and consolidation: tissue deep inside the lung of the network that holds no air.

    free (X, Y, Z) bool is where lung may be: in the body, not in the airway.
    """
    sides = []
    for lung, other, name in ((lungs.left, lungs.right, "lung_left"), (lungs.right, lungs.left, "lung_right")):
        unnamed = named == 0
        net_lung = np.isin(named, list(parts_of(name))) | (lies_within(lung, name) & unnamed)
        open_to = free & ~other & (frame.hu < BONE_HU)
        deep = parts_over(
            shrink(net_lung, _DEEP_MM / frame.edge_mm) & open_to & ~lung, _LEAST_DENSE_ML / frame.grid.voxel_ml
        )
        if not deep.any():
            sides.append(lung)
            continue
        whole = lung | (grow(deep, 2 * _DEEP_MM / frame.edge_mm) & net_lung & open_to)
        near = grow(deep, 4 * _DEEP_MM / frame.edge_mm)
        sides.append(lung | (fill_solid(close(whole, _DEEP_MM / frame.edge_mm)) & near & open_to))
    return Lungs(sides[0], sides[1] & ~sides[0])


def lies_within(lung: np.ndarray, name: str) -> np.ndarray:
    """Voxels (X, Y, Z) bool that see `lung` above, below, towards the midline, and in front or behind.

    A tumour at the chest wall does. The hilum does not see its own lung towards the midline, nor the liver below.
    """
    above, below = _sees(lung, 2, True), _sees(lung, 2, False)
    inwards = _sees(lung, 0, name == "lung_left")  # x grows to the right: from the left lung the midline lies that way
    return above & below & inwards & (_sees(lung, 1, True) | _sees(lung, 1, False))


def _sees(mask: np.ndarray, axis: int, upwards: bool) -> np.ndarray:
    """Where a ray along `axis`, towards higher indices or lower ones, meets `mask`: bool, same shape."""
    if upwards:
        return np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis), axis)
    return np.logical_or.accumulate(mask, axis)


def split_lobes(lungs: Lungs, named: np.ndarray) -> dict[str, np.ndarray]:
    """Lobe name -> (X, Y, Z) bool: each lung voxel goes to its side's nearest lobe of the network.

    A side whose lobes are implausibly small is left out: it stays one lung.
    """
    lobes: dict[str, np.ndarray] = {}
    for lung, names in ((lungs.left, LOBES_LEFT), (lungs.right, LOBES_RIGHT)):
        if lung.any():
            divided = _nearest_lobe(lung, named, names)
            if all(mask.sum() > _LEAST_LOBE_SHARE * lung.sum() for mask in divided.values()):
                lobes |= divided
    return lobes


def _nearest_lobe(lung: np.ndarray, named: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Every voxel of `lung` to the nearest of the lobes `names`."""
    box = bounding_box(lung, 4)
    part = named[box]
    distance = np.stack([distance_to(part == BY_NAME[name].number) for name in names])
    nearest = distance.argmin(axis=0)
    divided = {}
    for index, name in enumerate(names):
        mask = np.zeros_like(lung)
        mask[box] = lung[box] & (nearest == index)
        divided[name] = mask
    return divided
