"""What a file is, by its first bytes. Names lie: .nii files are gzipped, DICOM files have no ending at all."""

import zlib
from pathlib import Path
from typing import NamedTuple

from core.errors import StudyError

HEAD_BYTES = 1024
DEFLATED_DICOM = b"1.2.840.10008.1.2.1.99"

VOLUME_KINDS = ("nifti", "nrrd", "metaimage")
"""Kinds that hold one volume in one file."""

_MAGIC = {
    b"\x5c\x01\x00\x00": "nifti",  # sizeof_hdr of NIfTI-1 (348) and NIfTI-2 (540) in both byte orders
    b"\x00\x00\x01\x5c": "nifti",
    b"\x1c\x02\x00\x00": "nifti",
    b"\x00\x00\x02\x1c": "nifti",
    b"NRRD000": "nrrd",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"BM": "a BMP picture",
    b"II*\x00": "a TIFF picture",
    b"MM\x00*": "a TIFF picture",
    b"%PDF": "a PDF document",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\xfd7zXZ": "an xz archive",
    b"BZh": "a bzip2 archive",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
}
_EXPECTED = (
    "Expected a CT as .nii, .nii.gz, .nrrd, .mha or .mhd with its .raw, a folder of DICOM files, or a .zip of one of "
    "these."
)


class FileKind(NamedTuple):
    """What a file turned out to be."""

    name: str  # "nifti", "nrrd", "metaimage", "dicom", "zip", or words for a person
    is_gzipped: bool


def kind_of(path: Path) -> FileKind:
    """Look at the first bytes of a file, through gzip if need be; StudyError where it cannot be opened."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise StudyError(
            f"{path.name} cannot be opened ({error.strerror}). Check that it exists and may be read."
        ) from error
    if head[:2] == b"\x1f\x8b":
        return FileKind(_inner_kind(head), True)
    return FileKind(_kind_of_bytes(head), False)


def refuse_kind(path: Path, kind: FileKind) -> StudyError:
    """The error for a file that is no CT format."""
    packed = " inside gzip" if kind.is_gzipped else ""
    return StudyError(f"{path.name} is {kind.name}{packed}. {_EXPECTED}")


def _inner_kind(head: bytes) -> str:
    try:
        inner = zlib.decompressobj(31).decompress(head, HEAD_BYTES)
    except zlib.error:
        return "a damaged file"
    kind = _kind_of_bytes(inner)
    return "a tar archive" if kind == "zip" or inner[257:262] == b"ustar" else kind


def _kind_of_bytes(head: bytes) -> str:
    if not head:
        return "an empty file"
    if _is_dicom(head):
        return "dicom"
    by_magic = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")
    return by_magic or _kind_of_text(head)


def _is_dicom(head: bytes) -> bool:
    """With the preamble, or without one as old files are: then the first tag is of group 0002 or 0008."""
    bare = head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00" and len(head) > 128
    return head[128:132] == b"DICM" or bare


def _kind_of_text(head: bytes) -> str:
    start = head.lstrip()[:40].replace(b" ", b"")
    if start.startswith((b"ObjectType=", b"NDims=", b"ObjectSubType=", b"Comment=")) and b"NDims" in head:
        return "metaimage"
    if start[:1] in b"<{[" and start[:1]:
        return "a text file"
    return "an unknown kind of file"
