"""An engine sees of a CT what the training data were made of: the same numbers at the same places, to a rounded HU."""

import json
from dataclasses import replace

import numpy as np
import pytest
from model_folders import write_run

from core.errors import ConfigError
from core.grounding.model_folder import open_folder
from core.grounding.view import ViewConfig, show_box
from core.models.published_models import PUBLISHED_MODELS
from core.preprocess import crop_and_pad, resample_as_released, resample_smoothly, stretched_grid
from core.resample import lies_inside
from core.tasks.view import TaskView, show
from core.volume import Grid, Volume

WINDOW = (-1000.0, 400.0)


def scan(axes: str) -> Volume:
    """Noise with a metal block and a dark corner far outside the window; stored towards RAS, or its first axes LP."""
    rng = np.random.default_rng(3)
    hu = rng.normal(-300, 200, (24, 30, 20)).astype(np.int16)
    hu[10:13, 11:14, 8:11] = 3000
    hu[:3, :3] = -3024
    affine = np.diag([2.0, 1.5, 3.0, 1.0])
    affine[:3, 3] = (-20.0, 10.0, 35.0)
    if axes == "LPS":
        affine = affine @ np.array([[-1, 0, 0, 23], [0, -1, 0, 29], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        hu = hu[::-1, ::-1]
    return Volume.from_source(hu, affine)


@pytest.mark.parametrize("axes", ["RAS", "LPS"])
@pytest.mark.parametrize(("resample", "clip_late"), [("smooth", False), ("as_released", False), ("as_released", True)])
def test_the_box_holds_the_numbers_that_training_data_hold(axes, resample, clip_late):
    volume, spacing = scan(axes), (4.0, 4.5, 6.0)
    if resample == "smooth":
        hu, grid = resample_smoothly(volume.hu, volume.grid, spacing, WINDOW)
    else:
        limits = (-32768.0, 32767.0) if clip_late else WINDOW
        hu = resample_as_released(volume.hu, volume.spacing_mm, spacing, limits)
        grid = stretched_grid(volume.grid, hu.shape)
    wanted = show(hu, TaskView(spacing, WINDOW))
    view = ViewConfig(spacing, hu.shape, (1, 1, 1), WINDOW, smooth=resample == "smooth", clip_late=clip_late)
    seen = show_box(volume, grid, view)
    np.testing.assert_allclose(seen, wanted, atol=1.01 * 2 / (WINDOW[1] - WINDOW[0]))
    other = show_box(volume, grid, replace(view, clip_late=not clip_late))
    assert np.abs(other - seen).max() > 0.1, "metal at the rim of a voxel counts as much as its window lets it"


@pytest.mark.parametrize("axes", ["RAS", "LPS"])
def test_outside_the_scan_lies_its_mirror_image_where_training_mirrored(axes):
    volume = scan(axes)
    size = (30, 36, 32)
    before = np.array([3, 3, 6])
    affine = volume.grid.affine.copy()
    affine[:3, 3] = volume.grid.to_mm(-before)
    box = Grid(size, affine)
    view = ViewConfig((2.0, 1.5, 3.0), size, (2, 2, 2), WINDOW, clip_late=False, padding="mirror")
    wanted = show(crop_and_pad(np.clip(volume.hu, *WINDOW), (0, 0, 0), size), TaskView(window_hu=WINDOW))
    np.testing.assert_allclose(show_box(volume, box, view), wanted, atol=1e-5)
    air = show_box(volume, box, replace(view, padding="air"))
    outside = ~lies_inside(box, volume.grid)
    assert (air[outside] == -1.0).all()
    np.testing.assert_allclose(air[~outside], wanted[~outside], atol=1e-5)


def test_a_tilted_scan_is_not_mirrored():
    volume = scan("RAS")
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    tilted = Volume.from_source(volume.hu, turn @ volume.grid.affine)
    box = Grid((60, 60, 40), np.diag([2.0, 1.5, 3.0, 1.0]) + np.pad(np.array([[-40.0], [-5], [10]]), ((0, 1), (3, 0))))
    view = ViewConfig((2.0, 1.5, 3.0), (60, 60, 40), (2, 2, 2), WINDOW, padding="mirror")
    outside = ~lies_inside(box, tilted.grid)
    assert outside.any()
    assert (show_box(tilted, box, view)[outside] == -1.0).all()


def test_an_engine_takes_all_of_the_view_from_its_file(tmp_path):
    write_run(tmp_path, "fvlm", clip_late="false", padding="mirror", organ_margin="[2, 3, 4]")
    view = open_folder(tmp_path).view
    assert (view.clip_late, view.padding) == (False, "mirror")
    assert view.organ_margin_mm == (16.0, 24.0, 48.0), "voxels of 8x8x12 mm"
    write_run(tmp_path, "fvlm")
    assert open_folder(tmp_path).view.clip_late, "as files that tell nothing were always read"


def test_published_weights_say_how_their_authors_clip_and_pad():
    asap, fvlm, visd = (PUBLISHED_MODELS[name].facts for name in ("asap", "fvlm", "visd"))
    assert (json.loads(asap["clip_late"]), asap["padding"]) == (False, "mirror")
    assert (json.loads(fvlm["clip_late"]), fvlm["padding"], json.loads(fvlm["organ_margin"])) == (
        True,
        "air",
        [20, 20, 5],
    )
    assert visd == fvlm


def test_impossible_views_are_refused():
    with pytest.raises(ConfigError, match="air or mirror"):
        ViewConfig(padding="zeros")
    with pytest.raises(ConfigError, match="organ_margin_mm"):
        ViewConfig(organ_margin_mm=(-1.0, 0.0, 0.0))
