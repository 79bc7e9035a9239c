import nibabel as nib
import numpy as np
import pytest

from core.anatomy.provided import load_masks
from core.errors import StudyError
from core.volume import Volume

AFFINE = np.array([[-0.8, 0, 0, 50.0], [0, -0.8, 0, 60.0], [0, 0, 3.0, -100.0], [0, 0, 0, 1.0]])  # LPS


@pytest.fixture
def volume():
    return Volume.from_source(np.zeros((10, 12, 6), np.int16), AFFINE)


def write(path, labels, affine=AFFINE):
    nib.save(nib.nifti1.Nifti1Image(labels, affine), path)
    return path


def test_a_mask_on_the_files_grid_lands_at_its_place_in_the_patient(tmp_path, volume):
    labels = np.zeros((10, 12, 6), np.uint8)
    labels[1, 2, 3] = 51
    masks = load_masks(write(tmp_path / "m.nii.gz", labels), volume)
    (at,) = np.argwhere(masks.mask("heart"))
    np.testing.assert_allclose(volume.grid.to_mm(at), (AFFINE @ [1, 2, 3, 1])[:3])


def test_a_table_of_names_translates_the_numbers(tmp_path, volume):
    labels = np.zeros((10, 12, 6), np.int16)
    labels[0, 0, 0], labels[1, 0, 0], labels[2, 0, 0] = 1, 700, 3
    masks = load_masks(write(tmp_path / "m.nii", labels), volume, {1: "aorta", 700: "heart", 3: "moon"})
    assert masks.names() == ["heart", "aorta"]
    assert any("moon" in note for note in masks.notes)


@pytest.mark.parametrize(
    ("shape", "shift_mm", "reason"),
    [
        ((10, 12, 5), 0.0, "not on the CT's grid"),
        ((10, 12, 6), 0.5, "not on the CT's grid"),
        ((10, 12, 6, 2), 0.0, "3-D"),
    ],
)
def test_a_mask_on_another_grid_is_refused(tmp_path, volume, shape, shift_mm, reason):
    affine = AFFINE.copy()
    affine[0, 3] += shift_mm
    with pytest.raises(StudyError, match=reason):
        load_masks(write(tmp_path / "m.nii.gz", np.zeros(shape, np.uint8), affine), volume)


def test_a_number_without_a_name_is_refused(tmp_path, volume):
    labels = np.full((10, 12, 6), 190, np.uint8)
    with pytest.raises(StudyError, match="label 190"):
        load_masks(write(tmp_path / "m.nii.gz", labels), volume)


def test_a_heat_map_is_not_a_mask(tmp_path, volume):
    labels = np.full((10, 12, 6), 0.5, np.float32)
    with pytest.raises(StudyError, match="whole label numbers"):
        load_masks(write(tmp_path / "m.nii.gz", labels), volume)


def test_a_file_that_is_no_image_is_refused(tmp_path, volume):
    path = tmp_path / "m.nii.gz"
    path.write_bytes(b"not an image")
    with pytest.raises(StudyError, match="cannot be read"):
        load_masks(path, volume)


def test_a_file_cut_short_is_refused(tmp_path, volume):
    path = write(tmp_path / "m.nii.gz", np.random.default_rng(0).integers(0, 100, (10, 12, 6)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StudyError, match=r"m\.nii\.gz"):
        load_masks(path, volume)
