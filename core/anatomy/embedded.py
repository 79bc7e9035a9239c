"""The engine that needs no download: density, shape and one atlas patient, in seconds on two cores."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from core.anatomy.airway import Airway, find_airway
from core.anatomy.atlas import Atlas
from core.anatomy.body import find_body
from core.anatomy.bones import find_spine, name_bones
from core.anatomy.comparison import compare_by
from core.anatomy.frame import WORK_MM, Frame, back_to_volume, crop_frame, working_frame
from core.anatomy.lungs import Lungs, find_lungs
from core.anatomy.masks import OrganMasks
from core.anatomy.pattern import Pattern, mirrored, pattern_of
from core.anatomy.refinement import soft_organs, split_lobes, with_dense_parts
from core.anatomy.registration import COARSE_MM, FINE_MM, fit_atlas, start_fit, warp_labels
from core.anatomy.shapes import bounding_box
from core.errors import ConfigError
from core.progress import Progress, silent
from core.structures import BY_NAME, LOBES_LEFT, LOBES_RIGHT, parts_of
from core.volume import Volume

ENGINE = "embedded"
_LEAST_CHEST_ML = 400.0
"""Less lung than this is a scan that only touches the chest."""
_LEAST_AGREEMENT = 0.80
_CLEARLY_MIRRORED = 0.03
_MIRRORED_NOTE = (
    "The organs lie mirrored: left and right of this image may be exchanged, or the patient has situs inversus. "
    "Lungs are named by where they lie."
)
_BONES = ("spine", "ribs", "sternum")
_FROM_ATLAS = ("heart", "aorta", "esophagus", "liver", "spleen", "stomach", "spinal_cord", "ribs", "sternum")
_ORDER = ("liver", "spleen", "stomach", "heart", "aorta", "esophagus", "ribs", "sternum", "spine", "spinal_cord")
"""Painted in this order; the later wins a shared voxel."""
_VESSELS = ("heart", "aorta", "superior_vena_cava", "inferior_vena_cava", "pulmonary_vein")
_NOTE = (
    "Coarse masks from density, shape and one atlas patient, at 2 mm. Lobes, heart, vessels and abdominal organs "
    "are estimates; check them before measuring."
)
_SMALLEST_ML = 2.0
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
    """Voxel edge of the grid it works on; larger is faster and coarser."""
    rounds: tuple[int, int] = (60, 25)
    """Rounds of deformation at 8 and at 4 mm."""

    def __post_init__(self) -> None:
        if not 1.0 <= self.edge_mm <= 6.0:
            raise ConfigError(f"edge_mm is {self.edge_mm}; expected 1 to 6 mm.")
        if min(self.rounds) < 0:
            raise ConfigError(f"rounds are {self.rounds}; expected two counts from 0.")


class EmbeddedSegmenter:
    """Finds chest organs without any download; says what it could not find."""

    name = ENGINE

    def __init__(self, atlas: Atlas, config: EmbeddedConfig | None = None) -> None:
        self._atlas = atlas
        self.config = config or EmbeddedConfig()

    def segment(self, volume: Volume, progress: Progress = silent) -> OrganMasks:
        """Organ masks on `volume`'s grid; see `Segmenter`. Never raises for an odd CT: it finds less."""
        progress(0.0, "Preparing the scan")
        frame = working_frame(volume, self.config.edge_mm)
        progress(0.05, "Finding body, airway and lungs")
        frame, found = _find_air(frame)
        result = _Result()
        if found.lungs.both.sum() * frame.grid.voxel_ml >= _LEAST_CHEST_ML:
            progress(0.3, "Fitting the atlas")
            found = self._fit(frame, found, result, progress)
        else:
            self._refuse_chest(frame, found, result)
        progress(0.9, "Bringing the masks to the scan's grid")
        labels = back_to_volume(paint(frame, found.body, found.airway, found.lungs, result.masks), frame, volume)
        progress(1.0, "Organ masks ready")
        return OrganMasks(labels, ENGINE, missing_of(labels, result), (*result.notes, _NOTE))

    def _refuse_chest(self, frame: Frame, found: _Found, result: _Result) -> None:
        """Only what is really there: no thorax is invented for a scan without lungs."""
        result.masks["spine"] = find_spine(frame, found.body)
        reason = "no lungs in view to find it by"
        result.missing |= dict.fromkeys(_FROM_ATLAS, reason)
        ml = found.lungs.both.sum() * frame.grid.voxel_ml
        if not found.body.any():
            result.notes.append("No body found: this does not look like a CT of a patient.")
        elif ml > 0:
            result.notes.append(f"Only {ml:.0f} mL of lung found: this does not look like a chest CT.")
        else:
            result.notes.append("No lungs found: this does not look like a chest CT.")

    def _fit(self, frame: Frame, found: _Found, result: _Result, progress: Progress) -> _Found:
        """Carry the atlas organs over and keep those that the patient's own density supports."""
        warped = self._carry_over(frame, found, result, progress)
        progress(0.7, "Naming organs")
        agreement = agreement_of(warped, found.lungs)
        if agreement < _LEAST_AGREEMENT:
            result.masks["spine"] = find_spine(frame, found.body)
            reason = (
                f"the atlas does not fit this patient (lung overlap {agreement:.2f}, {_LEAST_AGREEMENT:.2f} needed)"
            )
            result.missing |= dict.fromkeys(_FROM_ATLAS, reason)
            result.notes.append(f"Organs from the atlas are left out: {reason}.")
            return found
        lungs = with_dense_parts(frame, found.lungs, warped, found.body & ~found.airway.lumen)
        free = found.body & ~lungs.both & ~found.airway.lumen
        vessels = np.isin(warped, [number for name in _VESSELS for number in parts_of(name)])
        hints = {name: np.isin(warped, list(parts_of(name))) for name in _BONES}
        result.masks |= split_lobes(lungs, warped)
        result.masks |= soft_organs(frame, warped, free)
        result.masks |= name_bones(frame, free, hints, vessels)
        return found._replace(lungs=lungs)

    def _carry_over(self, frame: Frame, found: _Found, result: _Result, progress: Progress) -> np.ndarray:
        """Labels of the atlas, or of its mirror image where that fits clearly better, on `frame`: (X, Y, Z) uint8."""
        patient = [compare_by(frame, found.body, found.lungs, edge) for edge in (COARSE_MM, FINE_MM)]
        pattern, other = self._pattern, mirrored(self._pattern)
        start, other_start = (start_fit(patient[0], one.channels[0]) for one in (pattern, other))
        if other_start.likeness > start.likeness + _CLEARLY_MIRRORED:
            pattern, start = other, other_start
            result.notes.append(_MIRRORED_NOTE)
        progress(0.4, "Deforming the atlas")
        fit = fit_atlas(patient, pattern.channels, start.affine, self.config.rounds)
        return warp_labels(pattern.labels, pattern.grid, fit, frame.grid)

    @cached_property
    def _pattern(self) -> Pattern:
        """The atlas side of the comparison, made once."""
        return pattern_of(self._atlas)


