"""Soft targets, the two kinds of contrast, temperatures and gathering over processes."""

from math import exp, log
from pathlib import Path

import pytest
import torch
from gloo_ranks import run_ranks
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.contrast import (
    Contrast,
    TargetRule,
    Temperature,
    TemperatureConfig,
    contrast,
    hash_text,
    pair_targets,
    plan_gather,
    soft_cross_entropy,
    symmetric_divergence,
)

NORMAL = "lung shows no significant abnormalities."


def targets_of(texts: list[str], rule: TargetRule | None = None) -> Tensor:
    abnormal = torch.tensor([not text.startswith(NORMAL) for text in texts])
    return pair_targets(torch.tensor([hash_text(text) for text in texts]), abnormal, rule)


def test_the_worked_example_of_the_specification():
    texts = [NORMAL, NORMAL + "x", "nodule", "nodule"]
    half = [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]]
    assert targets_of(texts).tolist() == half
    assert targets_of(texts, TargetRule(False, False)).tolist() == torch.eye(4).tolist()
    assert targets_of(texts, TargetRule(True, False)).tolist() == [*half[:2], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert targets_of(texts, TargetRule(False, True)).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], *half[2:]]


def test_an_unknown_state_matches_no_normal():
    targets = pair_targets(torch.arange(3), torch.tensor([0, -1, 0], dtype=torch.int8))
    assert targets.tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]]


def test_hashes_are_fixed_and_fit_int64():
    """Processes and later runs must agree, so the number is part of the format."""
    assert hash_text("nodule") == hash_text("nodule") != hash_text("nodule.")
    assert hash_text("") == 6510301506637419378  # b2sum -l 64 of nothing, little-endian, halved
    assert all(0 <= hash_text(str(n)) < 2**63 for n in range(100))


def test_cross_entropy_by_hand_and_as_the_library():
    logits = torch.tensor([[0.0, log(3.0)], [0.0, 0.0]])  # softmax (1/4, 3/4), (1/2, 1/2)
    targets = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    by_hand = (-(log(0.25) + log(0.75)) / 2 + log(2.0)) / 2
    assert soft_cross_entropy(logits, targets).item() == pytest.approx(by_hand)
    assert soft_cross_entropy(logits, targets).item() == pytest.approx(F.cross_entropy(logits, targets).item())
    both = contrast(logits, targets)
    assert isinstance(both, Contrast)
    assert both.text_to_image.item() == pytest.approx(F.cross_entropy(logits.T, targets).item())
    other = torch.tensor([[0.0, 1.0], [0.25, 0.75]])
    assert contrast(logits, targets, other).text_to_image.item() == pytest.approx(
        F.cross_entropy(logits.T, other).item()
    )


def test_blocked_logits_and_uncounted_rows_leave_no_nan():
    logits = torch.tensor([[[1.0, -torch.inf], [-torch.inf, 0.0]]], requires_grad=True)
    loss = soft_cross_entropy(logits, torch.eye(2)[None], torch.tensor([[True, False]]))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.isfinite().all()
    assert soft_cross_entropy(logits, torch.eye(2)[None], torch.zeros(1, 2, dtype=torch.bool)).item() == 0.0


def test_symmetric_divergence_is_both_of_the_library():
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.rand(4, 4, generator=torch.Generator().manual_seed(1)) + 0.01
    targets = targets / targets.sum(dim=1, keepdim=True)
    log_p = logits.log_softmax(dim=-1)
    forth = F.kl_div(log_p, targets, reduction="batchmean")
    back = F.kl_div(targets.log(), log_p.exp(), reduction="batchmean")
    assert symmetric_divergence(logits, targets).item() == pytest.approx((forth + back).item() / 2, rel=1e-5)
    assert contrast(logits, targets, kind="symkl").image_to_text.item() == pytest.approx((forth + back).item() / 2)
    assert symmetric_divergence(targets.log(), targets).item() == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(("value", "expected"), [(0.8, 0.5), (1e-6, 0.001), (0.2, 0.2)])
