"""Crops, flips that keep sides right, and surface distances."""

import numpy as np
import pytest

from core.volume import Grid
from trainers.finetuning.decathlon import side_swap
from trainers.finetuning.voxel_metrics import surface_distance
from trainers.finetuning.voxel_studies import CropConfig, ThinCase, cut, draw_start, vary

ALWAYS = CropConfig(flip_chance=1.0, turn_chance=0.0)


def test_a_flip_from_left_to_right_swaps_sided_labels():
    swap = side_swap(("background", "Left lung", "right_lung", "trachea"))
    assert swap.tolist() == [0, 2, 1, 3]
    labels = np.array([1, 2, 3, 0], np.uint8).reshape(4, 1, 1)
    hu, flipped = vary((labels.astype(np.int16), labels), ALWAYS, swap, np.random.default_rng(0))
    assert hu.ravel().tolist() == [0, 3, 2, 1]
    assert flipped.ravel().tolist() == [0, 3, 1, 2]


def test_a_side_without_counterpart_is_never_flipped():
    assert side_swap(("background", "left atrium")) is None
    labels = np.arange(4, dtype=np.uint8).reshape(4, 1, 1)
    assert vary((labels, labels), ALWAYS, None, np.random.default_rng(0))[1].ravel().tolist() == [0, 1, 2, 3]


def test_turns_keep_the_shape_of_crops_that_are_not_square():
    config, labels = CropConfig(flip_chance=0, turn_chance=1), np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    for seed in range(8):
        assert vary((labels, labels), config, None, np.random.default_rng(seed))[1].shape == (4, 3, 2)


def test_crops_lie_around_labels_as_often_as_asked():
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[35, 35, 35] = 1
    case = ThinCase(labels.astype(np.int16), labels, np.argwhere(labels))
    rng = np.random.default_rng(0)
    for config, expected in ((CropConfig(unmarked=0), 1.0), (CropConfig(marked=3), 0.75)):
        hits = [cut(labels, draw_start(case, (8, 8, 8), config, rng), (8, 8, 8), 0).any() for _ in range(400)]
        assert np.mean(hits) == pytest.approx(expected, abs=0.08)
    assert cut(labels, (0, 0, 0), (44, 8, 8), 0).shape == (44, 8, 8)


def test_surface_distance_is_in_patient_mm_along_oblique_axes():
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.7, 0.7, 5.0])
    grid = Grid((20, 20, 12), affine)
    truth = np.zeros(grid.shape, bool)
    truth[4:10, 4:10, 2:6] = True
    assert surface_distance(truth, truth, grid) == 0
    # a slab one slice higher: every voxel of its two faces is one slice from the other's
    assert surface_distance(np.roll(truth, 1, axis=2), truth, grid) == pytest.approx(5.0)
    assert np.isnan(surface_distance(np.zeros_like(truth), truth, grid))
