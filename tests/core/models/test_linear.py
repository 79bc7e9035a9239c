"""The linear layer by both libraries against PyTorch's own, forward and backward, and how little it keeps."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import core.models.linear
from core.models.linear import Linear, is_large


@pytest.fixture
def layer() -> Linear:
    torch.manual_seed(0)
    return Linear(192, 256)


@pytest.fixture
def norm() -> nn.LayerNorm:
    norm = nn.LayerNorm(192, eps=1e-6)
    nn.init.normal_(norm.weight, 1.0, 0.2)
    nn.init.normal_(norm.bias, 0.0, 0.2)
    return norm


@pytest.fixture(params=[False, True], ids=["mkl", "onednn"])
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.models.linear, "prefers_onednn", lambda: request.param)


def _apply(layer: Linear, norm: nn.LayerNorm, values: Tensor, before: str, ours: bool) -> Tensor:
    if before == "gelu":
        return layer.of_gelu(values) if ours else F.linear(F.gelu(values), layer.weight, layer.bias)
    if before == "norm":
        return layer.of_norm(values, norm) if ours else F.linear(norm(values), layer.weight, layer.bias)
    return layer(values) if ours else F.linear(values, layer.weight, layer.bias)


def _slopes(layer: Linear, norm: nn.LayerNorm, values: Tensor, before: str, ours: bool) -> list[Tensor]:
    values = values.clone().requires_grad_()
    layer.zero_grad()
    norm.zero_grad()
    result = _apply(layer, norm, values, before, ours)
    result.square().sum().backward()
    parameters = [*layer.parameters(), *(norm.parameters() if before == "norm" else [])]
    found = [result.detach(), values.grad, *(parameter.grad for parameter in parameters)]
    return [tensor.clone() for tensor in found if tensor is not None]


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize("before", ["nothing", "gelu", "norm"])
@pytest.mark.parametrize("shape", [(400, 192), (2, 5, 40, 192)])
def test_large_products_equal_pytorchs(layer: Linear, norm: nn.LayerNorm, shape: tuple[int, ...], before: str) -> None:
    values = torch.randn(shape)
    assert is_large(values, layer.weight)
    ours, plain = (_slopes(layer, norm, values, before, way) for way in (True, False))
    assert len(ours) == (6 if before == "norm" else 4)
    for found, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("before", ["gelu", "norm"])
def test_what_precedes_a_layer_is_not_kept(layer: Linear, norm: nn.LayerNorm, before: str) -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    values = torch.randn(400, 192, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _apply(layer, norm, values, before, ours=True)
    large = [tensor for tensor in kept if tensor.numel() == values.numel()]
    assert [tensor.data_ptr() for tensor in large] == [values.data_ptr()]


def test_small_half_and_autocast_products_stay_with_pytorch(layer: Linear, norm: nn.LayerNorm) -> None:
    large = torch.randn(400, 192)
    assert not is_large(torch.randn(4, 192), layer.weight)
    assert not is_large(large.bfloat16(), layer.weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_large(large, layer.weight)
        assert layer(large).dtype == layer.of_norm(large, norm).dtype == torch.bfloat16


@pytest.mark.usefixtures("_library")
def test_only_what_trains_gets_a_gradient(layer: Linear, norm: nn.LayerNorm) -> None:
    layer.requires_grad_(False)
    values = torch.randn(400, 192, requires_grad=True)
    layer(values).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is None
    torch.testing.assert_close(values.grad, layer.weight.sum(dim=0).expand(400, -1), rtol=1e-4, atol=1e-5)
    layer.of_norm(values.detach(), norm).sum().backward()
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None


@pytest.mark.parametrize(
    ("maker", "has_avx512", "expected"),
    [("AMD EPYC", True, True), ("AMD EPYC", False, False), ("Intel Xeon", True, False)],
)
def test_onednn_multiplies_where_it_was_measured_to_be_faster(
    monkeypatch: pytest.MonkeyPatch, maker: str, has_avx512: bool, expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": maker, "avx512_f": has_avx512})
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert core.models.linear.prefers_onednn.__wrapped__() is expected
