"""DICOM SEG: organ masks that a PACS shows over the CT they were made from."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from einops import rearrange

from core.errors import StudyError
from core.export.replacing import replacing
from core.export.snomed import snomed_keyword
from core.structures import BY_NUMBER, side_of, spoken_name
from core.volume import Volume

if TYPE_CHECKING:
    import highdicom as hd
    import pydicom

SHARED_IDENTIFIERS = ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
MANUFACTURER = "ASAP Viewer"
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_dicom_seg(
    path: Path,
    labels: np.ndarray,
    volume: Volume,
    headers: "Sequence[pydicom.Dataset] | None",
    engine: str,
    version: str = "1",
) -> None:
    """Write organ masks as a binary DICOM SEG, one segment per structure that occurs.

    labels: (X, Y, Z) uint8 on the volume's RAS grid, numbers of `core.structures`. headers: `Study.dicom_headers` of
    the same CT. engine: who made the masks. StudyError if the CT was no DICOM or nothing is marked.
    """
    if not headers:
        raise StudyError(
            "This CT was not opened from DICOM, so a DICOM SEG has nothing to refer to. Export NIfTI instead."
        )
    numbers = [int(number) for number in np.unique(labels) if number]
    if not numbers:
        raise StudyError("The masks are empty. Expected at least one structure: nothing was written.")
    segmentation = _segmentation(labels, volume, headers, numbers, (engine, version))
    with replacing(path) as file:
        segmentation.save_as(file)


def _segmentation(
    labels: np.ndarray,
    volume: Volume,
    headers: "Sequence[pydicom.Dataset]",
    numbers: list[int],
    made_by: tuple[str, str],
) -> "hd.seg.Segmentation":
    import highdicom as hd  # half a second, needed for this export only
    from pydicom.errors import BytesLengthException

    consecutive = np.zeros(256, np.uint8)
    consecutive[numbers] = np.arange(1, len(numbers) + 1)
    # The source's own axes, slices first: so each frame lies on one source image and refers to it.
    marked = rearrange(volume.to_source(consecutive[labels]), "i j k -> k j i")
    affine = (RAS_TO_LPS @ volume.source.affine)[:, [2, 1, 0, 3]]
    headers = _completed(headers)
    try:
        return hd.seg.Segmentation(
            source_images=headers,
            pixel_array=hd.Volume(marked, affine, "PATIENT", headers[0].FrameOfReferenceUID),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(n, BY_NUMBER[number].name, made_by) for n, number in enumerate(numbers, 1)],
            series_instance_uid=hd.UID(),
            series_number=900,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=made_by[0],
            software_versions=made_by[1],
            device_serial_number="0",
            content_label="ORGANS",
            content_description="Organ masks, research use only",
        )
    except (AttributeError, ValueError, LookupError, TypeError, NotImplementedError, BytesLengthException) as error:
        raise StudyError(
            f"A DICOM SEG cannot refer to this series ({error}). Expected complete DICOM headers: export NIfTI instead."
        ) from error


def _completed(headers: "Sequence[pydicom.Dataset]") -> "list[pydicom.Dataset]":
    """The same headers with every identifier that a SEG must refer to; anonymisers blank some of them.

    The image's own come from the file meta, the others are made up, the same for all slices of the CT.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import generate_uid

    made = {keyword: generate_uid() for keyword in SHARED_IDENTIFIERS}
    completed = []
    for number, header in enumerate(headers):
        one = Dataset()
        one.update(header)
        meta = getattr(header, "file_meta", None) or FileMetaDataset()
        one.file_meta = meta
        own = {
            "SOPClassUID": meta.get("MediaStorageSOPClassUID"),
            "SOPInstanceUID": meta.get("MediaStorageSOPInstanceUID", f"{made['SeriesInstanceUID'][:55]}.{number + 1}"),
        }
        for keyword, value in {**own, **made}.items():
            if value and not one.get(keyword):
                one.pop(keyword, None)  # assigning to it would change the shared element
                setattr(one, keyword, value)
        completed.append(one)
    return completed


def _describe(number: int, name: str, made_by: tuple[str, str]) -> "hd.seg.SegmentDescription":
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        name=made_by[0], version=made_by[1], family=codes.DCM.ArtificialIntelligence
    )
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=getattr(codes.SCT, snomed_keyword(name)),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
    description.SegmentDescription = spoken_name(name)
    side = side_of(name)
    if side:
        laterality = codes.SCT.Left if side == "left" else codes.SCT.Right
        concept = description.SegmentedPropertyTypeCodeSequence[0]
        concept.SegmentedPropertyTypeModifierCodeSequence = [hd.sr.CodedConcept.from_code(laterality)]
    return description
