"""Counting over all processes of a training: a mean over sentences or words that does not depend on their number."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch import distributed as dist

Count = Callable[[Tensor], Tensor]
"""Numbers of things in this process's studies -> what sums over them are divided by."""


def count_here(numbers: Tensor) -> Tensor:
    """The numbers themselves: each process makes a mean of its own studies."""
    return numbers


def count_everywhere(numbers: Tensor) -> Tensor:
    """Mean of the numbers over all processes. Every process must call it in the same order.

    A sum over this process's studies divided by it, averaged over processes as gradients are, is the mean over all
    studies: processes with many sentences weigh more.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return numbers
    total = numbers.detach().double()
    dist.all_reduce(total)
    return (total / dist.get_world_size()).float()


def report_keys(ids: Tensor) -> Tensor:
    """One number per text, equal for equal texts whatever their padding: ids (B, T) int64, 0 = padding -> (B,) int64.

    A polynomial in the ids, modulo 2^64.
    """
    powers = torch.full((ids.shape[1],), 6364136223846793005, dtype=torch.int64, device=ids.device).cumprod(dim=0)
    return (ids * powers).sum(dim=1)
