"""Cross-entropy with its layer against the two apart."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from core.models.linear import is_large
from core.models.word_loss import _PIECE, sum_word_losses

WORDS = 2 * _PIECE + 100


def _tensors() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(0, WORDS, (60,))
    labels[:3] = torch.tensor([0, _PIECE, WORDS - 1])  # first and last of a piece
    weight, bias = torch.randn(WORDS, 40) * 0.3, torch.randn(WORDS) * 0.3
    return torch.randn(60, 40).requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), labels


def test_value_and_gradients_equal_those_of_the_parts() -> None:
    states, weight, bias, labels = _tensors()
    assert is_large(states, weight)
    (0.5 * sum_word_losses(states, weight, bias, labels)).backward()
    found = [tensor.grad for tensor in (states, weight, bias)]
    states.grad = weight.grad = bias.grad = None
    plain = F.cross_entropy(F.linear(states, weight, bias), labels, reduction="sum")
    torch.testing.assert_close(sum_word_losses(states, weight, bias, labels), plain, rtol=1e-5, atol=0)
    (0.5 * plain).backward()
    for got, tensor in zip(found, (states, weight, bias), strict=True):
        torch.testing.assert_close(got, tensor.grad, rtol=1e-4, atol=1e-5)


def test_frozen_weights_get_no_gradient() -> None:
    states, weight, bias, labels = _tensors()
    weight.requires_grad_(False)
    sum_word_losses(states, weight, bias, labels).backward()
    assert weight.grad is None
    assert states.grad is not None
    assert bias.grad is not None


@pytest.mark.parametrize("count", [0, 2])
def test_few_words_go_the_ordinary_way(count: int) -> None:
    states, weight, bias, labels = _tensors()
    assert not is_large(states[:count], weight)
    loss = sum_word_losses(states[:count], weight, bias, labels[:count])
    assert torch.equal(loss, F.cross_entropy(F.linear(states[:count], weight, bias), labels[:count], reduction="sum"))
    assert loss.isfinite()
