"""The engine that needs no download: density, shape and a compact network, in seconds on two cores."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from core.anatomy.airway import Airway, find_airway
from core.anatomy.body import find_body
from core.anatomy.body_wall import find_body_wall
from core.anatomy.bones import find_spine, name_bones
from core.anatomy.frame import WORK_MM, Frame, back_to_volume, crop_frame, working_frame
from core.anatomy.lungs import Lungs, find_lungs
from core.anatomy.masks import OrganMasks
from core.anatomy.measure import orientation_check
from core.anatomy.refinement import SOFT_ORGANS, soft_organs, split_lobes, with_dense_parts
from core.anatomy.shapes import bounding_box
from core.errors import ConfigError
from core.progress import Progress, silent
from core.structures import BY_NAME, LOBES_LEFT, LOBES_RIGHT, parts_of
from core.volume import Volume

if TYPE_CHECKING:
    from core.anatomy.organ_net import OrganNet

ENGINE = "embedded"
_LEAST_CHEST_ML = 400.0
"""Less lung than this is a scan that only touches the chest."""
_LEAST_AGREEMENT = 0.80
_MIRRORED_NOTE = (
    "The organs lie mirrored: left and right of this image may be exchanged, or the patient has situs inversus. "
    "Organs are named by where they lie."
)
_LIMBS = tuple(f"{bone}_{side}" for bone in ("scapula", "clavicula", "humerus") for side in ("left", "right"))
_BONES = ("ribs", "sternum", *_LIMBS, "spine")
_WALL = ("subcutaneous_fat", "skeletal_muscle")
_MUSCLES = ("autochthon_left", "autochthon_right")
_FROM_NET = (*SOFT_ORGANS, "ribs", "sternum")
"""Structures whose absence is worth a word."""
_ORDER = (*_WALL, "costal_cartilages", *_MUSCLES, *SOFT_ORGANS, *_BONES, "spinal_cord")
"""Painted in this order; the later wins a shared voxel."""
_VESSELS = ("heart", "aorta", "pulmonary_artery", "superior_vena_cava", "inferior_vena_cava", "pulmonary_vein")
_NOTE = (
    "Masks from density and a small network, at 2 mm. Lobes, vessels and small organs are estimates; check them before "
    "measuring."
)
_SMALLEST_ML = 0.5
_MARGIN = 2
"""Voxels kept around the body."""


class _Found(NamedTuple):
    """What density and shape alone give."""

    body: np.ndarray
    airway: Airway
    lungs: Lungs


@dataclass
class _Result:
    """Masks by structure name, and why others are missing."""

    masks: dict[str, np.ndarray] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class EmbeddedConfig:
    """How fine the embedded engine works."""

    edge_mm: float = WORK_MM
    """Voxel edge of the grid it works on; larger is faster and coarser. The network reads 3 mm whatever it is."""

    def __post_init__(self) -> None:
        if not 1.0 <= self.edge_mm <= 6.0:
            raise ConfigError(f"edge_mm is {self.edge_mm}; expected 1 to 6 mm.")


class EmbeddedSegmenter:
    """Finds chest organs without any download; says what it could not find."""

    name = ENGINE

    def __init__(self, weights: Path, config: EmbeddedConfig | None = None) -> None:
        self._weights = weights
        self.config = config or EmbeddedConfig()

    def segment(self, volume: Volume, progress: Progress = silent) -> OrganMasks:
        """Organ masks on `volume`'s grid; see `Segmenter`. Never raises for an odd CT: it finds less."""
        progress(0.0, "Preparing the scan")
        frame = working_frame(volume, self.config.edge_mm)
        progress(0.05, "Finding body, airway and lungs")
        frame, found = _find_air(frame)
        result = _Result()
        if found.lungs.both.sum() * frame.grid.voxel_ml >= _LEAST_CHEST_ML:
            found = self._name(frame, found, result, progress)
        else:
            _refuse_chest(frame, found, result)
        progress(0.9, "Bringing the masks to the scan's grid")
        labels = back_to_volume(paint(frame, found.body, found.airway, found.lungs, result.masks), frame, volume)
        progress(1.0, "Organ masks ready")
        return OrganMasks(labels, ENGINE, missing_of(labels, result), (*result.notes, _NOTE))

    def _name(self, frame: Frame, found: _Found, result: _Result, progress: Progress) -> _Found:
        """Ask the network, and keep what the patient's own density supports."""
        from core.anatomy.organ_naming import name_voxels

        named = name_voxels(self._net, frame, lambda share, text: progress(0.2 + 0.5 * share, text))
        progress(0.7, "Fitting organs to their edges")
        agreement = agreement_of(named, found.lungs)
        if agreement < _LEAST_AGREEMENT:
            result.masks["spine"] = find_spine(frame, found.body)
            reason = f"the network is at odds with the lungs (overlap {agreement:.2f}, {_LEAST_AGREEMENT:.2f} needed)"
            result.missing |= dict.fromkeys(_FROM_NET, reason)
            result.notes.append(f"Other organs are left out: {reason}.")
            return found
        if orientation_check(OrganMasks(named, ENGINE), frame.grid).kind == "suspicious":
            result.notes.append(_MIRRORED_NOTE)
        return _refine(frame, found, named, result)

    @cached_property
    def _net(self) -> "OrganNet":
        """The network, read when the first chest comes."""
        from core.anatomy.organ_net import load_organ_net

        return load_organ_net(self._weights)


