"""NIfTI: geometry, scaling, units, and files that are no CT."""

import gzip
import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from dicom_series import LANDMARK_HU, axes_affine, oblique_affine, phantom_hu

from core.errors import StudyError
from core.reading.limits import ReadLimits
from core.reading.study import open_study, study_info

LANDMARK = (9, 25, 3)


def save(path, array, affine=None, **header):
    image = nib.Nifti1Image(array, axes_affine("LPS") if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def patch(path, offset, data):
    """Overwrite header bytes that nibabel would not write."""
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(data)] = data
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SAR", "oblique"])
def test_landmark_stays_at_its_place_in_the_patient(tmp_path, axes):
    affine = oblique_affine() if axes == "oblique" else axes_affine(axes)
    study = open_study(save(tmp_path / "ct.nii.gz", phantom_hu(), affine))
    found = np.argwhere(study.volume.hu == LANDMARK_HU)
    np.testing.assert_allclose(study.volume.grid.to_mm(found), [(affine @ [*LANDMARK, 1])[:3]], atol=1e-3)
    assert study.volume.source.shape == (40, 36, 12)
    assert study.receipt.warnings == ()


def test_info_has_the_keys_of_the_contract(tmp_path):
    info = study_info(open_study(save(tmp_path / "ct.nii.gz", phantom_hu())))
    assert list(info)[:8] == [
        *("shape", "spacing_mm", "orientation", "hu_min", "hu_max", "modality", "series_description", "warnings")
    ]
    assert info["shape"] == (40, 36, 12)
    assert info["spacing_mm"] == pytest.approx((0.7, 0.8, 2.5))
    assert info["orientation"] == "LPS"
    assert json.loads(json.dumps(info))["series"][0]["chosen"] is True
    assert (info["hu_min"], info["hu_max"]) == (int(phantom_hu().min()), LANDMARK_HU)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "no_ending_at_all", "wrong.dcm"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_content_counts_and_not_the_name(tmp_path, name, packed):
    save(tmp_path / "plain.nii", phantom_hu())
    raw = (tmp_path / "plain.nii").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(raw) if packed else raw)
    study = open_study(tmp_path / name)
    np.testing.assert_array_equal(study.volume.to_source(study.volume.hu), phantom_hu())


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2", ">f4"])
def test_every_number_type_gives_the_same_hu(tmp_path, dtype):
    """Unsigned and big-endian files store HU + 1024 with an intercept of -1024, applied once."""
    stored = (phantom_hu().astype(np.int64) + 1024).astype(dtype)
    image = nib.Nifti1Image(stored, axes_affine("LPS"))
    image.header.set_slope_inter(1, -1024)
    if str(dtype).startswith(">"):
        image = nib.Nifti1Image(stored, axes_affine("LPS"), nib.Nifti1Header(endianness=">"))
        image.header.set_data_dtype(dtype)
        image.header.set_slope_inter(1, -1024)
    raw = bytearray(image.to_bytes())
    data_start = 352
    raw[data_start:] = stored.tobytes(order="F")
    path = tmp_path / "ct.nii"
    path.write_bytes(raw)
    study = open_study(path)
    np.testing.assert_array_equal(study.volume.to_source(study.volume.hu), phantom_hu())


@pytest.mark.parametrize(("slope", "inter"), [(np.nan, np.nan), (0, 5), (np.nan, -1024), (1, np.nan)])
def test_no_scaling_in_the_header_means_none(tmp_path, slope, inter):
    path = save(tmp_path / "ct.nii", phantom_hu())
    patch(path, 112, np.array([slope, inter], "<f4").tobytes())
    assert open_study(path).receipt.hu_max == LANDMARK_HU


def test_an_offset_of_zero_means_right_after_the_header(tmp_path):
    path = patch(save(tmp_path / "ct.nii", phantom_hu()), 108, bytes(4))
    np.testing.assert_array_equal(
        open_study(path).volume.hu, open_study(save(tmp_path / "b.nii", phantom_hu())).volume.hu
    )


def test_nifti2_is_read(tmp_path):
    nib.save(nib.Nifti2Image(phantom_hu(), axes_affine("PIR")), tmp_path / "ct.nii.gz")
    assert open_study(tmp_path / "ct.nii.gz").receipt.orientation == "PIR"


@pytest.mark.parametrize(("code", "factor"), [(1, 1000.0), (3, 0.001)])
def test_metres_and_microns_become_millimetres(tmp_path, code, factor):
    affine = np.diag([1 / factor] * 3 + [1]) @ axes_affine("LPS")
    path = patch(save(tmp_path / "ct.nii", phantom_hu(), affine), 123, bytes([code]))
    study = open_study(path)
    assert study.receipt.spacing_mm == pytest.approx((0.7, 0.8, 2.5), rel=1e-4)
    assert "converted to mm" in study.receipt.done[0]


def test_no_orientation_in_the_header_is_warned_of(tmp_path):
    path = save(tmp_path / "ct.nii", phantom_hu())
    patch(path, 252, bytes(4))
    assert any("left and right cannot be assured" in line for line in open_study(path).receipt.warnings)


def test_two_different_placements_in_one_header_are_warned_of(tmp_path):
    image = nib.Nifti1Image(phantom_hu(), axes_affine("LPS"))
    image.set_qform(axes_affine("RPS"), 1)
    nib.save(image, tmp_path / "ct.nii.gz")
    study = open_study(tmp_path / "ct.nii.gz")
    assert study.receipt.orientation == "LPS"
    assert any("sform was used" in line for line in study.receipt.warnings)


