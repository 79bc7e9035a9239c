import re

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from trainers.metrics.overlap import dice_ce_loss, drop_class, score_dice, summarise_dice


def _cases(golden):
    numbers = sorted({name.split(".")[1] for name in golden.tensors if name.startswith("seg.")}, key=int)
    return [(golden.tensors[f"seg.{n}.logits"], golden.tensors[f"seg.{n}.label"]) for n in numbers]


def _table(rows):
    return np.array([[np.nan if value is None else value for value in row] for row in rows])


def _check(golden, table, told):
    np.testing.assert_allclose(table, _table(told["per_case_per_class"]), rtol=0, atol=golden.atol)
    summary = summarise_dice(table)
    assert summary.mean == golden.near(told["mean"])
    assert summary.std == golden.near(told["std"])
    return summary


def test_dice_as_published(golden):
    told = golden["seg.val_epoch"]
    table = np.array([score_dice(x.argmax(dim=0), y, len(x), "skip") for x, y in _cases(golden)])
    summary = _check(golden, table, told)
    assert summary.per_case == golden.near(tuple(told["per_case"]))
    assert summary.mean == golden.near(told["mean_validation"])


def test_external_lungs_as_published(golden):
    told = golden["seg.external_lung"]
    dropped = int(re.search(r"label (\d+) -> 0", told["note"]).group(1))
    maps = [drop_class(logits, truth, dropped) for logits, truth in _cases(golden)]
    _check(golden, np.array([score_dice(found, truth, dropped, "skip") for found, truth in maps]), told)


def test_plain_dice_as_published(golden):
    table = np.array([score_dice(x.argmax(dim=0), y, len(x), "zero") for x, y in _cases(golden)])
    np.testing.assert_allclose(table, np.array(golden["seg.plain_dice"]), rtol=0, atol=golden.atol)


def test_loss_as_published(golden):
    losses = [float(dice_ce_loss(logits[None], truth[None])) for logits, truth in _cases(golden)]
    assert losses == golden.near(golden["seg.dice_ce_loss"])


def test_a_false_lesion_costs_unless_released():
    """Class 1: two of three drawn voxels are right, both true ones found: 4/5. Class 2 is drawn but not there."""
    found = torch.tensor([1, 1, 1, 2, 0]).reshape(5, 1, 1)
    truth = torch.tensor([1, 1, 0, 0, 0]).reshape(5, 1, 1)
    assert score_dice(found, truth, 4) == pytest.approx([0.8, 0.0, np.nan], nan_ok=True)
    assert score_dice(found, truth, 4, "skip") == pytest.approx([0.8, np.nan, np.nan], nan_ok=True)
    assert score_dice(found, truth, 4, "zero") == pytest.approx([0.8, 0.0, 0.0])
    with pytest.raises(ConfigError, match="expected equal"):
        score_dice(found, truth[:4], 4)


def test_cases_without_a_class_are_left_out():
    summary = summarise_dice(np.array([[0.5, np.nan], [np.nan, np.nan], [0.7, 0.9]]))
    assert summary.per_case == pytest.approx((0.5, np.nan, 0.8), nan_ok=True)
    assert (summary.mean, summary.std) == (pytest.approx(0.65), pytest.approx(0.15))


def test_a_dropped_class_becomes_background():
    """Class 2 is likeliest; with it the background has 0.3 + 0.4 and wins over class 1."""
    logits = torch.tensor([0.3, 0.3, 0.4]).log().reshape(3, 1, 1, 1)
    found, truth = drop_class(logits, torch.tensor(2).reshape(1, 1, 1), 2)
    assert (found.item(), truth.item()) == (0, 0)


def test_loss_of_a_sure_answer_is_nothing():
    truth = torch.tensor([0, 1, 2, 1]).reshape(1, 2, 2, 1)
    sure = torch.nn.functional.one_hot(truth, 3).movedim(-1, 1) * 40.0
    assert float(dice_ce_loss(sure, truth)) == pytest.approx(0, abs=1e-5)
    even = float(dice_ce_loss(torch.zeros(1, 2, 2, 2, 1), torch.tensor([0, 0, 1, 1]).reshape(1, 2, 2, 1)))
    assert even == pytest.approx(1 - 2 * 1.0 / (1 + 2) + np.log(2), rel=1e-5)  # p = 1/2 everywhere, two voxels a class
