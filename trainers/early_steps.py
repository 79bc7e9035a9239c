"""Weights that step while the backward pass still runs, so that their gradients need not be kept to its end.

Gradients of 64 MB are stepped together and forgotten. The weights that come out are those of one step at the end, bit
for bit: AdamW moves every weight by its own gradient alone. What looks at all gradients at once cannot be had with it:
clipping, sums over micro-steps, averages over processes.
"""

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_ENOUGH = 64 * 2**20
"""Bytes of gradients that are stepped together."""


def settle_early(model: nn.Module, applies: bool) -> None:
    """Let a model that can run the backward pass of some losses before it computes the others, or keep it from that."""
    if hasattr(model, "settles_early"):
        model.settles_early = applies  # type: ignore[assignment]


class EarlySteps:
    """Attached to an optimiser, it steps during every backward pass; `finish` takes the rest and ends the step."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self._waiting: list[nn.Parameter] = []
        self._taken: set[nn.Parameter] = set()
        self._bytes, self._squares, self._is_finite = 0, 0.0, True
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._hooks = [parameter.register_post_accumulate_grad_hook(self._take) for parameter in trained]

    def finish(self) -> float:
        """Step what is left; the norm of all gradients since the last call, not finite if one was not."""
        self._step()
        norm = math.sqrt(self._squares) if self._is_finite else math.nan
        self._squares, self._is_finite = 0.0, True
        self._taken.clear()
        return norm

    def detach(self) -> None:
        """Leave the optimiser as it was found."""
        for hook in self._hooks:
            hook.remove()

    def _take(self, parameter: Tensor) -> None:
        assert isinstance(parameter, nn.Parameter)
        assert parameter.grad is not None
        assert parameter not in self._taken, "a weight has two gradients in one step, and would be stepped twice"
        self._taken.add(parameter)
        self._waiting.append(parameter)
        self._bytes += parameter.grad.nbytes
        if self._bytes >= _ENOUGH:
            self._step()

    def _step(self) -> None:
        """Move the waiting weights; those whose gradients are not finite, or all zero, stay where they are."""
        gradients = [parameter.grad for parameter in self._waiting if parameter.grad is not None]
        if gradients:
            norm = float(torch.nn.utils.get_total_norm(gradients))
            self._is_finite &= math.isfinite(norm)
            self._squares += norm**2
            if math.isfinite(norm) and norm > 0:
                self.optimizer.step()
        for parameter in self._waiting:
            parameter.grad = None
        self._waiting, self._bytes = [], 0
