"""Interpolation is checked with fields whose value is known at every patient point."""

import numpy as np
import pytest

from core.resample import average_down, resample, resample_smooth, sample_at, spaced_grid, target_grid
from core.volume import Grid


def slanted(grid: Grid) -> np.ndarray:
    """The value 2x - 3y + 0.5z (mm) at every voxel: linear interpolation must return it exactly."""
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    return (grid.to_mm(voxels) @ np.array([2.0, -3.0, 0.5])).astype(np.float32)


def grid_turned(degrees: float, spacing=(0.8, 1.3, 2.5), shape=(40, 30, 24)) -> Grid:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = (-16.0, -20.0, -30.0)
    return Grid(shape, affine)


@pytest.mark.parametrize("degrees", [0.0, 7.0])
def test_linear_resampling_returns_a_linear_field_exactly(degrees):
    source = grid_turned(degrees)
    target = target_grid(source.centre_mm, (9, 7, 5), np.array([1.1, 0.9, 3.0]))
    np.testing.assert_allclose(resample(slanted(source), source, target), slanted(target), atol=2e-3)


@pytest.mark.parametrize("degrees", [0.0, 7.0])
def test_a_labelled_voxel_stays_at_its_place_in_millimetres(degrees):
    source = grid_turned(degrees)
    labels = np.zeros(source.shape, np.uint8)
    labels[18:24, 12:16, 10:14] = 5
    target = spaced_grid(source, np.array([0.5, 0.5, 0.5]))
    fine = resample(labels, source, target, "nearest")
    assert fine.dtype == np.uint8
    assert set(np.unique(fine)) == {0, 5}
    middle = target.to_mm(np.argwhere(fine == 5).mean(axis=0))
    np.testing.assert_allclose(middle, source.to_mm([20.5, 13.5, 11.5]), atol=0.3)


def test_outside_the_source_is_fill():
    source = Grid((4, 4, 4), np.eye(4))
    target = Grid((8, 4, 4), np.array([[1.0, 0, 0, -2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    moved = resample(np.ones((4, 4, 4), np.int16), source, target, fill=-1000)
    np.testing.assert_array_equal(moved[:, 0, 0], [-1000, -1000, 1, 1, 1, 1, -1000, -1000])


def test_block_means_lie_in_the_middle_of_their_block():
    source = grid_turned(7.0)
    mean, grid = average_down(slanted(source), source, (2, 3, 4))
    np.testing.assert_allclose(mean, slanted(grid), atol=1e-3)


def test_smooth_resampling_sees_every_source_voxel():
    source = Grid((8, 8, 8), np.eye(4))
    checkers = np.indices(source.shape).sum(axis=0) % 2 * 100
    coarse = resample_smooth(checkers, source, spaced_grid(source, np.array([2.0, 2.0, 2.0])))
    np.testing.assert_allclose(coarse, 50.0)


def test_spaced_grids_keep_their_middle():
    source = grid_turned(7.0)
    fine = spaced_grid(source, np.array([0.4, 0.65, 1.25]))
    assert fine.shape == (80, 60, 48)
    np.testing.assert_allclose(fine.centre_mm, source.centre_mm)


def test_values_at_any_places_are_those_of_a_plane():
    x, y, z = np.meshgrid(np.arange(5.0), np.arange(7.0), np.arange(4.0), indexing="ij")
    plane = (2 * x - 3 * y + 10 * z).astype(np.float32)
    places = np.random.default_rng(0).uniform(0, 1, (3, 6, 2, 5)).astype(np.float32) * np.array([4, 6, 3]).reshape(
        3, 1, 1, 1
    )
    np.testing.assert_allclose(sample_at(plane, places), 2 * places[0] - 3 * places[1] + 10 * places[2], atol=1e-3)
    labels = np.arange(140, dtype=np.uint8).reshape(5, 7, 4)
    near = np.rint(places).astype(int)
    np.testing.assert_array_equal(sample_at(labels, places, "nearest"), labels[tuple(near)])


def test_places_more_than_half_a_voxel_outside_are_filled():
    places = np.array([-0.6, -0.4, 2.4, 2.6], np.float32).reshape(1, 4, 1, 1) * np.array([1, 0, 0]).reshape(3, 1, 1, 1)
    found = sample_at(np.full((3, 1, 1), 7, np.int16), places.astype(np.float32), "linear", -1024)
    assert found.ravel().tolist() == [-1024, 7, 7, -1024]
