"""What stands for an organ without a mask of its own: the rim of a lung for its pleura, the spine for one vertebra.

Every function gives (X, Y, Z) bool on the canvas, True = stands for it; nowhere True where nothing can.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from core.grounding.canvas import Canvas, Half
from core.report.named_places import HILUM, NamedPlace
from core.structures import BY_NAME, LOBES, LOBES_LEFT, LOBES_RIGHT, side_of, spoken_name

CLOSED_MM = 8.0
"""Gaps of lung masks up to twice this wide belong to the lung: vessels, and lesions that a mask left out."""
RIM_INSIDE_MM, RIM_OUTSIDE_MM = 8.0, 10.0
"""What stands for a pleural space: so much of the lung's surface and of the tissue around it."""
AROUND_HEART_MM = 10.0
"""Tissue this close to the heart stands for a pericardium."""
CENTRE_MM = 15.0
"""Tissue this close to the heart, great vessels, trachea and oesophagus, and in no organ, is mediastinum."""
HILUM_MM = 30.0
"""A hilum reaches this far from the bronchi and the pulmonary artery, or from the trachea where they have no mask."""

SOFT = ("subcutaneous_fat", "skeletal_muscle", "breast")
_CENTRE = ("heart", "aorta", "trachea", "esophagus", "pulmonary_artery", "superior_vena_cava", "brachiocephalic_trunk")
_VESSELS = ("pulmonary_", "superior_vena", "brachiocephalic", "subclavian", "common_carotid", "inferior_vena")
_HOLDERS = {"pericardium": "heart", "coronary_arteries": "heart", "atrial_appendage_left": "heart"}
_HOLDERS |= {"spinal_cord": "spine", "sacrum": "spine", "costal_cartilages": "ribs"}
_HOLDERS |= {"kidney_cyst_left": "kidney_left", "kidney_cyst_right": "kidney_right"}


class StandIn(NamedTuple):
    """What stands for an organ."""

    where: np.ndarray  # (X, Y, Z) bool
    words: str  # what it is
    names: tuple[str, ...]  # structures whose masks it comes from


def own_mask(canvas: Canvas, organ: str) -> np.ndarray:
    """Where an organ's own masks are; lungs and lobes with their gaps filled."""
    if organ == "body":  # the word for what is in no organ: the wall of chest and abdomen, the armpits
        return canvas.mask(*SOFT) | _soft_tissue(canvas)
    if organ == HILUM:
        return _nowhere(canvas)
    named = canvas.mask(organ)
    return _closed(canvas, named, organ) if organ.startswith("lung") and named.any() else named


def stand_in(canvas: Canvas, place: NamedPlace) -> StandIn:
    """What stands for an organ without a mask."""
    organ = place.organ
    if organ == HILUM:
        return _middle_of_lungs(canvas, place)
    if organ in SOFT:
        return StandIn(_soft_tissue(canvas), "the tissue outside of all organs", ())
    if organ.startswith("pleura"):
        return _rim_of_lungs(canvas, organ)
    is_central = organ == "mediastinum" or organ.startswith(_VESSELS)
    return _around_centre(canvas, organ) if is_central else _holder(canvas, organ)


class Near(NamedTuple):
    """Voxels around a mask, as flat indices (N,) int64, each with the closest voxel of the mask."""

    voxels: np.ndarray
    nearest: np.ndarray
    distance_mm: np.ndarray  # (N,) float64; 0 = in the mask