def _find_air(frame: Frame) -> tuple[Frame, _Found]:
    """Body, airway and lungs, and the part of the frame that holds the body."""
    body = find_body(frame)
    if body.any():
        box = bounding_box(body, _MARGIN)
        frame, body = crop_frame(frame, box), body[box]
    airway = find_airway(frame, body)
    return frame, _Found(body, airway, find_lungs(frame, body, airway.lumen))


def agreement_of(warped: np.ndarray, lungs: Lungs) -> float:
    """Dice in [0, 1] between the carried-over atlas lungs and the patient's: the worse side of those found."""
    worst = 1.0
    for side, lung in (("lung_left", lungs.left), ("lung_right", lungs.right)):
        carried = np.isin(warped, list(parts_of(side)))
        if lung.any():
            worst = min(worst, 2.0 * float((carried & lung).sum()) / float(carried.sum() + lung.sum()))
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
    for name in ("body", "lung_left", "lung_right", "trachea", "airway", "spine", *_FROM_ATLAS):
        if not present[list(parts_of(name))].any():
            missing[name] = result.missing.get(name, "not in view, or not told from its surroundings")
    for side, lobes in (("lung_left", LOBES_LEFT), ("lung_right", LOBES_RIGHT)):
        if present[BY_NAME[side].number] and not present[BY_NAME[lobes[0]].number]:
            missing |= dict.fromkeys(lobes, "the lung could not be divided into lobes")
    return missing
