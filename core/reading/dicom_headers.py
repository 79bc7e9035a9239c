"""DICOM files without their pixels: opened, checked, put into groups that could each be one volume."""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue

from core.progress import Progress, silent
from core.reading.dicom_deflated import is_deflated, read_deflated
from core.reading.dicom_frames import frame_headers
from core.reading.scan import DAMAGE

ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""Enhanced CT and its legacy-converted kin: all slices in one file."""
DIRECTORY = "1.2.840.10008.1.3.10"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
DICOM_DAMAGE = (*DAMAGE, InvalidDicomError, BytesLengthException, struct.error, zlib.error)
SPLITTERS = (
    "AcquisitionNumber",
    "ImageType",
    "ConvolutionKernel",
    "TemporalPositionIdentifier",
    "AcquisitionTime",
    "SliceThickness",
)
"""What tells two scans apart that share a series and its places, most telling first."""


@dataclass(frozen=True, eq=False)
class SliceFile:
    """One slice: a DICOM file, or a frame of one."""

    path: Path
    header: pydicom.Dataset
    """Without pixels; of a multi-frame file, what the frame says of itself."""
    frame: int | None = None
    """Index of the frame in a multi-frame file."""
    file: pydicom.Dataset | None = None
    """Header of the whole multi-frame file."""

    def value(self, keyword: str) -> object:
        """What the header holds, converted now; None where it is absent or damaged."""
        try:
            return self.header.get(keyword)
        except DICOM_DAMAGE:
            return None

    def text(self, keyword: str) -> str:
        """The value as words, "" where absent."""
        value = self.value(keyword)
        if value is None:
            return ""
        return "\\".join(str(part) for part in value) if isinstance(value, list | MultiValue) else str(value)

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """`count` numbers, or None where they are absent or damaged."""
        value = self.value(keyword)
        try:
            parts = [float(part) for part in (value if count > 1 else [value])]  # type: ignore[attr-defined]
        except (TypeError, ValueError):
            return None
        return tuple(parts) if len(parts) == count and np.isfinite(parts).all() else None

    @property
    def uid(self) -> str:
        return self.text("SOPInstanceUID")

    @property
    def syntax(self) -> pydicom.uid.UID | None:
        """Transfer syntax of the pixels; None in files that are too old to say."""
        meta = getattr(self.file or self.header, "file_meta", None)
        return None if meta is None else meta.get("TransferSyntaxUID")

    @property
    def is_localizer(self) -> bool:
        """True = the overview picture that the scan was planned on."""
        return "LOCALIZER" in self.text("ImageType").upper()


class Headers(NamedTuple):
    """What a set of DICOM files held."""

    slices: list[SliceFile]
    unreadable: list[str]  # names of files that claim to be DICOM and are not, or are cut off


def read_headers(paths: Iterable[Path], progress: Progress = silent) -> Headers:
    """Read the headers of DICOM files; a DICOMDIR is passed over, as it holds no image."""
    listed, found, unreadable = list(paths), [], []
    for number, path in enumerate(listed):
        slices = _read_slices(path)
        if slices is None:
            unreadable.append(path.name)
        else:
            found += [item for item in slices if item.text("SOPClassUID") != DIRECTORY]
        if number % 16 == 0:
            progress(number / len(listed), f"Reading header {number + 1} of {len(listed)}")
    return Headers(found, unreadable)


def _read_slices(path: Path) -> list[SliceFile] | None:
    """The slice or slices of one file; None where it is damaged, or packed beyond all bounds."""
    try:
        if is_deflated(path):
            header = read_deflated(path, stop_before_pixels=True)
        else:
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        meta_class = header.file_meta.get("MediaStorageSOPClassUID")  # converted when first used: let damage show here
        header.file_meta.get("TransferSyntaxUID"), header.get("PixelSpacing")
        frames = frame_headers(header) if header.get("SOPClassUID") in ENHANCED_CT else []
    except DICOM_DAMAGE:
        return None
    if "SOPClassUID" not in header and meta_class:
        header.SOPClassUID = meta_class
    if not header:
        return None
    return [SliceFile(path, frame, n, header) for n, frame in enumerate(frames)] or [SliceFile(path, header)]


def group_slices(slices: list[SliceFile]) -> list[list[SliceFile]]:
    """Groups that could each be one volume: same series, size, direction, voxel size and kind of image."""
    groups: dict[tuple, list[list[SliceFile]]] = {}
    for item in slices:
        alike = groups.setdefault(_group_key(item), [])
        group = next((one for one in alike if _lies_like(one[0], item)), None)
        if group is None:
            alike.append([item])
        else:
            group.append(item)
    whole = [group for alike in groups.values() for group in alike]
    return [part for group in whole for part in _split_acquisitions(_without_copies(group))]


def _group_key(item: SliceFile) -> tuple:
    return (
        item.text("SeriesInstanceUID"),
        item.text("SOPClassUID"),
        item.is_localizer,
        *(item.text(keyword) for keyword in ("Rows", "Columns", "SamplesPerPixel")),
        "" if item.frame is None else item.uid,
    )


def _lies_like(first: SliceFile, item: SliceFile) -> bool:
    """Same direction and pixel size, but for the last digits that scanners write at random."""
    pairs = [
        (first.numbers(keyword, count) or (), item.numbers(keyword, count) or ())
        for keyword, count in (("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    ]
    return all(len(a) == len(b) and all(abs(x - y) < 2e-3 for x, y in zip(a, b, strict=True)) for a, b in pairs)


def _without_copies(group: list[SliceFile]) -> list[SliceFile]:
    """The same image twice in a folder (same SOP instance at the same place) counts once."""
    unique = {(item.uid or str(item.path), item.frame, item.text("ImagePositionPatient")): item for item in group}
    return list(unique.values())


def _split_acquisitions(group: list[SliceFile]) -> list[list[SliceFile]]:
    """Split a series that holds several scans of the same places, if some attribute tells them apart."""
    places = [item.text("ImagePositionPatient") for item in group]
    if len(set(places)) == len(places) or not all(places):
        return [group]
    for keyword in SPLITTERS:
        parts: dict[str, list[SliceFile]] = {}
        for item in group:
            parts.setdefault(item.text(keyword), []).append(item)
        if len(parts) > 1 and all(_has_distinct_places(part) for part in parts.values()):
            return list(parts.values())
    return [group]


def _has_distinct_places(group: list[SliceFile]) -> bool:
    places = {item.text("ImagePositionPatient") for item in group}
    return len(places) == len(group)
