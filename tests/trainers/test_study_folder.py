from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from core.errors import ConfigError, StudyError
from core.models.tokens import train_wordpiece
from core.structures import BY_NAME
from trainers.batch import check_batch, collate
from trainers.crops import MIRROR, DataView, draw_crop
from trainers.folder import FolderImages, prepare_study
from trainers.recipes.asap import RELEASED_VIEW
from trainers.recipes.fvlm import VIEW as FVLM_VIEW
from trainers.report_tokens import ReportConfig, ReportTokens, read_reports
from trainers.sources import RecipeStudies
from trainers.synthetic import CLASS_STRUCTURES, class_map

CROP = (16, 16, 8)
FINDINGS = "A nodule lies in the left upper lobe. Heart is normal."
PLAIN, SHORT = DataView(), ReportConfig(max_tokens=64)
AFFINE = np.diag([-3.0, -3.0, 6.0, 1.0])  # LPS on disk


@pytest.fixture
def folder(tmp_path):
    """Two studies: a bright block in the patient's left, labelled left upper lobe; one is thinner than the crop."""
    for kind in ("volumes", "masks"):
        (tmp_path / kind).mkdir()
    for name, shape in (("a", (12, 12, 9)), ("b", (11, 12, 2))):
        hu = np.full(shape, -1000, np.int16)
        organs = np.zeros(shape, np.uint8)
        hu[-5:], organs[-5:] = 500, BY_NAME["lung_upper_lobe_left"].number  # high x on an LPS file = left
        nib.save(nib.Nifti1Image(hu, AFFINE), tmp_path / "volumes" / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(organs, AFFINE), tmp_path / "masks" / f"{name}.nii.gz")
    (tmp_path / "reports.csv").write_text(f"study_id,findings,impression\na,{FINDINGS},Nodule\nb,{FINDINGS},\n")
    return tmp_path


def a_set(folder, view=PLAIN, reports=SHORT, **changes) -> RecipeStudies:
    view = replace(view, **{"spacing_mm": (3.0, 3.0, 6.0), "offset_chance": 0.0, "crop": CROP, **changes})
    rows = {row.study_id: row for row in read_reports(folder)}
    images = FolderImages(folder, list(rows), view, folder / "prepared")
    words = ReportTokens(rows, train_wordpiece([FINDINGS, "right"], 200), reports)
    return RecipeStudies(images, [words], view)


@pytest.mark.parametrize("as_released", [False, True])
def test_studies_make_a_batch_whatever_their_thickness(folder, as_released):
    view = RELEASED_VIEW if as_released else DataView(mirror_chance=0.0)
    studies = a_set(folder, view, ReportConfig(64, as_released=as_released))
    batch = collate([studies[0], studies[1]])
    check_batch(batch)
    assert batch["image"].shape == (2, 1, *CROP)
    assert batch["image"].amin() == -1
    assert batch["image"].amax() == 0.5
    assert set(batch["organ_mask"].unique().tolist()) == {0, 1}


@pytest.mark.parametrize(("padding", "how"), [("mirror", "its mirror image"), ("air", "air")])
def test_a_volume_smaller_than_the_crop_is_named_with_both_sizes(folder, padding, how):
    batch = collate([a_set(folder, crop=(12, 12, 8), padding=padding)[index] for index in (0, 1)])
    assert batch["note"][0] == ""
    for part in ("Study b has 11 x 12 x 2 voxels of 3 x 3 x 6 mm", "the crop of 12 x 12 x 8", f"filled up with {how}."):
        assert part in batch["note"][1]


def test_a_volume_thinner_than_a_voxel_of_the_view_is_named(folder):
    with pytest.raises(StudyError, match=r"Study b cannot be used. The CT has \(11, 12, 2\) voxels"):
        a_set(folder, RELEASED_VIEW, ReportConfig(64, as_released=True), spacing_mm=(3.0, 3.0, 15.0))[1]


@pytest.mark.parametrize("value", [np.nan, 0.5, 300])
def test_a_mask_of_other_than_structure_numbers_is_named(folder, value):
    mask = np.zeros((12, 12, 9), np.float32)
    mask[3, 3, 3] = value
    nib.save(nib.Nifti1Image(mask, AFFINE), folder / "masks" / "a.nii.gz")
    with pytest.raises(StudyError, match="The mask of study a holds"):
        a_set(folder)[0]