def test_values_beyond_int16_are_clipped_and_named(tmp_path):
    hu = phantom_hu().astype(np.int32)
    hu[0, 0, 0] = 70000
    study = open_study(save(tmp_path / "ct.nii.gz", hu))
    assert study.receipt.hu_max == 32767
    assert any("70000" in line for line in study.receipt.warnings)


def test_a_trailing_axis_of_one_is_no_time(tmp_path):
    assert open_study(save(tmp_path / "ct.nii.gz", phantom_hu()[..., None])).receipt.shape == (40, 36, 12)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((8, 8, 8, 2), np.int16), "4 dimensions"),
        (np.zeros((8, 8), np.int16), "2 dimensions"),
        (np.zeros((8, 8, 1), np.int16), "Expected one volume"),
        (np.zeros((8, 8, 8), np.int16), "empty"),
        (np.full((8, 8, 8), np.nan, np.float32), "NaN"),
        (np.zeros((8, 8, 8), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "colour"),
        (np.zeros((8, 8, 8), np.complex64), "complex64"),
        (np.arange(512, dtype=np.uint8).reshape(8, 8, 8) % 3, "mask"),
        (np.linspace(0, 1, 512, dtype=np.float32).reshape(8, 8, 8), "normalised"),
    ],
)
def test_what_is_no_ct_is_refused_with_the_reason(tmp_path, array, words):
    with pytest.raises(StudyError, match=words):
        open_study(save(tmp_path / "ct.nii", array))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_nan_voxel_is_enough_to_refuse(tmp_path, bad):
    hu = phantom_hu().astype(np.float32)
    hu[3, 4, 5] = bad
    with pytest.raises(StudyError, match="NaN or infinite"):
        open_study(save(tmp_path / "ct.nii.gz", hu))


def test_a_flat_affine_is_refused(tmp_path):
    path = save(tmp_path / "ct.nii", phantom_hu())
    patch(path, 280, bytes(16))  # srow_x
    with pytest.raises(StudyError, match="three independent axes"):
        open_study(path)


def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(tmp_path):
    path = save(tmp_path / "ct.nii", phantom_hu())
    patch(path, 42, np.array([30000, 30000, 30000], "<i2").tobytes())
    with pytest.raises(StudyError, match="claims 30000 x 30000 x 30000 voxels"):
        open_study(path)
    with pytest.raises(StudyError, match="at most 0 million"):
        open_study(save(tmp_path / "b.nii", phantom_hu()), limits=ReadLimits(voxels=1000))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kept", [0, 1, 2, 100, 347, 351, 352, 5000, -1])
def test_a_truncated_file_is_refused(tmp_path, packed, kept):
    raw = save(tmp_path / "whole.nii", phantom_hu()).read_bytes()
    raw = gzip.compress(raw) if packed else raw
    (tmp_path / "ct.nii.gz").write_bytes(raw[:kept])
    with pytest.raises(StudyError):
        open_study(tmp_path / "ct.nii.gz")


def test_a_gzip_that_unpacks_to_more_than_its_header_is_not_followed(tmp_path):
    raw = save(tmp_path / "whole.nii", phantom_hu()).read_bytes()
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(raw + bytes(2**26)))
    assert open_study(tmp_path / "bomb.nii.gz").receipt.slices == 12


def test_reading_nifti_imports_nothing_heavy(tmp_path):
    save(tmp_path / "ct.nii.gz", phantom_hu())
    code = (
        "import sys, pathlib; from core.reading.study import open_study; open_study(pathlib.Path(sys.argv[1]));"
        "print(*{'torch', 'SimpleITK', 'highdicom', 'skimage'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "ct.nii.gz"], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize("edge", [1e-30, 0.001, 2000.0, 1e20])
def test_voxels_that_no_scanner_makes_are_refused(tmp_path, edge):
    path = save(tmp_path / "ct.nii", phantom_hu(), np.diag([edge, edge, edge, 1.0]))
    with pytest.raises(StudyError, match="check the unit"):
        open_study(path)


def test_a_scan_far_from_its_origin_is_refused(tmp_path):
    affine = axes_affine("LPS")
    affine[0, 3] = 1e30
    with pytest.raises(StudyError, match="check the unit"):
        open_study(save(tmp_path / "ct.nii", phantom_hu(), affine))


def test_an_unknown_data_type_is_refused(tmp_path):
    path = patch(save(tmp_path / "ct.nii", phantom_hu()), 70, (9999).to_bytes(2, "little"))
    with pytest.raises(StudyError, match="unknown data type"):
        open_study(path)


def test_a_scaling_that_turns_bright_into_dark_is_told(tmp_path):
    path = patch(save(tmp_path / "ct.nii", phantom_hu()), 112, np.float32([-1, 0]).tobytes())
    assert any("bright into dark" in line for line in open_study(path).receipt.warnings)


@pytest.mark.parametrize("axis", [0, 2])
def test_a_volume_of_three_slices_is_refused(tmp_path, axis):
    thin = np.take(phantom_hu(), range(4, 7), axis)
    with pytest.raises(StudyError, match="too few slices"):
        open_study(save(tmp_path / "ct.nii", thin))
