import pytest

from core.errors import ConfigError
from trainers.preparation.metadata import HeaderRow
from trainers.preparation.tree import find_jobs, stem_of


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_a_tree_as_ct_rate_publishes_it(tmp_path):
    root = touch(
        tmp_path / "data",
        "train/train_2/train_2a/train_2_a_1.nii.gz",
        "train/train_1/train_1a/train_1_a_2.nii.gz",
        "train/train_1/train_1a/train_1_a_1.nii.gz",
        "train/readme.txt",
        "train/.hidden.nii.gz",
        "train/.cache/x.nii.gz",
    )
    masks = touch(tmp_path / "masks", "train/train_1_a_1.nii.gz", "deep/er/train_2_a_1.nii.gz")
    row = HeaderRow(1.0, -1024.0)
    jobs = find_jobs(root, masks, {"train_1_a_2": row})
    assert [job.study_id for job in jobs] == ["train_1_a_1", "train_1_a_2", "train_2_a_1"]
    assert jobs[0].name == "train/train_1/train_1a/train_1_a_1.nii.gz"
    assert [job.mask and job.mask.parent.name for job in jobs] == ["train", None, "er"]
    assert [job.row for job in jobs] == [None, row, None]


def test_the_mask_of_the_same_path_comes_before_one_of_the_same_name(tmp_path):
    root = touch(tmp_path / "data", "p1/ct.nii.gz", "p2/ct.nii")
    masks = touch(tmp_path / "masks", "p1/ct.nii", "p2/ct.nii.gz")
    jobs = find_jobs(root, masks, ids="path")
    assert [job.study_id for job in jobs] == ["p1__ct", "p2__ct"]
    assert [job.mask.parent.name for job in jobs] == ["p1", "p2"]


def test_two_masks_of_one_name_are_refused(tmp_path):
    root = touch(tmp_path / "data", "a.nii.gz")
    with pytest.raises(ConfigError, match="2 masks are called like a.nii.gz"):
        find_jobs(root, touch(tmp_path / "masks", "x/a.nii.gz", "y/a.nii.gz"))


@pytest.mark.parametrize("between", ["", "segmentations/"])
def test_folders_with_one_file_per_structure_are_masks(tmp_path, between):
    """What TotalSegmentator writes without --ml, and how its data set is laid out."""
    root = touch(tmp_path / "data", "s1.nii.gz", "s2.nii.gz")
    masks = touch(tmp_path / "masks", f"s1/{between}heart.nii.gz", f"s1/{between}aorta.nii.gz")
    jobs = find_jobs(root, masks)
    assert jobs[0].mask == (masks / "s1" / between.rstrip("/"))
    assert jobs[1].mask is None


def test_masks_inside_the_tree_of_cts_are_no_cts(tmp_path):
    root = touch(tmp_path / "data", "volumes/a.nii.gz", "masks/a.nii.gz")
    assert [job.name for job in find_jobs(root, root / "masks")] == ["volumes/a.nii.gz"]


def test_names_that_occur_twice_ask_for_paths(tmp_path):
    root = touch(tmp_path / "data", "p1/ct.nii.gz", "p2/ct.nii.gz")
    with pytest.raises(ConfigError, match="--ids path"):
        find_jobs(root)
    assert [job.study_id for job in find_jobs(root, ids="path")] == ["p1__ct", "p2__ct"]


def test_nothing_to_prepare_is_said(tmp_path):
    with pytest.raises(ConfigError, match="There is no CT below"):
        find_jobs(touch(tmp_path / "data", "notes.txt"))
    with pytest.raises(ConfigError, match="There is no folder"):
        find_jobs(tmp_path / "absent")


def test_endings_are_taken_off_once():
    assert stem_of("a.b.nii.gz") == "a.b"
    assert stem_of("A.NII.GZ") == "A"
    assert stem_of("plain") == "plain"
