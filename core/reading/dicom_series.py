"""Which groups of DICOM files are a CT that can be read, which is the best, and why not the others."""

from typing import NamedTuple

import numpy as np
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from core.errors import StudyError
from core.reading.dicom_geometry import Stack, stack_slices
from core.reading.dicom_headers import CT_IMAGE, ENHANCED_CT, SliceFile
from core.reading.limits import ReadLimits
from core.reading.scan import require_size

PLAIN_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
AXIAL_DEG = 30.0
"""Slices whose normal is within this of head-foot are axial."""


class Judgement(NamedTuple):
    """One group, judged."""

    slices: list[SliceFile]
    stack: Stack | None  # None = cannot be used
    reason: str  # "" when it can be used
    spacing_mm: tuple[float, float, float]  # zeros where not known


def judge_group(group: list[SliceFile], limits: ReadLimits) -> Judgement:
    """Whether one group is a CT volume; `reason` says why not."""
    first = group[0]
    between_rows, between_columns = first.numbers("PixelSpacing", 2) or (0.0, 0.0)
    reason = _reason_against_kind(first) or _reason_against_size(first, len(group), limits)
    try:
        stack = None if reason else stack_slices(group)
    except StudyError as error:
        stack, reason = None, str(error)
    if stack is None:
        return Judgement(group, None, reason, (between_columns, between_rows, 0.0))
    x, y, z = np.linalg.norm(stack.affine[:3, :3], axis=0)
    return Judgement(stack.slices, stack, "", (float(x), float(y), float(z)))


def _reason_against_kind(item: SliceFile) -> str:
    modality, sop_class = item.text("Modality"), item.text("SOPClassUID")
    if modality != "CT" or (sop_class and sop_class != CT_IMAGE and sop_class not in ENHANCED_CT):
        return f"Not a CT scan but {_kind_words(item)}. Choose or export a CT."
    if item.is_localizer:
        return "A localizer (scout view), not a scan. Choose or export the scan itself."
    if item.text("SamplesPerPixel") not in ("", "1") or item.text("PhotometricInterpretation") not in (
        "",
        "MONOCHROME2",
    ):
        found = item.text("PhotometricInterpretation")
        return f"Colour or inverted picture ({found}), not Hounsfield units. Export the original images."
    return _reason_against_syntax(item)


def _reason_against_syntax(item: SliceFile) -> str:
    """Compression that no shipped decoder takes: 12-bit JPEG (GDCM wraps its dark voxels), HTJ2K, video."""
    syntax = item.syntax
    if syntax is None or syntax in PLAIN_SYNTAXES:
        return ""
    is_wide = (item.numbers("BitsStored", 1) or (16,))[0] > 8
    try:
        known = get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):
        known = False
    if known and not (syntax == JPEGExtended12Bit and is_wide):
        return ""
    return f"Compressed as {syntax.name}, which cannot be decoded here. Export it uncompressed or as JPEG 2000."


def _kind_words(item: SliceFile) -> str:
    uid = item.value("SOPClassUID")
    return f"{getattr(uid, 'name', 'an object of no stated kind')} ({item.text('Modality') or 'no modality'})"


def _reason_against_size(item: SliceFile, frames: int, limits: ReadLimits) -> str:
    rows, columns = item.numbers("Rows", 1), item.numbers("Columns", 1)
    if not rows or not columns or min(*rows, *columns) < 2:
        return "The header gives no image size (it is truncated, or no image)."
    if frames < limits.slices:
        return f"Too few slices: {frames}; at least {limits.slices} are needed. Give the folder or zip of the series."
    try:
        require_size((int(columns[0]), int(rows[0]), frames), limits.voxels, "The series")
    except StudyError as error:
        return str(error)
    return ""


def rank_of(judgement: Judgement) -> tuple:
    """Sorts the best CT last: axial, no projection, original, said to be chest, many slices, thin."""
    first = judgement.slices[0]
    kind = first.text("ImageType").upper().split("\\")
    projected = bool({"MIP", "MINIP", "MPR", "AVERAGE", "VRT", "CSA MPR", "PROJECTION IMAGE"} & set(kind))
    return (
        is_axial(judgement),
        not projected,
        "DERIVED" not in kind[:1],
        _names_chest(first),
        len(judgement.slices),
        -judgement.spacing_mm[2],
        first.text("SeriesInstanceUID"),
    )


def _names_chest(item: SliceFile) -> bool:
    """True = the header says chest, in the words of several languages."""
    said = " ".join(item.text(word) for word in ("BodyPartExamined", "SeriesDescription", "ProtocolName")).upper()
    return any(word in said for word in ("CHEST", "THORA", "TORAX", "TORACE", "LUNG", "PULMO"))


def is_axial(judgement: Judgement) -> bool:
    """True = slices lie across the body."""
    if judgement.stack is None:
        return False
    step = judgement.stack.affine[:3, 2] / np.linalg.norm(judgement.stack.affine[:3, 2])
    return bool(abs(step[2]) > np.cos(np.radians(AXIAL_DEG)))


def weaker_because(judgement: Judgement, best: Judgement) -> str:
    """Why a usable group was not the first choice."""
    mine, theirs = rank_of(judgement), rank_of(best)
    words = (
        "not axial",
        "a projection (MIP or reformat)",
        "derived, not original",
        "it does not name the chest",
        "fewer slices",
        "thicker slices",
    )
    for own, other, why in zip(mine, theirs, words, strict=False):
        if own != other:
            return f"Can be opened; not the first choice: {why}."
    return "Can be opened; another series is as good."
