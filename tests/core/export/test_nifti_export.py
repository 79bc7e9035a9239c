"""What is written lies where the CT lies, in any reader."""

import gzip
import io
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_series import RAS_TO_LPS, axes_affine, oblique_affine, phantom_hu

from core.errors import ConfigError
from core.export.nifti import nifti_bytes, write_nifti, write_on_source
from core.reading.study import open_study
from core.volume import Grid, Volume

ORIENTATIONS = ["RAS", "LPS", "PIR", "SAL", "oblique"]


def make_volume(axes):
    affine = oblique_affine() if axes == "oblique" else axes_affine(axes)
    return Volume.from_source(phantom_hu(), affine)


@pytest.mark.parametrize("axes", ORIENTATIONS)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int16, np.float32])
def test_a_marked_voxel_is_found_at_its_millimetres(tmp_path, axes, dtype):
    volume = make_volume(axes)
    marked = np.zeros(volume.shape, dtype)
    marked[5, 7, 9] = 1
    write_on_source(tmp_path / "m.nii.gz", marked, volume)
    image = nib.load(tmp_path / "m.nii.gz")
    assert image.shape == volume.source.shape
    found = np.argwhere(np.asanyarray(image.dataobj) == 1)
    expected = volume.grid.to_mm([5, 7, 9])
    np.testing.assert_allclose(nib.affines.apply_affine(image.affine, found), [expected], atol=1e-3)
    itk = sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    lps = itk.TransformIndexToPhysicalPoint([int(n) for n in found[0]])
    np.testing.assert_allclose(lps, expected @ RAS_TO_LPS[:3, :3], atol=1e-3)


def test_the_header_says_mm_and_scanner_and_nothing_is_rescaled(tmp_path):
    volume = make_volume("LPS")
    write_nifti(tmp_path / "m.nii", np.ones(volume.source.shape, np.uint8), volume.source, "organ masks")
    header = nib.load(tmp_path / "m.nii").header
    assert header.get_xyzt_units()[0] == "mm"
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), volume.source.affine, atol=1e-4)
    assert header["descrip"].item() == b"organ masks"
    assert header.get_data_dtype() == np.uint8
    assert struct.unpack_from("<2f", (tmp_path / "m.nii").read_bytes(), 112) == (1.0, 0.0)  # nibabel hides these


def test_a_sheared_grid_gets_no_quaternion(tmp_path):
    affine = axes_affine("LPS")
    affine[1, 2] = 0.6
    write_nifti(tmp_path / "m.nii", np.ones((4, 5, 6), np.uint8), Grid((4, 5, 6), affine))
    image = nib.load(tmp_path / "m.nii")
    assert int(image.header["qform_code"]) == 0
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)


def test_what_is_written_opens_as_the_same_ct(tmp_path):
    volume = make_volume("PIR")
    write_on_source(tmp_path / "ct.nii.gz", volume.hu, volume)
    again = open_study(tmp_path / "ct.nii.gz").volume
    np.testing.assert_array_equal(again.hu, volume.hu)
    assert again.source.matches(volume.source)
    assert again.content_hash == volume.content_hash


def test_bytes_for_a_download_are_the_file_and_do_not_change_with_the_clock(tmp_path):
    volume = make_volume("LPS")
    array = volume.to_source(volume.hu)
    data = nifti_bytes(array, volume.source)
    write_nifti(tmp_path / "ct.nii.gz", array, volume.source)
    assert data == (tmp_path / "ct.nii.gz").read_bytes() == nifti_bytes(array, volume.source)
    holder = nib.FileHolder(fileobj=io.BytesIO(gzip.decompress(data)))
    image = nib.Nifti1Image.from_file_map({"header": holder, "image": holder})
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), array)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    grid = Grid((4, 4, 4), np.eye(4))
    path = tmp_path / "m.nii.gz"
    write_nifti(path, np.ones((4, 4, 4), np.uint8), grid)
    before = path.read_bytes()
    for bad in (np.full((4, 4, 4), np.nan, np.float32), np.ones((4, 4, 5), np.uint8), np.ones((4, 4, 4), np.int64)):
        with pytest.raises(ValueError, match=r"NaN|not on its grid|none of"):
            write_nifti(path, bad, grid)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["m.nii.gz"]


def test_impossible_outputs_are_refused(tmp_path):
    array, grid = np.ones((4, 4, 4), np.uint8), Grid((4, 4, 4), np.eye(4))
    with pytest.raises(ConfigError, match=r"ending in \.nii\.gz"):
        write_nifti(tmp_path / "mask.png", array, grid)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_nifti(tmp_path / "file" / "m.nii", array, grid)
