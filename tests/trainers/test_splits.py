import json

import pytest

from core.errors import ConfigError
from trainers.splits import Split, SplitConfig, patient_of, read_split, split_studies, write_split

STUDIES = [f"train_{patient}_{scan}_{part}" for patient in range(1, 41) for scan in "ab" for part in (1, 2)]


def test_patients_are_read_off_study_ids():
    assert patient_of("train_1_a_1") == patient_of("train_1_b_2.nii.gz") == "train_1"
    assert patient_of("valid_12_a") == "valid_12"
    assert patient_of("LIDC-IDRI-0001") == "LIDC-IDRI-0001"
    assert patient_of("P07/2019-01", r"(P\d+)/") == "P07"


def test_no_patient_is_on_both_sides_and_the_share_is_of_patients():
    split = split_studies(STUDIES, SplitConfig(0.25))
    sides = [{patient_of(study) for study in side} for side in split]
    assert not sides[0] & sides[1]
    assert (len(sides[0]), len(sides[1])) == (30, 10)
    assert sorted(split.train + split.val) == sorted(STUDIES)


def test_the_split_depends_on_the_seed_only():
    split = split_studies(STUDIES, SplitConfig(0.25))
    turned = split_studies(STUDIES[::-1], SplitConfig(0.25))
    assert set(turned.val) == set(split.val)
    assert set(split_studies(STUDIES, SplitConfig(0.25, seed=1)).val) != set(split.val)
    assert split_studies(STUDIES, SplitConfig(0.0)) == Split(tuple(STUDIES), ())


def test_a_kept_split_comes_back(tmp_path):
    split = split_studies(STUDIES, SplitConfig(0.1))
    write_split(tmp_path / "splits.json", split, SplitConfig(0.1))
    assert read_split(tmp_path / "splits.json", STUDIES) == split
    assert json.loads((tmp_path / "splits.json").read_text())["val_share"] == 0.1
    (tmp_path / "own.csv").write_text("study_id,split\ntrain_2_a_1,val\ntrain_1_a_1,Train\n")
    own = split_studies(STUDIES, SplitConfig(file=tmp_path / "own.csv"))
    assert own == Split(("train_1_a_1",), ("train_2_a_1",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"train": ["train_1_a_1", "gone"]}', "1 studies that the data does not have, such as gone"),
        ('{"train": ["train_1_a_1"], "val": ["train_1_a_1"]}', "no clear sides"),
        ('{"val": ["train_1_a_1"]}', "is not a split"),
        ("[1]", "is not a split"),
    ],
)
def test_splits_that_do_not_fit_are_refused(tmp_path, text, words):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_split(tmp_path / "s.json", STUDIES)


def test_impossible_rules_are_refused():
    with pytest.raises(ConfigError, match="not a regular expression"):
        SplitConfig(patient_rule="(")
    with pytest.raises(ConfigError, match="one group"):
        SplitConfig(patient_rule="train")
    with pytest.raises(ConfigError, match="none train"):
        split_studies(["a", "b"], SplitConfig(0.99))
