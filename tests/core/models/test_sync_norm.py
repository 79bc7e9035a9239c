"""Batch statistics over processes are those of one process with the whole batch, backwards too."""

import torch
from gloo_ranks import run_ranks
from torch import Tensor, nn

from core.models.sync_norm import SyncedBatchNorm3d


def draw() -> tuple[SyncedBatchNorm3d, Tensor, Tensor]:
    """A norm, five volumes of two channels with a far mean, and what their output is weighed with."""
    torch.manual_seed(0)
    norm = SyncedBatchNorm3d(2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm, torch.randn(5, 2, 3, 4, 2) + 50, torch.randn(5, 2, 3, 4, 2)


def run_on(rows: slice) -> dict[str, Tensor]:
    norm, features, weights = draw()
    own = features[rows].clone().requires_grad_()
    found = norm(own)
    (found.square() * weights[rows]).sum().backward()
    gradients = {f"gradient.{name}": p.grad for name, p in norm.named_parameters()}
    return {"found": found.detach(), "input": own.grad, **gradients, **norm.state_dict()}


def work(rank: int) -> dict[str, Tensor]:
    return run_on(slice(0, 3) if rank == 0 else slice(3, 5))


def test_two_processes_are_one(tmp_path):
    whole, (first, second) = run_on(slice(0, 5)), run_ranks(2, work, tmp_path)
    for name in ("found", "input"):
        torch.testing.assert_close(torch.cat([first[name], second[name]]), whole[name], atol=1e-4, rtol=1e-4)
    for name in ("gradient.weight", "gradient.bias"):
        torch.testing.assert_close(first[name] + second[name], whole[name], atol=1e-3, rtol=1e-4)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(first[name], whole[name])
        torch.testing.assert_close(second[name], whole[name])


def test_alone_and_in_evaluation_it_is_the_ordinary_norm():
    norm, features, _ = draw()
    ordinary = nn.BatchNorm3d(2)
    ordinary.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(features), ordinary(features))
    torch.testing.assert_close(norm.state_dict(), ordinary.state_dict())
    torch.testing.assert_close(norm.eval()(features), ordinary.eval()(features))