def test_a_learned_temperature_is_put_back_into_its_range(value, expected):
    temperature = Temperature(TemperatureConfig())
    temperature.value.data.fill_(value)
    got = temperature()
    got.backward()
    assert got.item() == pytest.approx(expected)
    assert temperature.value.item() == pytest.approx(expected)
    assert temperature.value.grad.item() == 1.0  # clamped in place, so the gradient never dies at the border


def test_a_fixed_temperature_has_no_parameter_and_no_weight():
    temperature = Temperature(TemperatureConfig(start=0.1, learned=False))
    assert not list(temperature.parameters())
    assert not temperature.state_dict()
    assert temperature().item() == pytest.approx(0.1)
    with pytest.raises(ConfigError, match="temperature"):
        TemperatureConfig(start=0.9)


def test_alone_gathering_changes_nothing():
    rows = torch.randn(3, 2, requires_grad=True)
    for mode in ("none", "local_grad", "full_grad"):
        assert plan_gather(3, mode)(rows) is rows
    with pytest.raises(ConfigError, match="expected 4"):
        plan_gather(4, "none")(rows)


IMAGES = torch.randn(5, 6, generator=torch.Generator().manual_seed(5))
TEXTS = torch.randn(5, 6, generator=torch.Generator().manual_seed(6))
TEXT_ID = torch.tensor([7, 7, 8, 9, 2**62])
COUNTS = (3, 2)  # unequal on purpose


def loss_with(mode: str, own: slice) -> dict[str, Tensor]:
    """A small two-tower loss of the rows `own`: loss, gradients of one shared weight and of the temperature."""
    weight, temperature = torch.nn.Parameter(torch.eye(6)), Temperature(TemperatureConfig(start=0.3))
    v, t = F.normalize(IMAGES[own] @ weight, dim=-1), F.normalize(TEXTS[own] @ weight, dim=-1)
    gather = plan_gather(len(v), mode)
    text_id, abnormal = gather(TEXT_ID[own]), gather(torch.ones(len(v), dtype=torch.bool))
    logits = gather(v) @ gather(t).T / temperature()
    loss = sum(contrast(logits, pair_targets(text_id, abnormal)))
    loss.backward()
    return {"loss": loss.detach(), "weight": weight.grad, "temperature": temperature.value.grad, "text_id": text_id}


def on_one_rank(rank: int) -> dict[str, Tensor]:
    first = sum(COUNTS[:rank])
    own = slice(first, first + COUNTS[rank])
    modes = ("none", "local_grad", "full_grad")
    return {f"{mode}.{name}": value for mode in modes for name, value in loss_with(mode, own).items()}


def test_two_processes_against_one(tmp_path: Path):
    """Released gathering halves what comes through the rows; full gathering gives the one-process gradient."""
    ranks = run_ranks(2, on_one_rank, tmp_path)
    whole = loss_with("none", slice(None))
    mean = {
        name: (ranks[0][name] + ranks[1][name]) / 2 for name in ranks[0] if "text_id" not in name and "none" not in name
    }
    for mode, share in (("local_grad", 0.5), ("full_grad", 1.0)):
        for rank in ranks:
            assert rank[f"{mode}.text_id"].tolist() == TEXT_ID.tolist()
            torch.testing.assert_close(rank[f"{mode}.loss"], whole["loss"])
        torch.testing.assert_close(mean[f"{mode}.weight"], share * whole["weight"], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(mean[f"{mode}.temperature"], whole["temperature"])
    own_only = loss_with("none", slice(0, 3))
    torch.testing.assert_close(ranks[0]["none.loss"], own_only["loss"])
    torch.testing.assert_close(ranks[0]["none.weight"], own_only["weight"])
    assert exp(own_only["loss"].item()) != pytest.approx(exp(whole["loss"].item()))