def _refine(frame: Frame, found: _Found, named: np.ndarray, result: _Result) -> _Found:
    """Masks from the network's `named` (X, Y, Z) uint8 and the density of each voxel."""
    lungs = with_dense_parts(frame, found.lungs, named, found.body & ~found.airway.lumen)
    free = found.body & ~lungs.both & ~found.airway.lumen
    hints = {name: np.isin(named, list(parts_of(name))) for name in _BONES}
    vessels = np.isin(named, [number for name in _VESSELS for number in parts_of(name)])
    masks = result.masks
    masks |= split_lobes(lungs, named)
    masks |= soft_organs(frame, named, free)
    masks |= name_bones(frame, free, hints, vessels)
    for name in ("costal_cartilages", *_MUSCLES):
        masks[name] = free & (named == BY_NAME[name].number)
    inner = np.isin(named, [BY_NAME[name].number for name in (*_LIMBS, *_MUSCLES)], invert=True) & (named > 0)
    masks |= find_body_wall(frame, found.body, inner | lungs.both)
    return found._replace(lungs=lungs)


def _refuse_chest(frame: Frame, found: _Found, result: _Result) -> None:
    """Only what is really there: no thorax is invented for a scan without lungs."""
    result.masks["spine"] = find_spine(frame, found.body)
    result.missing |= dict.fromkeys(_FROM_NET, "no lungs in view to find it by")
    ml = found.lungs.both.sum() * frame.grid.voxel_ml
    if not found.body.any():
        result.notes.append("No body found: this does not look like a CT of a patient.")
    elif ml > 0:
        result.notes.append(f"Only {ml:.0f} mL of lung found: this does not look like a chest CT.")
    else:
        result.notes.append("No lungs found: this does not look like a chest CT.")


def _find_air(frame: Frame) -> tuple[Frame, _Found]:
    """Body, airway and lungs, and the part of the frame that holds the body."""
    body = find_body(frame)
    if body.any():
        box = bounding_box(body, _MARGIN)
        frame, body = crop_frame(frame, box), body[box]
    airway = find_airway(frame, body)
    return frame, _Found(body, airway, find_lungs(frame, body, airway.lumen))


def agreement_of(named: np.ndarray, lungs: Lungs) -> float:
    """Dice in [0, 1] between the network's lungs and those found by density: the worse side of those found."""
    worst = 1.0
    for side, lung in (("lung_left", lungs.left), ("lung_right", lungs.right)):
        other = np.isin(named, list(parts_of(side)))
        if lung.any():
            worst = min(worst, 2.0 * float((other & lung).sum()) / float(other.sum() + lung.sum()))
    return worst


def paint(frame: Frame, body: np.ndarray, airway: Airway, lungs: Lungs, masks: dict[str, np.ndarray]) -> np.ndarray:
    """One label map (X, Y, Z) uint8 in the working frame from masks that may overlap."""
    labels = np.where(body, np.uint8(BY_NAME["body"].number), np.uint8(0))
    for name in _ORDER:
        if name in masks and masks[name].sum() * frame.grid.voxel_ml >= _SMALLEST_ML:
            labels[masks[name]] = BY_NAME[name].number
    labels[lungs.left] = BY_NAME["lung_left"].number
    labels[lungs.right] = BY_NAME["lung_right"].number
    for name in (*LOBES_LEFT, *LOBES_RIGHT):
        if name in masks:
            labels[masks[name]] = BY_NAME[name].number
    labels[airway.trachea] = BY_NAME["trachea"].number
    labels[airway.bronchi] = BY_NAME["airway"].number
    return labels


def missing_of(labels: np.ndarray, result: _Result) -> dict[str, str]:
    """Structure looked for but absent from `labels` -> why."""
    present = np.bincount(labels.ravel(), minlength=256) > 0
    missing = {}
    for name in ("body", "lung_left", "lung_right", "trachea", "airway", "spine", *_FROM_NET):
        if not present[list(parts_of(name))].any():
            missing[name] = result.missing.get(name, "not in view, or not told from its surroundings")
    for side, lobes in (("lung_left", LOBES_LEFT), ("lung_right", LOBES_RIGHT)):
        if present[BY_NAME[side].number] and not present[BY_NAME[lobes[0]].number]:
            missing |= dict.fromkeys(lobes, "the lung could not be divided into lobes")
    return missing
