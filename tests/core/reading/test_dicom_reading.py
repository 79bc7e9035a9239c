"""DICOM series: geometry, order, choice and refusal."""

import numpy as np
import pydicom
import pytest
from dicom_series import (
    LANDMARK_HU,
    axes_affine,
    ct_slices,
    enhanced_ct,
    oblique_affine,
    phantom_hu,
    write_slices,
)
from pydicom.uid import generate_uid

from core.errors import StudyError
from core.reading.study import list_series, open_study, study_info

LANDMARK = (9, 25, 3)


def landmark_mm(study):
    found = np.argwhere(study.volume.hu == LANDMARK_HU)
    assert len(found) == 1
    return study.volume.grid.to_mm(found[0])


@pytest.mark.parametrize("axes", ["LPS", "LPI", "RPS", "RAI", "LIP", "PIR", "oblique"])
def test_landmark_stays_at_its_place_in_the_patient(tmp_path, axes):
    affine = oblique_affine() if axes == "oblique" else axes_affine(axes)
    study = open_study(write_slices(tmp_path / "series", ct_slices(phantom_hu(), affine)))
    np.testing.assert_allclose(landmark_mm(study), (affine @ [*LANDMARK, 1])[:3], atol=1e-3)
    assert study.receipt.modality == "CT"
    assert len(study.dicom_headers) == 12
    assert "PixelData" not in study.dicom_headers[0]
    assert study_info(study)["source"][2] == "and 10 more"


def test_headers_are_in_the_order_of_the_source_slices(tmp_path):
    study = open_study(write_slices(tmp_path, ct_slices(phantom_hu(), axes_affine("LPI"))[::-1]))
    for k, header in enumerate(study.dicom_headers):
        lps = study.volume.source.to_mm([0, 0, k]) * [-1, -1, 1]
        np.testing.assert_allclose(np.array(header.ImagePositionPatient, float), lps, atol=1e-3)


def test_every_slice_is_rescaled_by_its_own_numbers(tmp_path):
    def edit(number, ds):
        if number % 2:
            stored = np.frombuffer(ds.PixelData, "<u2") + 100
            ds.PixelData, ds.RescaleIntercept = stored.astype("<u2").tobytes(), -1124

    hu = phantom_hu()
    study = open_study(write_slices(tmp_path, ct_slices(hu, axes_affine("LPS")), edit))
    np.testing.assert_array_equal(study.volume.to_source(study.volume.hu), hu)
    assert any("differs between slices" in line for line in study.receipt.done)


def test_bits_above_the_stored_ones_are_not_pixels(tmp_path):
    """Old scanners keep an overlay in the four upper bits."""

    def edit(_number, ds):
        stored = np.frombuffer(ds.PixelData, "<u2") | 0x8000
        ds.PixelData = stored.astype("<u2").tobytes()

    hu = phantom_hu()
    study = open_study(write_slices(tmp_path, ct_slices(hu, axes_affine("LPS")), edit))
    np.testing.assert_array_equal(study.volume.to_source(study.volume.hu), hu)


def test_padding_is_raised_to_air_and_named(tmp_path):
    def edit(_number, ds):
        stored = np.frombuffer(ds.PixelData, "<u2").astype("<i2").reshape(ds.Rows, ds.Columns).copy()
        stored[:2] = -2000
        ds.PixelData, ds.PixelRepresentation, ds.BitsStored, ds.HighBit = stored.tobytes(), 1, 16, 15

    study = open_study(write_slices(tmp_path, ct_slices(phantom_hu(), axes_affine("LPS")), edit))
    assert study.receipt.hu_min == -1024
    assert any("lowest -3024" in line for line in study.receipt.done)


def test_a_declared_padding_that_is_water_is_not_believed(tmp_path):
    def edit(_number, ds):
        ds.PixelPaddingValue = 1024  # 0 HU

    hu = phantom_hu()
    study = open_study(write_slices(tmp_path, ct_slices(hu, axes_affine("LPS")), edit))
    np.testing.assert_array_equal(study.volume.to_source(study.volume.hu), hu)


def test_missing_slice_is_refused_by_number(tmp_path):
    slices = ct_slices(phantom_hu(), axes_affine("LPS"))
    del slices[5]
    with pytest.raises(StudyError, match=r"Slices 5 and 6 are 5\.00 mm apart; the others are 2\.50 mm"):
        open_study(write_slices(tmp_path, slices))


def test_doubled_slice_is_refused(tmp_path):
    slices = ct_slices(phantom_hu(), axes_affine("LPS"))
    again = ct_slices(phantom_hu(), axes_affine("LPS"), series=slices[0].SeriesInstanceUID)[4]
    with pytest.raises(StudyError, match="same place"):
        open_study(write_slices(tmp_path, [*slices, again]))


