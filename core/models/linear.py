"""The linear layer of every network here: what precedes it is not kept for the backward pass, on a CPU in float32.

A GELU or LayerNorm before a large layer costs little beside it; recomputing it backwards saves a sixth of what a
transformer block keeps. Which library multiplies depends on the processor. PyTorch hands float32 products on a CPU to
MKL, which on AMD processors with AVX-512 reaches half of what oneDNN does (an EPYC of family 26, one thread, 2,745 x
768 by 768 x 3,072: 96 against 175 GFLOP/s), and elsewhere more: an EPYC of family 25, which has AVX2 only, 75 against
69, a Xeon with AVX-512 127 against 96; nor does it need matrices turned for gradients. Results differ in rounding only.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_LEAST_PRODUCTS = 2**24
"""Below, a layer of PyTorch's own is as good."""


class Linear(nn.Linear):
    """`nn.Linear` with less kept and by the faster library: (..., in) -> (..., out)."""

    def forward(self, values: Tensor) -> Tensor:
        if prefers_onednn() and is_large(values, self.weight):
            return _Linear.apply(values, self.weight, self.bias)
        return F.linear(values, self.weight, self.bias)

    def of_gelu(self, values: Tensor) -> Tensor:
        """The layer applied to GELU(values)."""
        if not is_large(values, self.weight):
            return F.linear(F.gelu(values), self.weight, self.bias)
        return _LinearOfGelu.apply(values, self.weight, self.bias)

    def of_norm(self, values: Tensor, norm: nn.LayerNorm) -> Tensor:
        """The layer applied to norm(values)."""
        return linear_of_norm(values, norm, self.weight, self.bias)


def linear_of_norm(values: Tensor, norm: nn.LayerNorm, weight: Tensor, bias: Tensor) -> Tensor:
    """norm(values) W^T + b of weights that may be part of a layer's: (..., in) -> (..., out)."""
    if not is_large(values, weight):
        return F.linear(norm(values), weight, bias)
    return _LinearOfNorm.apply(values, norm.weight, norm.bias, norm.eps, weight, bias)


class _Linear(torch.autograd.Function):
    """x W^T + b by `multiply`, forward and backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, weight)
        return multiply(values, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        to_values = multiply_back(slope, weight) if ctx.needs_input_grad[0] else None
        return to_values, *parameter_slopes(slope, values, ctx.needs_input_grad[1:])


class _LinearOfGelu(torch.autograd.Function):
    """GELU(x) W^T + b; keeps x alone."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, weight)
        return multiply(F.gelu(values), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        wants_values, *wants = ctx.needs_input_grad
        slopes = parameter_slopes(slope, F.gelu(values) if wants[0] else values, wants)
        to_values = None
        if wants_values:
            to_values = multiply_back(slope, weight)
            torch.ops.aten.gelu_backward.grad_input(to_values, values, grad_input=to_values)
        return to_values, *slopes


class _LinearOfNorm(torch.autograd.Function):
    """LayerNorm(x) W^T + b; keeps x alone."""

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917  (autograd wants tensors as arguments of their own)
        ctx: Any, values: Tensor, scale: Tensor, shift: Tensor, eps: float, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(values, scale, shift, weight)
        ctx.eps = eps
        return multiply(F.layer_norm(values, scale.shape, scale, shift, eps), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        values, scale, shift, weight = ctx.saved_tensors
        *wants_norm, _, wants_weight, wants_bias = ctx.needs_input_grad
        normed, mean, spread = torch.native_layer_norm(values, scale.shape, scale, shift, ctx.eps)
        slopes = parameter_slopes(slope, normed, (wants_weight, wants_bias))
        del normed
        if not any(wants_norm):
            return None, None, None, None, *slopes
        before = torch.ops.aten.native_layer_norm_backward(
            multiply_back(slope, weight), values, scale.shape, mean, spread, scale, shift, wants_norm
        )
        return *before, None, *slopes


@cache
def prefers_onednn() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than MKL here: with AVX-512 on what is not Intel's."""
    known = torch.cpu.get_capabilities()
    is_intel = str(known.get("cpu_name", "")).startswith("Intel")
    return torch.backends.mkldnn.is_available() and not is_intel and bool(known.get("avx512_f", False))


def multiply(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """values W^T + b by the faster library, outside autograd."""
    if prefers_onednn():
        return torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")  # without copies into a layout
    return F.linear(values, weight, bias)


def multiply_back(slope: Tensor, weight: Tensor) -> Tensor:
    """slope W."""
    return multiply(slope, weight.t().contiguous(), None) if prefers_onednn() else slope @ weight


def parameter_slopes(slope: Tensor, seen: Tensor, wants: Any) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of weight and bias, given the layer's input `seen`; None for what is not wanted."""
    wants_weight, wants_bias = wants
    rows, columns = slope.reshape(-1, slope.shape[-1]), seen.reshape(-1, seen.shape[-1])
    to_weight = None
    if wants_weight and prefers_onednn():
        to_weight = multiply(rows.t().contiguous(), columns.t().contiguous(), None)
    elif wants_weight:
        to_weight = rows.t() @ columns
    return to_weight, rows.sum(dim=0) if wants_bias else None


def is_large(values: Tensor, weight: Tensor) -> bool:
    """Whether the product is large, dense, float32 and on a CPU."""
    kinds = {values.dtype, weight.dtype}
    if values.device.type != "cpu" or kinds != {torch.float32} or type(weight.data) is not Tensor:
        return False
    if torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    return values.numel() * weight.shape[0] >= _LEAST_PRODUCTS
