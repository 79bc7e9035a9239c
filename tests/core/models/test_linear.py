"""The linear layer by oneDNN against PyTorch's own, forward and backward."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.models.linear import Linear, _suits_onednn


@pytest.fixture
def layer() -> Linear:
    torch.manual_seed(0)
    return Linear(192, 256)


def _slopes(layer: nn.Linear, values: Tensor, of_gelu: bool, ours: bool) -> list[Tensor]:
    values = values.clone().requires_grad_()
    layer.zero_grad()
    if ours:
        assert isinstance(layer, Linear)
        result = layer.of_gelu(values) if of_gelu else layer(values)
    else:
        result = F.linear(F.gelu(values) if of_gelu else values, layer.weight, layer.bias)
    result.square().sum().backward()
    found = [result.detach(), values.grad, layer.weight.grad, layer.bias.grad]
    return [tensor.clone() for tensor in found if tensor is not None]


@pytest.mark.parametrize("of_gelu", [False, True])
@pytest.mark.parametrize("shape", [(400, 192), (2, 5, 40, 192)])
def test_large_products_equal_pytorchs(layer: Linear, shape: tuple[int, ...], of_gelu: bool) -> None:
    values = torch.randn(shape)
    assert _suits_onednn(values, layer.weight)
    ours, plain = _slopes(layer, values, of_gelu, True), _slopes(layer, values, of_gelu, False)
    assert len(ours) == 4
    for found, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_small_half_and_autocast_products_stay_with_pytorch(layer: Linear) -> None:
    large = torch.randn(400, 192)
    assert not _suits_onednn(torch.randn(4, 192), layer.weight)
    assert not _suits_onednn(large.bfloat16(), layer.weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not _suits_onednn(large, layer.weight)
        assert layer(large).dtype == torch.bfloat16


def test_only_what_trains_gets_a_gradient(layer: Linear) -> None:
    layer.requires_grad_(False)
    values = torch.randn(400, 192, requires_grad=True)
    layer(values).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is None
    torch.testing.assert_close(values.grad, layer.weight.sum(dim=0).expand(400, -1), rtol=1e-4, atol=1e-5)