def nearest_of(where: np.ndarray, spacing_mm: tuple[float, float, float], most_mm: float) -> Near:
    """All voxels in the box around a mask (X, Y, Z) that holds at least those within `most_mm` of it.

    Only that box is looked at: organs are small.
    """
    box = _box_around(where, spacing_mm, most_mm)
    if box is None:
        return Near(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    distance, indices = distance_transform_edt(~where[box], sampling=spacing_mm, return_indices=True)
    numbers = np.arange(where.size).reshape(where.shape)[box]
    return Near(numbers.reshape(-1), numbers[tuple(indices)].reshape(-1), distance.reshape(-1))


def _is_near(canvas: Canvas, where: np.ndarray, most_mm: float) -> np.ndarray:
    """(X, Y, Z) bool, True = within `most_mm` of a True voxel."""
    near = np.zeros(where.shape, bool)
    box = _box_around(where, canvas.grid.spacing_mm, most_mm)
    if box is not None:
        near[box] = distance_transform_edt(~where[box], sampling=canvas.grid.spacing_mm) <= most_mm
    return near


def _box_around(
    where: np.ndarray, spacing_mm: tuple[float, float, float], margin_mm: float
) -> tuple[slice, slice, slice] | None:
    """The part of the grid within a margin of the True voxels; None if there are none."""
    at = [np.flatnonzero(where.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    if not len(at[0]):
        return None
    reach = [int(np.ceil(margin_mm / step)) + 1 for step in spacing_mm]
    x, y, z = (slice(max(0, int(i[0]) - r), int(i[-1]) + r + 1) for i, r in zip(at, reach, strict=True))
    return x, y, z


def _nowhere(canvas: Canvas) -> np.ndarray:
    return np.zeros(canvas.grid.shape, bool)


def _soft_tissue(canvas: Canvas) -> np.ndarray:
    """Tissue in no organ; nowhere while there are no masks at all."""
    if not canvas.labels.any():
        return _nowhere(canvas)
    return canvas.free & canvas.dense & ~canvas.mask("mediastinum", "pleura", "pericardium")


def _closed(canvas: Canvas, lung: np.ndarray, organ: str) -> np.ndarray:
    """A lung or lobe with its gaps filled, as far as they belong to no other organ and lie on its side."""
    filled = ~_is_near(canvas, ~_is_near(canvas, lung, CLOSED_MM), CLOSED_MM)
    side = side_of(organ)
    near = canvas.free & canvas.half(_half(side)) if side else canvas.free
    return lung | (filled & near)


def _half(side: str) -> Half:
    return "left" if side == "left" else "right"


def _holder(canvas: Canvas, organ: str) -> StandIn:
    """The larger structure that an organ is part of."""
    holder = _holder_of(organ)
    if not holder or (organ in LOBES and not _is_undivided(canvas, organ)):
        return StandIn(_nowhere(canvas), "", ())
    where = own_mask(canvas, holder)
    if organ == "pericardium" and where.any():
        where = where | (_is_near(canvas, where, AROUND_HEART_MM) & canvas.free & canvas.dense)
    return StandIn(where, f"the {spoken_name(holder)}", (holder,))


def _holder_of(organ: str) -> str:
    """The structure whose mask may stand for an organ; "" for none."""
    if organ in LOBES:
        return "lung_left" if organ in LOBES_LEFT else "lung_right"
    if organ.startswith(("rib_", "vertebrae_")):
        return "ribs" if organ.startswith("rib_") else "spine"
    return _HOLDERS.get(organ, "")


def _is_undivided(canvas: Canvas, lobe: str) -> bool:
    """Whether the lung's labels stand for a lobe that has none: not where all that is left is the other lobe."""
    lung, lobes = ("lung_left", LOBES_LEFT) if lobe in LOBES_LEFT else ("lung_right", LOBES_RIGHT)
    present = set(np.unique(canvas.labels).tolist())
    return BY_NAME[lung].number in present or sum(BY_NAME[other].number in present for other in lobes) >= 2


def _rim_of_lungs(canvas: Canvas, organ: str) -> StandIn:
    """Pleural spaces: the surface of the lungs and the tissue around them."""
    where = _nowhere(canvas)
    lungs = []
    for side in ("left", "right"):
        lung = own_mask(canvas, f"lung_{side}") if side_of(organ) in (side, "") else _nowhere(canvas)
        if lung.any():
            lungs.append(f"lung_{side}")
            around = _is_near(canvas, lung, RIM_OUTSIDE_MM) & canvas.free & canvas.dense & canvas.half(_half(side))
            where |= around | (lung & _is_near(canvas, ~lung, RIM_INSIDE_MM))
    words = " and ".join(f"the rim of the {spoken_name(lung)}" for lung in lungs)
    return StandIn(where, words, tuple(lungs))


def _around_centre(canvas: Canvas, organ: str) -> StandIn:
    """Mediastinum: tissue between the lungs in no organ; its vessels may lie in the mask of the heart as well."""
    words = "the tissue around heart, great vessels and trachea"
    where = _is_near(canvas, canvas.mask(*_CENTRE), CENTRE_MM) & canvas.free & canvas.dense
    if organ == "mediastinum":
        return StandIn(where, words, ())
    return StandIn(where | canvas.mask("heart"), f"the heart and {words}", ("heart",))


def _middle_of_lungs(canvas: Canvas, place: NamedPlace) -> StandIn:
    """Hila: where the lungs meet trachea, bronchi and great vessels."""
    sides = [side for side in ("left", "right") if place.side in (side, "")]
    lungs = tuple(f"lung_{side}" for side in sides if canvas.mask(f"lung_{side}").any())
    if not lungs:
        return StandIn(_nowhere(canvas), "", ())
    roots = canvas.mask("pulmonary_artery") | (canvas.mask("airway") & ~canvas.mask("trachea"))
    near = _is_near(canvas, roots if roots.any() else canvas.mask("trachea", "aorta"), HILUM_MM)
    where = near & (canvas.mask(*lungs) | (canvas.free & canvas.dense))
    return StandIn(where, "the middle of " + " and ".join(f"the {spoken_name(lung)}" for lung in lungs), lungs)
