"""Shares of patients are deterministic, nested, and never split a patient."""

import pytest

from core.errors import ConfigError
from trainers.finetuning.shares import ShareConfig, require_apart, share_rows
from trainers.splits import patient_of

IDS = [f"train_{patient}_{scan}_{series}.nii.gz" for patient in range(300) for scan in "ab" for series in (1, 2)]


def sides(fraction, ids=IDS):
    rows = share_rows(ids, ShareConfig(fraction=fraction), carve=True)
    return tuple({patient_of(ids[row]) for row in part} for part in rows)


def test_shares_are_of_patients_and_nested():
    (small_train, small_val), (train, val), (all_train, all_val) = (sides(share) for share in (0.01, 0.1, 1.0))
    assert len(small_train | small_val) == 3
    assert len(train | val) == 30
    assert len(all_train | all_val) == 300
    assert small_train < train < all_train
    assert not train & val
    assert 0.1 < len(all_val) / 300 < 0.3


def test_the_order_of_the_list_changes_nobody_s_side():
    assert sides(0.1) == sides(0.1, IDS[::-1])
    rows = share_rows(IDS, ShareConfig(fraction=0.1), carve=False)
    assert rows.val == ()
    assert {patient_of(IDS[row]) for row in rows.train} == set.union(*sides(0.1))


def test_one_patient_cannot_train_and_validate():
    with pytest.raises(ConfigError, match="one patient"):
        share_rows(IDS, ShareConfig(fraction=0.001), carve=True)


def test_scans_of_one_patient_on_two_sides_are_refused():
    rule = ShareConfig().patient_rule
    with pytest.raises(ConfigError, match="train_1.*one side only"):
        require_apart({"train": ["train_1_a_1"], "val": [], "test": ["train_1_b_2"]}, rule, True, "")
    (note,) = require_apart({"train": [], "val": ["train_1_a_1"], "test": ["train_1_b_2"]}, rule, True, "")
    assert "too good" in note
