"""DICOM SEG: every segment lies where it was marked, and says what it is."""

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_series import axes_affine, ct_slices, enhanced_ct, oblique_affine, phantom_hu, write_slices
from pydicom.sr.codedict import codes

from core.errors import StudyError
from core.export.dicomseg import write_dicom_seg
from core.export.snomed import UNNAMED, snomed_keyword
from core.reading.study import open_study
from core.structures import BY_NAME, STRUCTURES

HEART, UPPER = BY_NAME["heart"].number, BY_NAME["lung_upper_lobe_left"].number


def marked_places(path):
    """Segment label -> sorted RAS mm of its voxels, as highdicom reads them."""
    seg = hd.seg.segread(path)
    places = {}
    for item in seg.SegmentSequence:
        volume = seg.get_volume(segment_numbers=[item.SegmentNumber], combine_segments=True)
        index = np.argwhere(volume.array > 0)
        lps = (volume.affine @ np.c_[index, np.ones(len(index))].T).T[:, :3]
        places[item.SegmentLabel] = lps * [-1, -1, 1]
    return places


@pytest.mark.parametrize("axes", ["LPS", "RAI", "LIP", "PIR", "oblique"])
@pytest.mark.parametrize("enhanced", [False, True])
def test_segments_come_back_at_the_same_millimetres(tmp_path, axes, enhanced):
    affine = oblique_affine() if axes == "oblique" else axes_affine(axes)
    slices = [enhanced_ct(phantom_hu(), affine)] if enhanced else ct_slices(phantom_hu(), affine)
    source = write_slices(tmp_path / "ct", slices)
    study = open_study(next(source.iterdir()) if enhanced else source)
    labels = np.zeros(study.volume.shape, np.uint8)
    labels[5, 7, 9] = HEART
    labels[2, 3, 4], labels[2, 3, 5] = UPPER, UPPER
    write_dicom_seg(tmp_path / "seg.dcm", labels, study.volume, study.dicom_headers, "embedded")
    places = marked_places(tmp_path / "seg.dcm")
    for name, number in (("heart", HEART), ("lung_upper_lobe_left", UPPER)):
        expected = study.volume.grid.to_mm(np.argwhere(labels == number))
        assert len(places[name]) == len(expected)
        distance = np.linalg.norm(places[name][:, None] - expected[None], axis=2)
        assert distance.min(axis=1).max() < 1e-2


def test_segments_name_their_structure_their_side_and_their_maker(tmp_path):
    study = open_study(write_slices(tmp_path / "ct", ct_slices(phantom_hu(), axes_affine("LPS"))))
    labels = np.zeros(study.volume.shape, np.uint8)
    labels[5, 7, 9], labels[2, 3, 4] = HEART, UPPER
    write_dicom_seg(tmp_path / "seg.dcm", labels, study.volume, study.dicom_headers, "embedded", "1.0")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    upper, heart = seg.SegmentSequence
    assert heart.SegmentedPropertyTypeCodeSequence[0].CodeValue == codes.SCT.Heart.value
    side = upper.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert side.CodeValue == codes.SCT.Left.value
    assert upper.SegmentAlgorithmName == "embedded"
    assert seg.StudyInstanceUID == study.dicom_headers[0].StudyInstanceUID
    assert seg.FrameOfReferenceUID == study.dicom_headers[0].FrameOfReferenceUID
    assert seg.PatientID == "P1"


def test_every_structure_has_a_code_that_the_dictionary_knows():
    known = set(codes.SCT.dir())
    assert {snomed_keyword(one.name) for one in STRUCTURES} <= known
    assert snomed_keyword("vertebrae_T7") == "T7Vertebra"
    assert snomed_keyword("lung_lower_lobe_left") == "LowerLobeOfLung"
    unnamed = [one.name for one in STRUCTURES if snomed_keyword(one.name) == UNNAMED]
    assert len(unnamed) <= 20


def test_without_dicom_or_without_marks_nothing_is_written(tmp_path):
    study = open_study(write_slices(tmp_path / "ct", ct_slices(phantom_hu(), axes_affine("LPS"))))
    labels = np.zeros(study.volume.shape, np.uint8)
    with pytest.raises(StudyError, match="masks are empty"):
        write_dicom_seg(tmp_path / "seg.dcm", labels, study.volume, study.dicom_headers, "embedded")
    with pytest.raises(StudyError, match="Export NIfTI instead"):
        write_dicom_seg(tmp_path / "seg.dcm", labels + np.uint8(HEART), study.volume, None, "embedded")
    assert not (tmp_path / "seg.dcm").exists()


@pytest.mark.real_ct
def test_a_real_series_with_few_identifiers_takes_a_seg(shared, tmp_path):
    """This series has had its series and study identifiers removed."""
    study = open_study(shared / "data/ct/TS_dicom_jpeg2000/dicom")
    labels = np.zeros(study.volume.shape, np.uint8)
    labels[200:210, 250:260, 5:8] = BY_NAME["liver"].number
    write_dicom_seg(tmp_path / "seg.dcm", labels, study.volume, study.dicom_headers, "embedded")
    assert not study.dicom_headers[0].get("SeriesInstanceUID")  # the study itself stays as it was read
    place = marked_places(tmp_path / "seg.dcm")["liver"]
    expected = study.volume.grid.to_mm(np.argwhere(labels))
    np.testing.assert_allclose(np.sort(place, axis=0), np.sort(expected, axis=0), atol=1e-2)
