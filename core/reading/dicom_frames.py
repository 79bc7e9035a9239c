"""Enhanced CT: one file with all slices, opened out so that every frame looks like a classic slice."""

from pydicom import Dataset
from pydicom.sequence import Sequence

COPIED = (
    "SOPClassUID SOPInstanceUID SeriesInstanceUID SeriesDescription ProtocolName Modality ImageType Rows Columns "
    "SamplesPerPixel PhotometricInterpretation PixelPaddingValue"
).split()
GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
}
"""Functional group (PS3.3 C.7.6.16) -> what a classic slice holds at its top."""


def frame_headers(image: Dataset) -> list[Dataset]:
    """One classic-looking header per frame, in stored order; values that no group gives stay absent."""
    shared = _first(image.get("SharedFunctionalGroupsSequence"))
    frames = image.get("PerFrameFunctionalGroupsSequence") or []
    return [_frame_header(image, frame, shared) for frame in frames]


def _frame_header(image: Dataset, frame: Dataset, shared: Dataset) -> Dataset:
    header = Dataset()
    for keyword in COPIED:
        if keyword in image:
            header[keyword] = image[keyword]
    for group, keywords in GROUPS.items():
        item = _first(frame.get(group) or shared.get(group))
        for keyword in keywords:
            if keyword in item:
                header[keyword] = item[keyword]
    return header


def _first(sequence: Sequence | None) -> Dataset:
    return sequence[0] if sequence else Dataset()
