"""Projection heads into a shared image-text space, and batch statistics over several processes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from core.errors import ConfigError


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of a projection head; the defaults are ASG's."""

    hidden: int = 2048
    """Width between the two layers."""
    embed: int = 128
    """E, the width of the shared space."""
    norm: Literal["batch", "sync", "layer"] = "sync"
    """Batch statistics of one process (as published) or of all; "layer" needs no batch, for 1 study at a time."""

    def __post_init__(self) -> None:
        if min(self.hidden, self.embed) < 1:
            raise ConfigError(f"hidden and embed must be at least 1, got {self}.")


class ProjectionHead(nn.Module):
    """Linear, norm, ReLU, Linear, norm without weights, unit length (ASG spec 3): rows (N, D) -> (N, E)."""

    def __init__(self, width: int, config: HeadConfig) -> None:
        super().__init__()
        norm: Callable[..., nn.Module] = nn.LayerNorm
        without: dict[str, bool] = {"elementwise_affine": False}
        if config.norm != "layer":
            norm, without = (SyncedBatchNorm if config.norm == "sync" else LocalBatchNorm), {"affine": False}
        self.head = nn.Sequential(
            nn.Linear(width, config.hidden),
            norm(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.embed),
            norm(config.embed, **without),
        )

    def forward(self, rows: Tensor) -> Tensor:
        return F.normalize(self.head(rows).float(), dim=-1)


class LocalBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of rows (N, C) that says what to do when a batch has but one."""

    def forward(self, rows: Tensor) -> Tensor:
        if self.training:
            _require_several(len(rows))
        return super().forward(rows)


class SyncedBatchNorm(LocalBatchNorm):
    """Batch normalisation over the rows of all processes, on any device; alone it is the ordinary one.

    Gradients flow through the common mean and variance, so that averaged over processes they are those of one process
    with the whole batch. Every process must call it equally often.
    """

    def forward(self, rows: Tensor) -> Tensor:
        if not (self.training and _is_shared()):
            return super().forward(rows)
        wide, count = rows.float(), _count_everywhere(rows)
        _require_several(count)
        mean = _SumOverProcesses.apply(wide.sum(dim=0)) / count
        variance = _SumOverProcesses.apply((wide - mean).square().sum(dim=0)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        normal = (wide - mean) * (variance + self.eps).rsqrt()
        if self.affine:
            normal = normal * self.weight + self.bias
        return normal.to(rows.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics by `momentum`."""
        assert self.momentum is not None
        for running, seen in ((self.running_mean, mean), (self.running_var, variance)):
            assert running is not None
            running.lerp_(seen.to(running), self.momentum)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1


def _require_several(count: int) -> None:
    if count < 2:
        raise ConfigError(
            f"A projection head with batch statistics got {count} row; expected at least 2. Train with "
            '--loop.batch-size 2 or more, or set heads.norm to "layer" in the model config.'
        )


def _count_everywhere(rows: Tensor) -> int:
    """Rows (N, C) of all processes together."""
    count = torch.tensor(len(rows), device=rows.device)
    dist.all_reduce(count)
    return int(count)


def _is_shared() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _SumOverProcesses(torch.autograd.Function):
    """Sum over processes; backward sums the gradients of all processes, each of which used the sum."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # noqa: ARG004  (autograd's signature)
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total
