"""The published preprocessing of fVLM: the organs' box, windowed and padded, as its own code cut it."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trainers.crops import box_of, pad_crop, show, widen_box
from trainers.recipes.fvlm import RECIPE, VIEW

FIXTURES = Path(os.environ.get("ASAP_FIXTURES", Path(__file__).resolve().parents[4] / "shared" / "fixtures"))


@pytest.fixture(scope="module")
def told():
    path = FIXTURES / "fvlm" / "fvlm.json"
    if not path.is_file():
        pytest.skip(f"golden numbers {path} are absent (set ASAP_FIXTURES)")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def arrays(told):
    return load_file(FIXTURES / "fvlm" / told["files"]["expected"])


def test_box_window_and_padding(told, arrays):
    facts = told["organ_box"]
    hu, mask = arrays["organ_box.image_xyz"].numpy(), arrays["organ_box.mask_xyz"].numpy()
    assert list(hu.shape) == facts["volume_xyz"]
    box = widen_box(box_of(mask > 0), hu.shape, VIEW)
    assert [part.start for part in reversed(box)] == facts["crop_start_zyx"]
    assert [part.stop for part in reversed(box)] == facts["crop_stop_zyx"]
    shown = torch.from_numpy(np.ascontiguousarray(show(hu[box], VIEW).transpose(2, 1, 0)))
    step, want = facts["cropped_stride"], arrays["organ_box.cropped_zyx_strided"]
    atol = told["tolerance"]["atol"]["organ_box.cropped_zyx_strided"]
    torch.testing.assert_close(shown[::step, ::step, ::step], want, atol=atol, rtol=1e-4)
    size = tuple(reversed(facts["padded_shape"]))
    assert size == RECIPE.image_size(RECIPE.config("released", 100))
    padded = show(pad_crop(hu[box], replace(VIEW, crop=size), int(VIEW.window_hu[0])), VIEW).transpose(2, 1, 0)
    assert list(padded.shape) == facts["padded_shape"]
    inside = tuple(slice(at, at + n) for at, n in zip(facts["pad_before"], shown.shape, strict=True))
    assert np.array_equal(padded[inside], shown.numpy())
    assert np.count_nonzero(padded) == np.count_nonzero(shown.numpy())  # zeros all around
