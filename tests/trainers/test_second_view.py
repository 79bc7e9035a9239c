"""The second view: the mask follows every flip, brightness varies as told, the same draws give the same view."""

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from core.structures import BY_NAME
from trainers.crops import Crop, DataView, show
from trainers.second_view import SecondView, ViewChange

VIEW = DataView(window_hu=(-1150.0, 350.0), shown_as=(0.0, 1.0), organ_map="fvlm4")
STILL = ViewChange(flip_chance=0.0, gain=0.0, offset=0.0, noise=0.0)
HEART, HEART_ID = BY_NAME["heart"].number, 2


def draw_crop() -> Crop:
    """Bone wherever the heart is, soft tissue elsewhere."""
    structures = np.zeros((5, 4, 3), np.uint8)
    structures[0, 1:3, 0] = HEART
    return Crop("a", np.where(structures > 0, 350, -400).astype(np.int16), structures, False)


def test_without_changes_it_is_the_first_view():
    crop = draw_crop()
    found = SecondView(VIEW, STILL).make(crop, np.random.default_rng(0))
    assert set(found) == set(SecondView.fields)
    assert torch.equal(found["image_v2"][0], torch.from_numpy(show(crop.hu, VIEW)))
    assert found["organ_mask_v2"].unique().tolist() == [0, HEART_ID]
    assert found["organ_mask_v2"][0, 1, 0] == HEART_ID


@pytest.mark.parametrize("seed", range(6))
def test_the_mask_follows_every_flip(seed):
    crop = draw_crop()
    found = SecondView(VIEW, ViewChange(flip_chance=0.5, noise=0.0)).make(crop, np.random.default_rng(seed))
    bright = found["image_v2"][0] > found["image_v2"].mean()
    assert torch.equal(bright, found["organ_mask_v2"] == HEART_ID)


def test_every_axis_is_flipped_now_and_then():
    view = SecondView(VIEW, ViewChange(flip_chance=0.5))
    found = {
        tuple(view.make(draw_crop(), np.random.default_rng(seed))["organ_mask_v2"].nonzero()[0].tolist())
        for seed in range(60)
    }
    assert {place[0] for place in found} == {0, 4}
    assert {place[2] for place in found} == {0, 2}


def test_brightness_stays_within_what_was_told():
    crop = draw_crop()
    change = ViewChange(flip_chance=0.0, gain=0.1, offset=0.05, noise=0.0)
    images = [SecondView(VIEW, change).make(crop, np.random.default_rng(s))["image_v2"] for s in range(50)]
    gaps = torch.stack(images) - torch.from_numpy(show(crop.hu, VIEW))
    assert 0.02 < float(gaps.abs().max()) <= 0.1 * 0.5 + 0.05 + 1e-6


def test_the_same_draws_give_the_same_view():
    view = SecondView(VIEW)
    first, again, other = (view.make(draw_crop(), np.random.default_rng(s))["image_v2"] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_crop_without_mask_has_a_view_without_mask():
    found = SecondView(VIEW).make(draw_crop()._replace(structures=None), np.random.default_rng(0))
    assert set(found) == {"image_v2"}


def test_impossible_changes_are_refused():
    with pytest.raises(ConfigError, match="flip_chance"):
        ViewChange(flip_chance=2.0)
