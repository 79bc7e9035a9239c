"""Cross-entropy over a vocabulary with its last layer, so that logits are never kept beside their gradient."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from core.models.linear import is_large, multiply, multiply_back, parameter_slopes

_PIECE = 4096
"""Words of the vocabulary that are computed at once."""


def sum_word_losses(states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """Sum of the cross-entropies of states (N, D) W^T + b against labels (N,) int64; 0 for no state.

    weight (V, D), bias (V,). On a CPU in float32 the logits turn into their own gradient where they stand, and give
    way to the weight's gradient piece by piece of the vocabulary.
    """
    if not (is_large(states, weight) and torch.is_grad_enabled()):
        return F.cross_entropy(F.linear(states, weight, bias).float(), labels, reduction="sum")
    return _WordLosses.apply(states, weight, bias, labels)


class _WordLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
        parts = zip(weight.split(_PIECE), bias.split(_PIECE), strict=True)
        pieces = [multiply(states, part, shift) for part, shift in parts]
        total = torch.stack([piece.logsumexp(dim=1) for piece in pieces]).logsumexp(dim=0)
        loss = total.sum()
        for piece, first in zip(pieces, range(0, len(weight), _PIECE), strict=True):
            rows = ((labels >= first) & (labels < first + piece.shape[1])).nonzero()[:, 0]
            own = labels[rows] - first
            loss = loss - piece[rows, own].sum()
            piece.sub_(total[:, None]).exp_()  # the softmax, less 1 at the label: the gradient of the sum
            piece[rows, own] -= 1
        ctx.save_for_backward(states, weight)
        ctx.pieces = pieces
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        wants_states, *wants, _ = ctx.needs_input_grad
        to_states, to_weight = torch.zeros_like(states), torch.empty_like(weight) if wants[0] else None
        scaled, sums = states * slope, []
        for first in range(0, len(weight), _PIECE):
            piece = ctx.pieces.pop(0)
            here = slice(first, first + piece.shape[1])
            if wants_states:
                to_states += multiply_back(piece, weight[here])
            part, _ = parameter_slopes(piece, scaled, (wants[0], False))
            if to_weight is not None and part is not None:
                to_weight[here] = part
            sums.append(piece.sum(dim=0))
        return to_states.mul_(slope) if wants_states else None, to_weight, torch.cat(sums) * slope, None
