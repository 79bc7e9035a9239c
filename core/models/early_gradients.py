"""Losses whose backward pass runs before the rest of a model is computed, so that what it kept is free again.

They see a copy of the features that other losses read as well, cut off from how the features were made. What they tell
the copy is owed to the features until the backward pass of everything else comes by. Gradients are those of one
backward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Cut:
    """Features of any shape, and their `copy`, at which the graph of early losses ends."""

    def __init__(self, features: Tensor) -> None:
        self.features = features
        self.copy = features.detach().requires_grad_(features.requires_grad)

    def settle(self, loss: Tensor) -> Tensor:
        """Run the backward pass of a scalar loss of the copy: weights on the way have their gradient afterwards.

        Returns a scalar 0. Added to the total, it gives the features the gradient that they are owed, times the
        total's own.
        """
        if loss.requires_grad:
            loss.backward()
        if self.copy.grad is None:
            return torch.zeros_like(loss, requires_grad=loss.requires_grad)
        return _Owed.apply(self.features, self.copy.grad)


class _Owed(torch.autograd.Function):
    """0, with a gradient that is known."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, owed: Tensor) -> Tensor:
        ctx.save_for_backward(owed)
        return features.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (owed,) = ctx.saved_tensors
        return owed * slope, None
