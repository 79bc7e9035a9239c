import nibabel as nib
import numpy as np
import pytest
import torch

from core.anatomy.organ_net import CLASSES
from core.errors import ConfigError
from core.structures import BY_NAME
from trainers.organ_net.acquisition import make_ill, recontrast, scan_again
from trainers.organ_net.labelled import LabelledScan, class_table, read_labelled
from trainers.organ_net.training import make_sample
from trainers.organ_net.warping import MIRRORED, WarpConfig, draw_warped, smooth_field

HEART, LEFT, RIGHT = (CLASSES.index(name) for name in ("heart", "kidney_left", "kidney_right"))
STILL = WarpConfig(turn_deg=0, stretch=0, shear=0, bend_mm=(0, 0), swell=0, mirror_chance=0, tile=(64, 64, 80))


def chest(spacing=(2.0, 3.0, 4.0), size_mm=(160.0, 150.0, 152.0)):
    """A body with a kidney on each side and a heart; brightness tells them apart."""
    shape = tuple(int(n / s) for n, s in zip(size_mm, spacing, strict=True))
    mm = np.indices(shape, np.float32) * np.array(spacing, np.float32)[:, None, None, None]
    classes = np.zeros(shape, np.uint8)
    for at, centre in ((LEFT, (40, 75, 50)), (RIGHT, (120, 75, 50)), (HEART, (80, 90, 100))):
        classes[sum((mm[a] - centre[a]) ** 2 for a in range(3)) < 15**2] = at
    hu = np.choose(np.searchsorted([0, HEART, LEFT, RIGHT], classes), [0, 40, 100, 200]).astype(np.float32)
    return LabelledScan("chest", torch.from_numpy(hu), torch.from_numpy(classes), spacing)


def middle_mm(mask):
    return torch.nonzero(mask).float().mean(dim=0) * 3.0


def test_a_sample_of_anisotropic_voxels_keeps_distances_in_mm():
    _, classes = draw_warped(chest(), STILL, np.random.default_rng(0))
    gap = middle_mm(classes == RIGHT) - middle_mm(classes == LEFT)
    torch.testing.assert_close(gap, torch.tensor([80.0, 0.0, 0.0]), atol=1.5, rtol=0)
    rise = middle_mm(classes == HEART) - middle_mm(classes == LEFT)
    torch.testing.assert_close(rise, torch.tensor([40.0, 15.0, 50.0]), atol=1.5, rtol=0)


def test_hu_and_classes_are_bent_alike():
    hu, classes = draw_warped(chest(), WarpConfig(mirror_chance=0, tile=(64, 64, 80)), np.random.default_rng(3))
    for at, value in ((LEFT, 100), (RIGHT, 200)):
        here = hu[classes == at]
        assert len(here) > 50
        assert (here.median() - value).abs() < 8


def test_a_mirrored_patient_has_left_on_the_left():
    config = WarpConfig(**{**vars(STILL), "mirror_chance": 1.0})
    hu, classes = draw_warped(chest(), config, np.random.default_rng(0))
    assert middle_mm(classes == RIGHT)[0] > middle_mm(classes == LEFT)[0]
    assert (hu[classes == LEFT].median() - 200).abs() < 8  # what was the right kidney
    assert MIRRORED[CLASSES.index("lung_upper_lobe_right")] == CLASSES.index("lung_upper_lobe_left")
    assert MIRRORED[HEART] == HEART


def test_equal_seeds_give_equal_samples():
    config = WarpConfig(tile=(32, 32, 32))
    first, second = (make_sample(chest(), config, np.random.default_rng((1, 5))) for _ in range(2))
    other = make_sample(chest(), config, np.random.default_rng((1, 6)))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].abs().max() <= 1


def test_contrast_medium_can_be_washed_out():
    scan = chest()
    hu = torch.where(scan.classes == HEART, 300.0, scan.hu)
    medians = []
    for seed in range(30):
        changed = hu.clone()
        recontrast(changed, scan.classes, np.random.default_rng(seed))
        medians.append(float(changed[scan.classes == HEART].median()))
    assert min(medians) < 90
    assert max(medians) > 200


def test_fluid_lies_behind_and_is_no_lung():
    classes = torch.full((40, 40, 40), CLASSES.index("lung_lower_lobe_left"), dtype=torch.uint8)
    for seed in range(60):
        hu, told = torch.full((40, 40, 40), -850.0), classes.clone()
        make_ill(hu, told, np.random.default_rng(seed))
        fluid = told == 0
        if fluid.any():
            assert torch.nonzero(fluid)[:, 1].float().mean() < torch.nonzero(~fluid)[:, 1].float().mean()
            assert hu[fluid].mean() < 40
            return
    pytest.fail("no fluid in 60 samples")


def test_what_is_cut_off_is_nothing():
    for seed in range(40):
        hu, classes = torch.zeros(48, 48, 48), torch.full((48, 48, 48), HEART, dtype=torch.uint8)
        hu = scan_again(hu, classes, np.random.default_rng(seed))
        if (classes == 0).any():
            assert (hu[classes == 0] == -1024).all()
            assert (hu[classes == HEART] > -500).all()
            return
    pytest.fail("nothing was cut in 40 samples")


def test_a_smooth_field_has_the_deviation_and_waves_it_says():
    field = smooth_field((60, 60, 60), 12.0, np.random.default_rng(0))
    assert 0.5 < float(field.std()) < 1.6
    assert float((field[1:] - field[:-1]).std()) < 0.35 * float(field.std())


def test_sides_and_parts_become_the_classes_of_the_net():
    table = class_table()
    assert table[BY_NAME["kidney_left"].number] == LEFT
    assert table[BY_NAME["vertebrae_T5"].number] == CLASSES.index("spine")
    assert table[BY_NAME["rib_right_3"].number] == CLASSES.index("ribs")
    assert table[BY_NAME["scapula_left"].number] == table[BY_NAME["scapula_right"].number] == CLASSES.index("scapula")
    assert table[BY_NAME["body"].number] == 0


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_a_labelled_scan_is_turned_to_ras(tmp_path, flip):
    affine = np.diag([*(np.array(flip) * (2.0, 3.0, 4.0)), 1.0])
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[1, 2, 3] = BY_NAME["kidney_left"].number
    nib.save(nib.nifti1.Nifti1Image(np.zeros((6, 7, 8), np.int16), affine), tmp_path / "ct.nii.gz")
    nib.save(nib.nifti1.Nifti1Image(labels, affine), tmp_path / "organs.nii.gz")
    scan = read_labelled(tmp_path / "ct.nii.gz", tmp_path / "organs.nii.gz")
    expected = [at if sign > 0 else n - 1 - at for at, n, sign in zip((1, 2, 3), (6, 7, 8), flip, strict=True)]
    assert torch.nonzero(scan.classes == LEFT).tolist() == [expected]
    assert scan.spacing_mm == (2.0, 3.0, 4.0)


def test_masks_of_another_grid_are_refused(tmp_path):
    for name, edge in (("ct", 2.0), ("organs", 2.5)):
        image = nib.nifti1.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.diag([edge, 2, 2, 1]))
        nib.save(image, tmp_path / f"{name}.nii.gz")
    with pytest.raises(ConfigError, match=r"organs\.nii\.gz is not on the grid"):
        read_labelled(tmp_path / "ct.nii.gz", tmp_path / "organs.nii.gz")
