"""Deflated DICOM: the whole data set is packed, and would unpack without bound if nobody counted."""

import io
import zlib
from pathlib import Path

import pydicom
from pydicom.filereader import read_file_meta_info

from core.reading.file_kinds import DEFLATED_DICOM, HEAD_BYTES

MOST_BYTES = 2**28
"""Largest data set that is unpacked: 500 slices of 512 x 512 in one file."""
PREAMBLE_BYTES = 132
LENGTH_ELEMENT_BYTES = 12
"""Size of the element that says how long the file's meta information is."""


def is_deflated(path: Path) -> bool:
    """True = the file says that its data set is packed. OSError where it cannot be read."""
    with path.open("rb") as file:
        return DEFLATED_DICOM in file.read(HEAD_BYTES)


def read_deflated(path: Path, stop_before_pixels: bool = False) -> pydicom.Dataset:
    """The data set of a deflated file with the meta information that it came with.

    ValueError where it is larger than `MOST_BYTES`; zlib.error, EOFError and what pydicom raises where it is damaged.
    """
    meta = read_file_meta_info(path)
    begin = PREAMBLE_BYTES + LENGTH_ELEMENT_BYTES + int(meta.FileMetaInformationGroupLength)
    packed = path.read_bytes()[begin:]
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = unpacker.decompress(packed, MOST_BYTES)
    if unpacker.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {MOST_BYTES / 1e6:.0f} MB")
    if not unpacker.eof:
        raise EOFError("its packed part ends too early")
    found = pydicom.dcmread(io.BytesIO(plain), stop_before_pixels=stop_before_pixels, force=True)
    found.file_meta = meta
    return found
