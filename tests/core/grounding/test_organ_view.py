"""What fVLM and ViSD-Boost see of a CT with padding below -1024 HU is what their preprocessing makes of the file."""

import nibabel as nib
import numpy as np
import pytest

from core.anatomy.masks import OrganMasks
from core.grounding.organ_view import OrganView, read_organs
from core.grounding.view import ViewConfig, box_grid, show_box
from core.organ_map import find_organ_map
from core.reading.study import open_study
from core.structures import BY_NAME
from core.volume import Volume

LOW, HIGH = -1150.0, 350.0
VIEW = ViewConfig(
    (1.0, 1.0, 3.0), (32, 32, 16), (8, 8, 8), (LOW, HIGH), (0.0, 1.0), smooth=False, organ_margin_mm=(0.0, 0.0, 0.0)
)
PADDING = -2000


def a_ct(x_mm: float) -> np.ndarray:
    """HU (X, Y, Z) int16 in steps of `x_mm`: tissue of random density inside a circle, padding outside."""
    x, y = np.meshgrid(np.arange(round(40 / x_mm)) * x_mm, np.arange(40), indexing="ij")
    outside = np.hypot(x - 20, y - 20) > 14
    hu = np.random.default_rng(0).integers(-950, 300, (*x.shape, 20)).astype(np.int16)
    hu[outside] = PADDING
    return hu


def opened(hu: np.ndarray, x_mm: float, path) -> Volume:
    nib.save(nib.Nifti1Image(hu, np.diag([x_mm, 1.0, 3.0, 1.0])), path)
    return open_study(path).volume


def seen(volume: Volume) -> OrganView:
    labels = np.zeros(volume.shape, np.uint8)
    middle = tuple(slice(n // 3, n - n // 3) for n in volume.shape)
    labels[middle] = BY_NAME["heart"].number
    return read_organs(volume, OrganMasks(labels, "by hand"), find_organ_map("fvlm4"), VIEW)


def test_the_spec_of_voxels_that_are_not_moved(tmp_path):
    """At 1 x 1 x 3 mm nothing is interpolated: the file's values, clipped to [-1150, 350] and mapped to [0, 1]."""
    hu = a_ct(1.0)
    view = seen(opened(hu, 1.0, tmp_path / "ct.nii.gz"))
    start = np.rint(view.grid.affine[:3, 3] / [1, 1, 3]).astype(int)
    cut = hu[tuple(slice(at, at + n) for at, n in zip(start, VIEW.image_size, strict=True))]
    np.testing.assert_allclose(view.image, (np.clip(cut, LOW, HIGH) - LOW) / (HIGH - LOW), atol=1e-5)
    assert (view.image[cut == PADDING] == 0).all()
    assert (cut == PADDING).sum() > 100


def test_padding_is_resampled_before_it_is_clipped(tmp_path):
    """Between a voxel of padding and one of tissue lies their mean, padding as low as the file has it."""
    hu = a_ct(0.8)
    view = seen(opened(hu, 0.8, tmp_path / "ct.nii.gz"))
    x_mm, y, z = view.grid.affine[0, 3] + np.arange(32), *np.rint(view.grid.affine[1:3, 3] / [1, 3]).astype(int)
    row = hu[:, y + 16, z + 8].astype(float)
    expected = (np.clip(np.interp(x_mm, np.arange(len(row)) * 0.8, row), LOW, HIGH) - LOW) / (HIGH - LOW)
    np.testing.assert_allclose(view.image[:, 16, 8], expected, atol=1e-4)
    assert 0 < (expected == 0).sum() < 32


def test_others_see_the_raised_values(tmp_path):
    hu = a_ct(1.0)
    volume = opened(hu, 1.0, tmp_path / "ct.nii.gz")
    assert volume.hu.min() == -1024
    assert volume.as_stored().hu.min() == PADDING
    image = show_box(volume, box_grid(volume.grid.centre_mm, VIEW), VIEW)
    assert image.min() == pytest.approx((-1024 - LOW) / (HIGH - LOW))