def test_the_same_file_twice_counts_once(tmp_path):
    slices = ct_slices(phantom_hu(), axes_affine("LPS"))
    write_slices(tmp_path / "a", slices)
    write_slices(tmp_path / "b", slices)
    assert open_study(tmp_path).receipt.slices == 12


def test_tilted_gantry_is_refused_with_its_angle(tmp_path):
    affine = axes_affine("LPS")
    affine[1, 2] = -2.5 * np.tan(np.radians(10))
    with pytest.raises(StudyError, match=r"tilted by 10\.0 degrees"):
        open_study(write_slices(tmp_path, ct_slices(phantom_hu(), affine)))


def test_two_acquisitions_in_one_series_are_told_apart(tmp_path):
    first = ct_slices(phantom_hu(), axes_affine("LPS"))
    second = ct_slices(phantom_hu(), axes_affine("LPS"), series=first[0].SeriesInstanceUID)
    for ds in second:
        ds.AcquisitionNumber = 2
    rows = list_series(write_slices(tmp_path, [*first, *second]))
    assert [row.slices for row in rows] == [12, 12]
    assert len({row.id for row in rows}) == 2
    assert open_study(tmp_path, series=rows[1].id).receipt.slices == 12


def make_mixed_folder(folder):
    """A thin axial chest CT with everything that lies beside one in practice."""
    thin = ct_slices(phantom_hu((40, 36, 14)), axes_affine("LPS", (0.7, 0.8, 1.0)), description="thin")
    thick = ct_slices(phantom_hu(), axes_affine("LPS"), description="thick")
    coronal = ct_slices(phantom_hu((40, 36, 16)), axes_affine("LIP"), description="coronal")
    mip = ct_slices(phantom_hu((40, 36, 17)), axes_affine("LPS"), description="mip")
    scout = ct_slices(phantom_hu((40, 36, 3), (9, 25, 1)), axes_affine("LIP"), description="scout")
    pet = ct_slices(phantom_hu((40, 36, 18)), axes_affine("LPS"), description="pet")
    shot = ct_slices(phantom_hu((40, 36, 5)), axes_affine("LPS"), description="screenshot")
    for ds in mip:
        ds.ImageType = ["DERIVED", "SECONDARY", "MIP"]
    for ds in scout:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    for ds in pet:
        ds.Modality = "PT"
    for ds in shot:
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    for name, series in {"1/x": thin, "1/y": thick, "2": coronal, "3": mip, "4": [*scout, *shot], "5": pet}.items():
        write_slices(folder / name, series)
    structures = pydicom.Dataset()
    structures.SOPClassUID, structures.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", generate_uid()
    structures.SeriesInstanceUID, structures.Modality = generate_uid(), "RTSTRUCT"
    structures.file_meta = pydicom.dataset.FileMetaDataset()
    structures.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    structures.save_as(folder / "rs.dcm", enforce_file_format=True)
    (folder / "README.txt").write_text("made by a workstation")
    return folder


def test_the_thin_axial_original_ct_is_chosen_and_the_others_are_explained(tmp_path):
    study = open_study(make_mixed_folder(tmp_path / "mixed"))
    assert study.receipt.series_description == "thin"
    reasons = {row.description: row.reason for row in study.receipt.series}
    assert [row.description for row in study.receipt.series if row.chosen] == ["thin"]
    assert "fewer slices" in reasons["thick"]
    assert "not axial" in reasons["coronal"]
    assert "projection" in reasons["mip"]
    assert "localizer" in reasons["scout"]
    assert "PT" in reasons["pet"]
    assert "Secondary Capture" in reasons["screenshot"]
    assert any("RT Structure Set" in reason for reason in reasons.values())


def test_another_series_can_be_asked_for_and_unusable_ones_say_why(tmp_path):
    folder = make_mixed_folder(tmp_path / "mixed")
    ids = {row.description: row.id for row in list_series(folder)}
    assert open_study(folder, series=ids["coronal"]).receipt.series_description == "coronal"
    with pytest.raises(StudyError, match="localizer"):
        open_study(folder, series=ids["scout"])
    with pytest.raises(StudyError, match="no series 'nonsense'"):
        open_study(folder, series="nonsense")


def test_a_single_slice_of_a_series_asks_for_the_rest(tmp_path):
    folder = write_slices(tmp_path, ct_slices(phantom_hu(), axes_affine("LPS")))
    with pytest.raises(StudyError, match="Too few slices: 1"):
        open_study(next(folder.iterdir()))


@pytest.mark.parametrize(
    ("keyword", "words"),
    [
        ("PixelSpacing", "no pixel spacing"),
        ("ImagePositionPatient", "no image position"),
        ("ImageOrientationPatient", "no image orientation"),
        ("Rows", "no image size"),
    ],
)
def test_missing_geometry_is_refused_by_name(tmp_path, keyword, words):
    slices = ct_slices(phantom_hu(), axes_affine("LPS"))
    for ds in slices:
        del ds[keyword]
    with pytest.raises(StudyError, match=words):
        open_study(write_slices(tmp_path, slices))


