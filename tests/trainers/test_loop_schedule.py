import pytest
import torch
from torch import nn

from core.errors import ConfigError
from trainers.batches import plan_epoch
from trainers.optim import OptimConfig, build_adamw, lr_scale


def test_rate_grows_in_a_line_and_falls_as_half_a_cosine():
    """Published: peak 1.5e-4, 20 epochs of 200; at 20.5 epochs 1.4999714e-4, at 100 8.802361e-5."""
    rates = [1.5e-4 * lr_scale(epoch, 20, 200) for epoch in (0, 1, 19.5, 20, 20.5, 100)]
    assert rates == pytest.approx([0.0, 7.5e-6, 1.4625e-4, 1.5e-4, 1.4999714421982981e-4, 8.802361332501978e-5])


def test_vectors_do_not_decay_and_frozen_weights_are_left_out():
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    model[2].requires_grad_(False)
    decayed, kept = build_adamw(model, OptimConfig(weight_decay=0.05)).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 3)]
    assert [tuple(p.shape) for p in kept["params"]] == [(2,), (2,), (2,)]
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.05, 0.0)


def test_every_study_comes_once_and_ranks_share_the_batch():
    plan = plan_epoch(10, 2, epoch=3, seed=1, world=2)
    assert torch.tensor(plan).shape == (2, 2, 2)
    seen = [index for batch in plan for rank in batch for index in rank]
    assert len(set(seen)) == 8
    assert plan == plan_epoch(10, 2, epoch=3, seed=1, world=2)
    assert plan != plan_epoch(10, 2, epoch=4, seed=1, world=2)
    one = plan_epoch(10, 4, epoch=3, seed=1, world=1)
    assert [sum(batch, []) for batch in plan] == [batch[0] for batch in one]


def test_fewer_studies_than_a_batch_are_repeated():
    assert (
        sorted(plan_epoch(3, 7, epoch=0, seed=0)[0][0]) == [0, 0, 0, 1, 1, 2, 2]
        or len(plan_epoch(3, 7, epoch=0, seed=0)[0][0]) == 7
    )
    with pytest.raises(ConfigError, match="no study"):
        plan_epoch(0, 4, epoch=0, seed=0)


def test_impossible_schedules_are_refused():
    with pytest.raises(ConfigError, match="warmup_steps is 10"):
        OptimConfig(steps=10, warmup_steps=10)
