"""Cheap dropout: how many values go, what happens to the others, and their gradients."""

import pytest
import torch

from core.models.dropout import Dropout, drop


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_share_goes_and_the_mean_stays(share: float) -> None:
    torch.manual_seed(0)
    dropped = drop(torch.ones(100_003), share)  # no multiple of the values that share a random number
    gone = (dropped == 0).float()
    assert gone.mean().item() == pytest.approx(share, abs=0.005)
    assert dropped.unique().numel() == 2
    assert dropped.max().item() == pytest.approx(1 / (1 - share), rel=1e-4)
    neighbours = (gone[:-1] * gone[1:]).mean().item()  # those of one number must not go together
    assert neighbours == pytest.approx(share**2, abs=0.005)


def test_what_was_dropped_gets_no_gradient() -> None:
    torch.manual_seed(0)
    values = torch.randn(50, 7, requires_grad=True)
    dropped = drop(values, 0.3)
    dropped.sum().backward()
    assert torch.equal(values.grad == 0, dropped == 0)
    torch.testing.assert_close(values.grad * values.detach(), dropped.detach())


def test_seeds_decide_and_evaluation_drops_nothing() -> None:
    layer, values = Dropout(0.5), torch.randn(64)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(layer(values))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert layer.eval()(values) is values


def test_everything_can_go() -> None:
    assert drop(torch.ones(9), 1.0).sum().item() == 0
