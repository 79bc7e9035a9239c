"""Batch normalisation of volumes over all processes, on any device: a few volumes a card make poor statistics."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist


class Moments(NamedTuple):
    """Statistics per channel over the voxels of all processes."""

    mean: Tensor  # (C,) float32
    variance: Tensor  # (C,) float32, divided by the count
    voxels: Tensor  # () float32, how many


class SyncedBatchNorm3d(nn.BatchNorm3d):
    """(B, C, Z, Y, X); alone, and in evaluation, it is the ordinary one. Every process must call it equally often.

    Gradients flow through the common statistics, so that averaged over processes they are those of one process with
    the whole batch.
    """

    def forward(self, features: Tensor) -> Tensor:
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(features)
        moments = measure(features)
        self._remember(moments)
        return _Normalise.apply(features, self.weight, self.bias, moments, self.eps)

    @torch.no_grad()
    def _remember(self, moments: Moments) -> None:
        """Move the running statistics by `momentum`."""
        assert self.momentum is not None
        unbiased = moments.variance * moments.voxels / (moments.voxels - 1)
        self.get_buffer("running_mean").lerp_(moments.mean, self.momentum)
        self.get_buffer("running_var").lerp_(unbiased, self.momentum)
        self.get_buffer("num_batches_tracked").add_(1)


@torch.no_grad()
def measure(features: Tensor) -> Moments:
    """Mean and variance of each channel of (B, C, Z, Y, X) over all processes, without cancellation."""
    variance, mean = torch.var_mean(features.float(), dim=(0, 2, 3, 4), correction=0)
    count = mean.new_tensor(features.numel() / features.shape[1])
    total = count.clone()
    dist.all_reduce(total)
    share = count / total
    common = mean * share
    dist.all_reduce(common)
    spread = (variance + (mean - common).square()) * share
    dist.all_reduce(spread)
    return Moments(common, spread, total)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, where mean and variance come from every process's x."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, moments: Moments, eps: float) -> Tensor:
        rate = (moments.variance + eps).rsqrt()
        ctx.save_for_backward(features, weight, moments.mean, rate, moments.voxels)
        scale = weight * rate
        moved = features.float() * _wide(scale) + _wide(bias - moments.mean * scale)
        return moved.to(features.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        features, weight, mean, rate, count = ctx.saved_tensors
        gradient = gradients[0].float()
        normal = (features.float() - _wide(mean)) * _wide(rate)
        to_bias, to_weight = gradient.sum(dim=(0, 2, 3, 4)), (gradient * normal).sum(dim=(0, 2, 3, 4))
        shared = torch.stack([to_bias, to_weight])
        dist.all_reduce(shared)
        pulled = gradient - _wide(shared[0] / count) - normal * _wide(shared[1] / count)
        return (pulled * _wide(weight * rate)).to(features.dtype), to_weight, to_bias, None, None


def _wide(channels: Tensor) -> Tensor:
    """(C,) -> (C, 1, 1, 1)."""
    return channels[:, None, None, None]
