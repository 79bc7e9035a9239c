import re

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from trainers.metrics.survival import (
    concordance,
    find_first_events,
    hazard_nll,
    prognosis_loss,
    score_prognosis,
    survive,
)


def test_first_events_as_published(golden):
    interval, event = find_first_events(golden.tensors["prog.flags"])
    assert interval.tolist() == golden.tensors["prog.time_index"].tolist()
    assert event.tolist() == golden.tensors["prog.event"].tolist()


def test_prognosis_scores_as_published(golden):
    told, tensors = golden["prog"], golden.tensors
    scores = score_prognosis(tensors["prog.logits"], tensors["prog.flags"], as_released=True)
    assert scores.c_index == golden.near(told["c_index"])
    assert scores.auroc == golden.near(tuple(told["auroc"]))
    assert scores.auroc_mean == golden.near(told["auroc_mean"])
    likelihood = hazard_nll(tensors["prog.logits"], tensors["prog.time_index"], tensors["prog.event"]).mean()
    assert float(likelihood) == golden.near(told["cox_nll_all"])


def test_prognosis_loss_as_published(golden):
    told, tensors = golden["prog"], golden.tensors
    name = next(key for key in told if key.startswith("eval_loss"))
    size = int(re.search(r"batches_of_(\d+)", name).group(1))
    pairs = zip(tensors["prog.logits"].split(size), tensors["prog.flags"].split(size), strict=True)
    assert np.mean([float(prognosis_loss(logits, flags)) for logits, flags in pairs]) == golden.near(told[name])


def test_likelihood_by_hand():
    """Hazards 1/2, 1/2, 1/2: an event in the second interval has 1/4, surviving three 1/8, watching one 1/2."""
    nll = hazard_nll(torch.zeros(3, 3), torch.tensor([1, 2, 0]), torch.tensor([1.0, 0.0, 0.0]))
    assert nll.exp().tolist() == pytest.approx([4, 8, 2], rel=1e-5)
    assert survive(torch.zeros(1, 3)).tolist() == [[0.5, 0.25, 0.125]]


def test_first_event_and_none():
    interval, event = find_first_events(torch.tensor([[0, 1, 1], [1, 1, 1], [0, 0, 0]]))
    assert (interval.tolist(), event.tolist()) == ([1, 0, 2], [1.0, 1.0, 0.0])


def test_concordance_by_hand():
    """Pairs: (0, 1), (0, 2), (0, 3), (1, 2), (1, 3): 2 and 3 never had an event. 1 ties with 2: 3.5 of 5."""
    time, event = np.array([0, 1, 1, 2]), np.array([1, 1, 0, 0])
    assert concordance(time, event, np.array([3.0, 2.0, 2.0, 5.0])) == pytest.approx(2.5 / 5)
    assert concordance(time, event, np.array([4.0, 3.0, 2.0, 1.0])) == 1.0
    assert np.isnan(concordance(time, np.zeros(4), np.arange(4.0)))
    with pytest.raises(ConfigError, match="3 events"):
        concordance(time, event[:3], np.arange(4.0))


def test_risk_by_the_end_of_an_interval_includes_earlier_ones():
    """The first patient's danger is all in interval one, so the hazard of interval two alone ranks her last."""
    logits, flags = torch.tensor([[3.0, -3.0], [-3.0, -2.0]]), torch.tensor([[1, 1], [0, 0]])
    assert score_prognosis(logits, flags).auroc == (1.0, 1.0)
    assert score_prognosis(logits, flags, as_released=True).auroc == (1.0, 0.0)
