"""The linear layer of every network here: on a CPU in float32, large products go through oneDNN.

PyTorch hands float32 products on a CPU to MKL, which on AMD processors reaches half of what oneDNN does (measured on an
EPYC of family 26, one thread, 2,745 x 768 by 768 x 3,072: 96 against 175 GFLOP/s). Results differ in rounding only.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_LEAST_PRODUCTS = 2**24
"""Below, copying into oneDNN's layout costs more than it saves."""


class Linear(nn.Linear):
    """`nn.Linear` by the faster library: (..., in) -> (..., out)."""

    def forward(self, values: Tensor) -> Tensor:
        if not _suits_onednn(values, self.weight):
            return F.linear(values, self.weight, self.bias)
        return _OneDnnLinear.apply(values, self.weight, self.bias, False)

    def of_gelu(self, values: Tensor) -> Tensor:
        """The layer applied to GELU(values), without keeping GELU(values) for the backward pass where that is ours."""
        if not _suits_onednn(values, self.weight):
            return F.linear(F.gelu(values), self.weight, self.bias)
        return _OneDnnLinear.apply(values, self.weight, self.bias, True)


class _OneDnnLinear(torch.autograd.Function):
    """x W^T + b, of x or of GELU(x).

    Keeps x alone for the backward pass; autograd would keep a copy in oneDNN's layout, and GELU(x), as well.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None, of_gelu: bool) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.of_gelu = of_gelu
        return _multiply(F.gelu(values) if of_gelu else values, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        values, weight = ctx.saved_tensors
        wants_values, wants_weight, wants_bias, _ = ctx.needs_input_grad
        rows = slope.reshape(-1, slope.shape[-1])
        to_weight, to_values = None, None
        if wants_weight:
            seen = F.gelu(values) if ctx.of_gelu else values
            columns = seen.reshape(-1, seen.shape[-1]).t().contiguous()
            to_weight = _multiply(rows.t().contiguous(), columns, None)
        if wants_values:
            to_values = _multiply(slope, weight.t().contiguous(), None)
            to_values = torch.ops.aten.gelu_backward(to_values, values) if ctx.of_gelu else to_values
        return to_values, to_weight, rows.sum(dim=0) if wants_bias else None, None


def _multiply(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(values.to_mkldnn(), weight, bias).to_dense()


def _suits_onednn(values: Tensor, weight: Tensor) -> bool:
    """Whether the product is large, dense, float32 and on a CPU."""
    kinds = {values.dtype, weight.dtype}
    if values.device.type != "cpu" or kinds != {torch.float32} or type(weight.data) is not Tensor:
        return False
    if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling() or not torch.backends.mkldnn.is_available():
        return False
    return values.numel() * weight.shape[0] >= _LEAST_PRODUCTS