@pytest.mark.parametrize("clip_late", [False, True])
def test_the_published_step_clips_before_or_after_it_interpolates(folder, clip_late):
    """A voxel of metal beside one outside the scanned circle: clipped late, their mean is that of the true values."""
    hu = np.zeros((12, 12, 9), np.int16)
    hu[:6], hu[6:] = 3000, -3000  # low x on an LPS file = right
    nib.save(nib.Nifti1Image(hu, AFFINE), folder / "volumes" / "a.nii.gz")
    view = replace(FVLM_VIEW, spacing_mm=(12.0, 3.0, 6.0), clip_late=clip_late)
    got, _ = prepare_study(folder, "a", view)
    right, middle, left = got[:, 0, 0].tolist()
    assert (right, left) == ((-3000, 3000) if clip_late else (-1150, 350))
    assert middle == (0 if clip_late else -400)


def test_bright_block_and_label_stay_together_and_left(folder):
    sample = a_set(folder, mirror_chance=0.0, smallest_crop=1.0)[0]
    bright = sample["image"][0] > 0
    assert torch.equal(bright, sample["organ_mask"] == 1)
    middle = bright[4:12].any(dim=2).any(dim=1)  # away from mirrored padding
    assert middle.float().argmax() == 0  # axes grow to the right: left comes first


def test_a_mirrored_study_says_and_shows_the_other_side(folder):
    """The published loader flips the image and leaves "left" in the report (spec 7.1, point 8)."""
    studies = a_set(folder, mirror_chance=1.0, smallest_crop=1.0)
    sample = studies[0]
    words = studies.sources[0].tokenizer.tokens(sample["findings_ids"].tolist())
    assert "".join(words).replace("##", "").find("right") >= 0
    assert sample["organ_mask"].unique().tolist() == [0, CLASS_STRUCTURES.index("lung_upper_lobe_right") + 1]
    middle = (sample["image"][0] > 0)[4:12].any(dim=2).any(dim=1)
    assert middle[-1]
    assert not middle[0]


def test_published_flips_leave_the_report_on_the_wrong_side(folder):
    """Defect of the same point: the bright block moves to the right, its mask moves along, both still called left."""
    studies = a_set(folder, RELEASED_VIEW, ReportConfig(64, as_released=True), flip_chance=1.0, smallest_crop=1.0)
    sample = studies[0]
    middle = (sample["image"][0] > 0)[4:12].any(dim=2).any(dim=1)
    assert middle[-1]
    assert not middle[0]
    assert sample["organ_mask"].unique().tolist() == [0, CLASS_STRUCTURES.index("lung_upper_lobe_left") + 1]
    words = studies.sources[0].tokenizer.tokens(sample["findings_ids"].tolist())
    assert "left" in "".join(words).replace("##", "")


def test_class_sides_swap_and_the_middle_lobe_becomes_left_upper():
    names = ["lung_lower_lobe_left", "lung_middle_lobe_right", "heart"]
    structures = np.array([0] + [BY_NAME[name].number for name in names], np.uint8)
    swapped = ["", *CLASS_STRUCTURES]
    assert [swapped[n] for n in class_map(MIRROR[structures])] == [
        "",
        "lung_lower_lobe_right",
        "lung_upper_lobe_left",
        "heart",
    ]


def test_epochs_differ_and_repeat_exactly(folder):
    studies = a_set(folder)
    first = studies[0]
    studies.set_epoch(1)
    other = studies[0]
    studies.set_epoch(0)
    again = a_set(folder)[0]
    assert torch.equal(first["mlm_in"], again["mlm_in"])
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["mlm_in"], other["mlm_in"])


def test_random_crop_stays_inside():
    rng = np.random.default_rng(0)
    for _ in range(200):
        shape = tuple(rng.integers(3, 30, 3))
        start, size = draw_crop(shape, (10, 10, 10), 0.8, rng)
        assert all(s >= 0 and s + length <= n for s, length, n in zip(start, size, shape, strict=True))
        assert all(length >= min(10, int(n * 0.8)) for length, n in zip(size, shape, strict=True))


def test_missing_mask_names_the_command_that_makes_it(folder):
    (folder / "masks" / "b.nii.gz").unlink()
    with pytest.raises(ConfigError, match=r"first: b.nii.gz.*asap_viewer segment"):
        a_set(folder)


def test_nan_voxels_are_refused(folder):
    hu = np.full((12, 12, 9), np.nan, np.float32)
    nib.save(nib.Nifti1Image(hu, AFFINE), folder / "volumes" / "a.nii.gz")
    with pytest.raises(StudyError, match="no numbers"):
        a_set(folder)[0]
