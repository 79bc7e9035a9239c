import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from safetensors.numpy import load_file

from core.errors import ConfigError, StudyError
from core.preprocess import (
    centre_start,
    crop_and_pad,
    resample_as_released,
    resample_smoothly,
    stretch_nearest,
    stretched_grid,
    window_hu,
)
from core.volume import Grid, Volume

FIXTURES = Path(os.environ.get("ASAP_FIXTURES", Path(__file__).resolve().parents[3] / "shared" / "fixtures"))
FOLDER = FIXTURES / "asap_preprocess"


@pytest.fixture(scope="module")
def golden():
    if not FOLDER.is_dir():
        pytest.skip(f"golden numbers {FOLDER} are absent (set ASAP_FIXTURES)")
    about = json.loads((FOLDER / "preprocess.json").read_text())
    return about, load_file(FOLDER / about["files"]["expected"])


def test_published_off_line_step_voxel_by_voxel(golden):
    about, expected = golden
    for name, case in about["cases"].items():
        image = nib.load(FOLDER / case["file"])
        volume = Volume.from_source(np.asanyarray(image.dataobj), image.affine)
        got = resample_as_released(volume.hu, volume.spacing_mm)
        wanted = expected[f"{name}.expected"]
        assert got.shape == tuple(case["output_shape"])
        gap = np.abs(got.astype(int) - wanted)
        assert gap.max() <= 1
        assert (gap > 0).mean() <= 0.001, name


def test_published_evaluation_transform(golden):
    about, expected = golden
    for name, case in about["transform"].items():
        scaled = window_hu(expected[f"transform.{name}.input"])
        roi = tuple(case["roi"])
        got = crop_and_pad(scaled, centre_start(scaled.shape, roi), roi)
        np.testing.assert_allclose(got, expected[f"transform.{name}.expected"][0], atol=1e-6)


def test_window_by_hand():
    hu = np.array([-3000, -1000, 0, 500, 1000, 2000], np.int16)
    np.testing.assert_allclose(window_hu(hu), [-1, -1, 0, 0.5, 1, 1])
    np.testing.assert_allclose(window_hu(hu, (-1000, 500))[2], 1 / 3, atol=1e-6)
    with pytest.raises(ConfigError, match="must ascend"):
        window_hu(hu, (5.0, 5.0))


@pytest.mark.parametrize("direction", [np.diag([1, 1, 1]), np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])])
def test_smooth_step_keeps_a_landmark_at_its_millimetre(direction):
    """The published file loses origin and direction; ours keeps them, also for a turned scan."""
    affine = np.eye(4)
    affine[:3, :3] = direction @ np.diag([0.7, 0.9, 1.25])
    affine[:3, 3] = [-40, 12, 300]
    grid = Grid((64, 60, 40), affine)
    hu = np.full(grid.shape, -1000, np.int16)
    hu[28:34, 30:36, 18:24] = 500
    coarse, target = resample_smoothly(hu, grid)
    before = grid.to_mm(np.argwhere(hu > 0)).mean(axis=0)
    weight = coarse.astype(float) + 1000
    after = (target.to_mm(np.argwhere(weight > 0)) * weight[weight > 0][:, None]).sum(axis=0) / weight.sum()
    np.testing.assert_allclose(after, before, atol=0.2)
    np.testing.assert_allclose(target.spacing_mm, (1.5, 1.5, 3.0))


def test_thin_volume_is_mirrored_until_it_fills_the_crop():
    array = np.arange(2)[None, None, :].astype(np.int16)
    assert crop_and_pad(array, (0, 0, 0), (1, 1, 7))[0, 0].tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_a_slab_thinner_than_one_voxel_is_refused():
    with pytest.raises(StudyError, match="less than one voxel"):
        resample_as_released(np.zeros((9, 9, 1), np.int16), (1.0, 1.0, 1.0))


def test_the_released_step_clips_to_any_window_and_reads_turned_views():
    hu = np.random.default_rng(0).integers(-3000, 3000, (9, 14, 11)).astype(np.int16)
    plain = resample_as_released(hu, (1.0, 1.0, 1.0), (2.0, 1.0, 1.5), (-1150.0, 350.0))
    assert (plain.min(), plain.max()) == (-1150, 350)
    turned = np.asfortranarray(hu[::-1])[::-1]
    np.testing.assert_array_equal(
        resample_as_released(turned, (1.0, 1.0, 1.0), (2.0, 1.0, 1.5), (-1150.0, 350.0)), plain
    )


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_the_grid_of_the_released_step_places_a_landmark(signs):
    """A ramp along each axis: the value of a voxel tells where it was taken from."""
    affine = np.diag([*(np.array([0.7, 0.9, 1.25]) * signs), 1.0])
    affine[:3, 3] = (-40, 12, 300)
    grid = Grid((64, 60, 41), affine)
    for axis in range(3):
        ramp = np.broadcast_to(
            (np.arange(grid.shape[axis]) * 10).reshape([-1 if a == axis else 1 for a in range(3)]), grid.shape
        )
        coarse = resample_as_released(ramp.astype(np.int16), grid.spacing_mm)
        target = stretched_grid(grid, coarse.shape)
        at = np.array(coarse.shape) // 2
        source = grid.to_voxel(target.to_mm(at))
        assert coarse[tuple(at)] == pytest.approx(source[axis] * 10, abs=1)


def test_labels_are_taken_and_never_mixed():
    labels = np.zeros((10, 4, 7), np.uint8)
    labels[:5], labels[5:] = 3, 200
    stretched = stretch_nearest(labels, (4, 4, 3))
    assert stretched[:, 0, 0].tolist() == [3, 3, 200, 200]
    assert stretched.dtype == np.uint8
