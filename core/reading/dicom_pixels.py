"""From ordered DICOM slices to Hounsfield units, one slice in memory at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.utils import iter_pixels, pixel_array
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from core.errors import StudyError
from core.progress import Progress, silent
from core.reading.dicom_deflated import read_deflated
from core.reading.dicom_geometry import Stack
from core.reading.dicom_headers import DICOM_DAMAGE, SliceFile
from core.reading.scan import HuArray, Scan, geometry_warnings

AIR_HU = -1024
LOSSY_SYNTAXES = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000)


class Rescale(NamedTuple):
    """How stored values become HU."""

    slope: float
    intercept: float


def read_stack(stack: Stack, progress: Progress = silent) -> Scan:
    """Decode every slice and apply its own rescale. (column, row, slice), slices in order of place."""
    first = stack.slices[0]
    shape = (int(first.header.Columns), int(first.header.Rows), len(stack.slices))
    array, used, padded = HuArray(shape), set(), 0
    for index, (item, stored) in enumerate(zip(stack.slices, _stored_planes(stack.slices), strict=True)):
        if stored.shape != (shape[1], shape[0]):
            raise StudyError(
                f"{item.path.name} holds {stored.shape} pixels, its header says otherwise. Export it again."
            )
        rescale = rescale_of(item)
        array.put(index, stored.T[:, :, None], *rescale)
        padded += _blank_padding(array.values[:, :, index], stored.T, item, rescale)
        used.add(rescale)
        progress((index + 1) / shape[2], f"Reading slice {index + 1} of {shape[2]}")
    return Scan(
        array.values,
        stack.affine,
        first.text("Modality"),
        first.text("SeriesDescription") or first.text("ProtocolName"),
        tuple(dict.fromkeys(item.path.name for item in stack.slices)),
        (*geometry_warnings(stack.affine, shape), *doubts(first), *array.notes()),
        tuple(what_was_done(first, used, padded)),
        (first.file,) if first.file is not None else tuple(item.header for item in stack.slices),
    )


def _stored_planes(slices: list[SliceFile]) -> Iterator[np.ndarray]:
    """Values as stored, (rows, columns), slice by slice; StudyError names the file that is damaged."""
    item = slices[0]
    try:
        if item.frame is not None:
            yield from iter_pixels(_image_of(item), indices=[one.frame or 0 for one in slices])
            return
        for item in slices:  # the error below names the slice that failed
            yield _stored_plane(item)
    except DICOM_DAMAGE as error:
        without = isinstance(error, AttributeError)  # what pydicom raises where there is no element with pixels
        reason = "there are none" if without else " ".join(str(error).split())[:200]
        raise StudyError(
            f"The pixels of {item.path.name} cannot be decoded ({_syntax_name(item)}: {reason}). The file is "
            "truncated or damaged: export the series again."
        ) from error


def _stored_plane(item: SliceFile) -> np.ndarray:
    return pixel_array(_image_of(item))


def _image_of(item: SliceFile) -> Path | pydicom.Dataset:
    """What to decode: the file, or its data set where the file does not say how the pixels are stored as they lie."""
    if item.syntax not in (None, DeflatedExplicitVRLittleEndian):
        return item.path
    # without a preamble there is no stated syntax: the plain one of old files
    image = pydicom.dcmread(item.path, force=True) if item.syntax is None else read_deflated(item.path)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if image.original_encoding[0] else ExplicitVRLittleEndian
    return image


def rescale_of(item: SliceFile) -> Rescale:
    """Slope and intercept of a slice or frame; 1 and 0 where it gives none."""
    slope, intercept = item.numbers("RescaleSlope", 1), item.numbers("RescaleIntercept", 1)
    return Rescale(slope[0] if slope and slope[0] else 1.0, intercept[0] if intercept else 0.0)


def doubts(first: SliceFile) -> list[str]:
    """What makes the values doubtful, in plain words."""
    found = []
    if first.text("LossyImageCompression") == "01" or first.syntax in LOSSY_SYNTAXES:
        found.append("The images were compressed with loss: fine texture and densities may be altered.")
    if first.numbers("RescaleIntercept", 1) is None or first.numbers("RescaleSlope", 1) is None:
        found.append("The series gives no rescale slope and intercept: stored values were taken for Hounsfield units.")
    unit = first.text("RescaleType").strip().upper()
    if unit not in ("", "HU", "HU_MOD"):
        found.append(f"The series says its values are {unit}, not Hounsfield units.")
    return found


def _blank_padding(plane: np.ndarray, stored: np.ndarray, item: SliceFile, rescale: Rescale) -> int:
    """Set declared padding in an HU plane to air, in place; how many pixels. Only values no tissue can have count."""
    padding = item.numbers("PixelPaddingValue", 1)
    if padding is None:
        return 0
    hu = padding[0] * rescale.slope + rescale.intercept
    if -1000 <= hu <= 4000:  # a wrong declaration must not turn water into air
        return 0
    found = stored == padding[0]
    plane[found] = AIR_HU
    return int(found.sum())


def what_was_done(first: SliceFile, used: set[Rescale], padded: int) -> list[str]:
    """Decoding, rescale and padding in plain words."""
    done = []
    if first.syntax is not None and first.syntax.is_compressed:
        done.append(f"{_syntax_name(first)} decoded.")
    if len(used) > 1:
        done.append(f"Rescale differs between slices ({len(used)} kinds): each slice by its own.")
    elif used != {Rescale(1.0, 0.0)}:
        slope, intercept = next(iter(used))
        done.append(f"Rescale applied: {slope:g} x stored value {intercept:+g}.")
    if padded:
        done.append(f"Padding outside the scanner's circle ({padded} voxels) set to {AIR_HU}.")
    return done


def _syntax_name(item: SliceFile) -> str:
    return item.syntax.name if item.syntax is not None else "no transfer syntax"
