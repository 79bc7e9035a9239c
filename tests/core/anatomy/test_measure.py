import nibabel.orientations as nio
import numpy as np
import pytest

from core.anatomy.masks import OrganMasks
from core.anatomy.measure import measure_organs, orientation_check
from core.volume import Volume

LIVER, SPLEEN, UPPER_LEFT, LOWER_LEFT, LUNG_LEFT = 5, 1, 10, 11, 201


def volume_of(axes="RAS", spacing=(1.0, 2.0, 4.0)):
    shape = (20, 12, 8)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-30.0, 12.0, 100.0)
    hu = np.zeros(shape, np.int16)
    hu[4:6, 3, 2] = (10, 30)
    turn = nio.axcodes2ornt(axes)
    stored = nio.apply_orientation(hu, turn)
    return Volume.from_source(stored, affine @ nio.inv_ornt_aff(turn, shape))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_volume_density_and_place_of_an_organ_are_those_of_its_voxels(axes):
    volume = volume_of(axes)
    labels = np.zeros(volume.shape, np.uint8)
    labels[4:6, 3, 2] = LIVER
    liver = {m.name: m for m in measure_organs(volume, OrganMasks(labels, "test"))}["liver"]
    assert liver.voxels == 2
    assert liver.volume_ml == pytest.approx(2 * 8 / 1000)
    assert (liver.mean_hu, liver.sd_hu) == (20.0, 10.0)
    np.testing.assert_allclose(liver.centroid_ras_mm, (-30 + 4.5, 12 + 6, 100 + 8))


def test_lung_unions_add_up_lobes_and_the_undivided_rest():
    volume = volume_of()
    labels = np.zeros(volume.shape, np.uint8)
    labels[0, 0, 0], labels[1, 0, 0], labels[2:4, 0, 0] = UPPER_LEFT, LOWER_LEFT, LUNG_LEFT
    measures = {m.name: m.voxels for m in measure_organs(volume, OrganMasks(labels, "test"))}
    assert measures["lung_left"] == 4
    assert measures["lung"] == 4
    assert "lung_right" not in measures


def sides(liver_x, spleen_x):
    labels = np.zeros((40, 4, 4), np.uint8)
    labels[:, 0, 0] = 200
    labels[liver_x], labels[spleen_x] = LIVER, SPLEEN
    return OrganMasks(labels, "test")


def test_a_liver_on_the_right_is_as_expected_and_on_the_left_is_not():
    assert orientation_check(sides(liver_x=30, spleen_x=5)).kind == "ok"
    mirrored = orientation_check(sides(liver_x=5, spleen_x=30))
    assert mirrored.kind == "suspicious"
    assert "the spleen lies right of the liver" in mirrored.words


@pytest.mark.parametrize("labels", [np.zeros((4, 4, 4), np.uint8), np.full((4, 4, 4), LIVER, np.uint8)])
def test_without_a_pair_of_organs_the_side_is_unknown(labels):
    assert orientation_check(OrganMasks(labels, "test")).kind == "unknown"
