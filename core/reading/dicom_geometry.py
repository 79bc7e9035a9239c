"""Putting DICOM slices in order by where they lie in the patient, and refusing stacks that are no regular grid."""

from typing import NamedTuple

import numpy as np

from core.errors import StudyError
from core.reading.dicom_headers import SliceFile

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
TILT_DEG = 0.5
"""A stack that leans more than this against its slices is a tilted gantry."""


class Stack(NamedTuple):
    """Slices of one volume in order of place."""

    slices: list[SliceFile]
    affine: np.ndarray  # (4, 4), (column, row, slice) -> RAS+ mm


def stack_slices(slices: list[SliceFile]) -> Stack:
    """Sort by position along the normal (never by instance number); refuse gaps, doubles and tilt."""
    directions, spacing = _plane_of(slices[0])
    places = [item.numbers("ImagePositionPatient", 3) for item in slices]
    if any(place is None for place in places):
        raise StudyError("Some slices do not say where they lie (no image position). Export the series again.")
    positions = np.array(places, np.float64)  # (S, 3) LPS mm
    normal = np.cross(directions[0], directions[1])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    require_even_slices(positions @ normal)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    _require_straight(positions, step, normal)
    affine = np.eye(4)
    affine[:3, 0] = directions[0] * spacing[1]  # one column further: along the row
    affine[:3, 1] = directions[1] * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return Stack([slices[index] for index in order], LPS_TO_RAS @ affine)


def _plane_of(item: SliceFile) -> tuple[np.ndarray, tuple[float, ...]]:
    """Directions of row and column (2, 3), unit length, and pixel spacing (between rows, between columns) in mm."""
    direction, spacing = item.numbers("ImageOrientationPatient", 6), item.numbers("PixelSpacing", 2)
    if direction is None or not np.isfinite(direction).all():
        raise StudyError("The slices do not say how they are turned (no image orientation). Export the series again.")
    if spacing is None or min(spacing) <= 0 or not np.isfinite(spacing).all():
        raise StudyError("The slices do not say their pixel size (no pixel spacing). Export the series again.")
    axes = np.array(direction).reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(axes[0] @ axes[1]) > 0.01:
        raise StudyError(f"The image orientation {direction} is no pair of perpendicular directions. Export it again.")
    return axes / lengths[:, None], spacing


def require_even_slices(along_mm: np.ndarray) -> float:
    """Slice spacing in mm of sorted positions (S,), or a refusal if one is missing or doubled."""
    gaps = np.diff(along_mm)
    usual = float(np.median(gaps))
    worst = int(np.argmax(np.abs(gaps - usual)))
    if gaps.min() < 0.01:
        first = int(np.argmin(gaps))
        raise StudyError(
            f"Slices {first + 1} and {first + 2} lie at the same place: a slice is doubled, or two scans are mixed. "
            "Export the series again."
        )
    if abs(gaps[worst] - usual) > max(0.1, 0.05 * usual):
        raise StudyError(
            f"Slices {worst + 1} and {worst + 2} are {gaps[worst]:.2f} mm apart; the others are {usual:.2f} mm. "
            "A slice is missing or doubled: export the series again."
        )
    return usual


def _require_straight(positions: np.ndarray, step: np.ndarray, normal: np.ndarray) -> None:
    """Refuse a leaning stack (gantry tilt) and slices that jump sideways."""
    tilt = float(np.degrees(np.arccos(np.clip(abs(step @ normal) / np.linalg.norm(step), 0, 1))))
    if tilt > TILT_DEG:
        raise StudyError(
            f"The gantry was tilted by {tilt:.1f} degrees, so the slices do not form a box. Reconstruct or export the "
            "series without tilt."
        )
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    off = np.abs(positions - expected).max(axis=1)
    if off.max() > max(0.5, 0.25 * float(np.linalg.norm(step))):
        worst = int(off.argmax())
        raise StudyError(
            f"Slice {worst + 1} lies {off[worst]:.1f} mm off the line of the others: scans are mixed. "
            "Export the series again."
        )