def test_missing_rescale_is_warned_of_and_can_be_mended(tmp_path):
    hu = phantom_hu()
    slices = ct_slices(hu, axes_affine("LPS"))
    for ds in slices:
        del ds.RescaleSlope, ds.RescaleIntercept
    study = open_study(write_slices(tmp_path, slices))
    assert any("no rescale" in line for line in study.receipt.warnings)
    assert study.receipt.hu_verdict.kind == "unscaled"
    mended = open_study(tmp_path, hu_fix="auto")
    assert mended.receipt.hu_verdict.is_plausible
    np.testing.assert_array_equal(mended.volume.to_source(mended.volume.hu), hu)


def test_colour_pictures_are_refused(tmp_path):
    def edit(_number, ds):
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.BitsAllocated = ds.BitsStored = 8
        ds.HighBit, ds.PixelData = 7, bytes(ds.Rows * ds.Columns * 3)

    with pytest.raises(StudyError, match="RGB"):
        open_study(write_slices(tmp_path, ct_slices(phantom_hu(), axes_affine("LPS")), edit))


def test_a_truncated_slice_is_named(tmp_path):
    folder = write_slices(tmp_path, ct_slices(phantom_hu(), axes_affine("LPS")))
    damaged = sorted(folder.iterdir())[4]
    damaged.write_bytes(damaged.read_bytes()[:-500])
    with pytest.raises(StudyError, match=damaged.name):
        open_study(folder)


def test_enhanced_multiframe_ct_is_read_like_its_slices(tmp_path):
    hu, affine = phantom_hu(), oblique_affine()
    write_slices(tmp_path, [enhanced_ct(hu, affine)])
    study = open_study(next(tmp_path.iterdir()))
    np.testing.assert_allclose(landmark_mm(study), (affine @ [*LANDMARK, 1])[:3], atol=1e-3)
    np.testing.assert_array_equal(study.volume.to_source(study.volume.hu), hu)
    assert len(study.dicom_headers) == 1


def test_files_without_preamble_are_read(tmp_path):
    """As ACR-NEMA archives and some PACS exports write them: no DICM, no transfer syntax."""
    folder = write_slices(tmp_path, ct_slices(phantom_hu(), axes_affine("LPS")))
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        body = path.read_bytes()
        start = 132 + 12 + ds.file_meta.FileMetaInformationGroupLength
        path.write_bytes(body[start:])
    assert open_study(folder).receipt.slices == 12


def test_damaged_files_beside_a_series_are_counted(tmp_path):
    folder = write_slices(tmp_path, ct_slices(phantom_hu(), axes_affine("LPS")))
    (folder / "broken").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 300)
    study = open_study(folder)
    assert study.receipt.slices == 12
    assert any("1 DICOM file(s) are damaged" in line for line in study.receipt.warnings)


def test_random_last_digits_of_the_orientation_do_not_split_a_series(tmp_path):
    """Rounding to a fixed number of digits would: 0.99949 and 0.99951 round to different thousandths."""

    def edit(number, ds):
        ds.ImageOrientationPatient = [0.9995 + 1e-5 * (-1) ** number, 0.0316, 0, -0.0316, 0.9995, 0]

    assert open_study(write_slices(tmp_path, ct_slices(phantom_hu(), axes_affine("LPS")), edit)).receipt.slices == 12


def test_a_chest_is_preferred_to_a_longer_head(tmp_path):
    head = ct_slices(phantom_hu((40, 36, 20)), axes_affine("LPS"), description="Head 2.5")
    chest = ct_slices(phantom_hu((40, 36, 8)), axes_affine("LPS"), description="Thorax 2.5")
    write_slices(tmp_path / "a", head)
    study = open_study(write_slices(tmp_path / "b", chest).parent)
    assert study.receipt.series_description == "Thorax 2.5"
    assert "does not name the chest" in study.receipt.series[1].reason


def test_a_dicomdir_beside_the_slices_is_passed_over(tmp_path):
    folder = write_slices(tmp_path, ct_slices(phantom_hu(), axes_affine("LPS")))
    directory = pydicom.Dataset()
    directory.FileSetID = "DISK1"
    directory.file_meta = pydicom.dataset.FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    directory.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    directory.save_as(folder / "DICOMDIR", enforce_file_format=True)
    study = open_study(folder)
    assert (study.receipt.slices, study.receipt.warnings, len(study.receipt.series)) == (12, (), 1)
    with pytest.raises(StudyError, match="Give the whole folder"):
        open_study(folder / "DICOMDIR")
