import nibabel as nib
import numpy as np
import pytest

from core.anatomy.atlas import load_atlas
from core.anatomy.engines import EnginePlaces, choose_segmenter, list_engines
from core.errors import ConfigError, EngineError


def write_atlas(folder, labels_affine=None):
    affine = np.diag([-4.0, -4.0, 4.0, 1.0])
    labels = np.zeros((6, 5, 4), np.uint8)
    labels[0, 1, 2], labels[5, 1, 2] = 12, 10  # in LPS the first voxels lie on the patient's right
    nib.save(nib.nifti1.Nifti1Image(np.zeros((6, 5, 4), np.int16), affine), folder / "ct.nii.gz")
    nib.save(
        nib.nifti1.Nifti1Image(labels, affine if labels_affine is None else labels_affine), folder / "organs.nii.gz"
    )
    return affine


def test_atlas_labels_are_turned_with_their_ct(tmp_path):
    affine = write_atlas(tmp_path)
    atlas = load_atlas(tmp_path)
    (at,) = np.argwhere(atlas.labels == 10)
    np.testing.assert_allclose(atlas.volume.grid.to_mm(at), (affine @ [5, 1, 2, 1])[:3])


def test_atlas_labels_on_another_grid_are_refused(tmp_path):
    write_atlas(tmp_path, labels_affine=np.diag([-4.0, -4.0, 5.0, 1.0]))
    with pytest.raises(ConfigError, match="not on the grid"):
        load_atlas(tmp_path)


def test_without_an_atlas_the_embedded_engine_says_what_is_missing(tmp_path):
    places = EnginePlaces(tmp_path, totalseg_home=tmp_path)
    assert not list_engines(places)["embedded"].can_run
    with pytest.raises(EngineError, match=r"ct\.nii\.gz and organs\.nii\.gz missing"):
        choose_segmenter("auto", places)


def test_auto_takes_the_embedded_engine_where_totalsegmentator_has_no_weights(tmp_path):
    write_atlas(tmp_path)
    places = EnginePlaces(tmp_path, totalseg_home=tmp_path)
    assert choose_segmenter("auto", places).name == "embedded"
    with pytest.raises(EngineError, match="totalsegmentator cannot run"):
        choose_segmenter("totalsegmentator", places)


def test_an_unknown_engine_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="auto, totalsegmentator, embedded"):
        choose_segmenter("magic", EnginePlaces(tmp_path))
