"""Landmarks in millimetres must survive every change of axes."""

import nibabel.orientations as nio
import numpy as np
import pytest

from core.errors import StudyError
from core.volume import Grid, Volume

SPACING = (0.7, 1.1, 2.5)


def oriented(axes: str, shape: tuple[int, int, int], tilt_deg: float = 0.0) -> np.ndarray:
    """An affine whose axes grow towards `axes`, anisotropic, off origin, turned about z by `tilt_deg`."""
    turn = nio.inv_ornt_aff(nio.axcodes2ornt(tuple(axes)), shape)
    scale = np.diag([*SPACING, 1.0])
    angle = np.radians(tilt_deg)
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    tilt[:3, 3] = (-91.5, 12.25, -300.0)
    return tilt @ scale @ turn


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SAR", "AIL"])
@pytest.mark.parametrize("tilt_deg", [0.0, 11.0])
def test_a_bright_voxel_stays_at_its_place_in_the_patient(axes, tilt_deg):
    stored = np.full((4, 5, 6), -1000, np.int16)
    stored[1, 2, 3] = 700
    affine = oriented(axes, stored.shape, tilt_deg)
    volume = Volume.from_source(stored, affine)
    found = np.argwhere(volume.hu == 700)[0]
    np.testing.assert_allclose(volume.grid.to_mm(found), Grid(stored.shape, affine).to_mm([1, 2, 3]))
    assert volume.grid.orientation == "RAS"


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SLA"])
def test_masks_return_to_the_axes_of_the_file(axes):
    rng = np.random.default_rng(0)
    stored = rng.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    volume = Volume.from_source(stored, oriented(axes, stored.shape))
    np.testing.assert_array_equal(volume.to_source(volume.hu), stored)
    np.testing.assert_array_equal(volume.from_source_array(stored), volume.hu)


def test_sizes_and_places_are_in_millimetres():
    grid = Grid((10, 10, 10), np.diag([0.5, 0.5, 4.0, 1.0]))
    assert grid.spacing_mm == (0.5, 0.5, 4.0)
    assert grid.voxel_ml == pytest.approx(0.001)
    assert grid.nearest_voxel((2.1, 100.0, 3.9)) == (4, 9, 1)
    np.testing.assert_allclose(grid.centre_mm, [2.25, 2.25, 18.0])


def test_obliqueness_is_the_angle_to_the_patient_axes():
    assert Grid((4, 5, 6), oriented("LPS", (4, 5, 6), 11.0)).obliqueness_deg == pytest.approx(11.0)


def test_the_content_hash_knows_place_and_values_but_not_the_axes_of_the_file():
    stored = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    affine = oriented("RAS", stored.shape)
    first = Volume.from_source(stored, affine)
    flip = nio.axcodes2ornt(("L", "P", "S"))
    flipped = Volume.from_source(nio.apply_orientation(stored, flip), affine @ nio.inv_ornt_aff(flip, stored.shape))
    moved = affine.copy()
    moved[0, 3] += 1
    assert first.content_hash == flipped.content_hash
    assert first.content_hash != Volume.from_source(stored, moved).content_hash
    assert first.content_hash != Volume.from_source(stored + 1, affine).content_hash


def test_grids_match_within_a_micrometre_only():
    affine = oriented("RAS", (4, 5, 6))
    moved = affine.copy()
    moved[0, 3] += 0.5
    assert Grid((4, 5, 6), affine).matches(Grid((4, 5, 6), affine + 1e-5))
    assert not Grid((4, 5, 6), affine).matches(Grid((4, 5, 6), moved))
    assert not Grid((4, 5, 6), affine).matches(Grid((4, 5, 7), affine))


def test_an_affine_without_three_directions_is_refused():
    with pytest.raises(StudyError, match="three independent axes"):
        Volume.from_source(np.zeros((4, 5, 6), np.int16), np.diag([1.0, 0.0, 1.0, 1.0]))
