"""Mending what a file's header does not say, and refusing values that are not Hounsfield units."""

from dataclasses import replace

import numpy as np

from core.errors import StudyError
from core.reading.hounsfield import add_hu, judge_hounsfield
from core.reading.scan import HuArray, Scan, require_affine
from trainers.preparation.metadata import HeaderRow

SAME_SPACING = 0.01
"""Relative difference below which two voxel sizes are the same."""


def mend_scan(scan: Scan, row: HeaderRow | None, name: str, mend_hu: bool = False) -> Scan:
    """The scan with its place and its Hounsfield units settled; `done` says what was mended.

    row: what the metadata table says; used where the header is blank, and compared where it is not.
    mend_hu: also shift values that were never rescaled, or rescaled twice, by the offset that shows in them.
    StudyError when header and table contradict each other, or no reading of the values looks like Hounsfield units.
    """
    is_blank = has_blank_header(scan.affine, scan.values.shape)
    affine, words = _settle_place(scan, row, is_blank, name)
    values, more = _settle_values(scan.values, row, is_blank, mend_hu)
    return replace(scan, affine=affine, values=values, done=(*scan.done, *words, *more))


def has_blank_header(affine: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether an affine says nothing: voxels of 1 mm along the axes, the first or the middle one at the origin."""
    if not np.allclose(np.abs(affine[:3, :3]), np.eye(3), atol=1e-3):
        return False
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]  # where readers put it without a placement
    return bool(min(np.abs(affine[:3, 3]).max(), np.abs(middle).max()) < 1e-3)


def _settle_place(scan: Scan, row: HeaderRow | None, is_blank: bool, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    told = row.affine() if row is not None else None
    if told is None:
        if is_blank:
            raise StudyError(
                f"{name}: the header is blank (voxels of 1 x 1 x 1 mm), and no metadata table says otherwise. Give "
                "--metadata with its row, or the volume with its header mended."
            )
        return scan.affine, ()
    edges = [np.linalg.norm(affine[:3, :3], axis=0) for affine in (scan.affine, told)]
    if np.allclose(edges[0], edges[1], rtol=SAME_SPACING):
        return scan.affine, ()
    if not is_blank:
        found, expected = (" x ".join(f"{edge:.3g}" for edge in sizes) for sizes in edges)
        raise StudyError(
            f"{name}: the header has voxels of {found} mm, the metadata table {expected}. One is wrong: mend it, or "
            "take the row out of the table."
        )
    return require_affine(told, name), ("Voxel size, directions and origin taken from the metadata table.",)


def _settle_values(
    values: np.ndarray, row: HeaderRow | None, is_blank: bool, mend_hu: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The first reading of the values that looks like Hounsfield units.

    Under a blank header the table's rescaling comes first; a mended file has usually been rescaled already.
    """
    slope = 1.0 if row is None or row.slope is None else row.slope
    intercept = 0.0 if row is None or row.intercept is None else row.intercept
    verdict = judge_hounsfield(values)
    if (slope, intercept) != (1.0, 0.0) and slope and (is_blank or not verdict.is_plausible):
        rescaled = HuArray((values.shape[0], values.shape[1], values.shape[2]))
        rescaled.put(0, values, slope, intercept)
        if judge_hounsfield(rescaled.values).is_plausible:
            return rescaled.values, (f"Values rescaled by the metadata table: {slope:g} x value {intercept:+g}.",)
    if verdict.is_plausible:
        return values, ()
    if mend_hu and verdict.correction_hu:
        add_hu(values, verdict.correction_hu)
        if judge_hounsfield(values).is_plausible:
            return values, (f"{verdict.correction_hu:+d} added to every voxel: {verdict.kind.replace('_', ' ')}.",)
    raise StudyError(verdict.message)
