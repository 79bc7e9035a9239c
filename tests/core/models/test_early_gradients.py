"""Backward passes that run while the forward pass does give the gradients of one at the end."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from core.models.asap import ASAP
from core.models.asap_config import RELEASED_FIXES, LossWeights, tiny
from core.models.early_gradients import Cut

WORDS = 60


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _batch() -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(0)
    ids = torch.randint(5, WORDS, (2, 17), generator=draws)
    real = torch.ones_like(ids, dtype=torch.bool)
    return {
        "image": torch.rand(2, 1, 32, 32, 16, generator=draws) * 2 - 1,
        "organ_mask": torch.randint(0, 9, (2, 32, 32, 16), generator=draws).to(torch.uint8),
        "findings_ids": ids,
        "findings_attn": real,
        "findings_sent": (torch.arange(17)[None].expand(2, -1) // 4).short(),
        "report_ids": ids,
        "report_attn": real,
        "mlm_in": torch.where(torch.rand(ids.shape, generator=draws) < 0.5, 4, ids),
        "mlm_labels": ids,
    }


def _gradients(model: ASAP, is_early: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses, and gradients by name of what has one."""
    model.settles_early = is_early
    model.zero_grad(set_to_none=True)
    torch.manual_seed(5)
    losses = model(_batch(), torch.rand(2, 64, generator=torch.Generator().manual_seed(1)))
    losses["total"].backward()
    return losses, {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize(
    "weights",
    [
        LossWeights(reconstruction=0.5, injection=2.0, size_prior=0.01),
        LossWeights(reconstruction=0.0, injection=2.0),
        LossWeights(alignment=0.0, language=0.0),
        LossWeights(reconstruction=0.0, injection=0.0),
    ],
)
@pytest.mark.parametrize("is_released", [True, False])
def test_losses_and_gradients_are_those_of_one_backward_pass(weights: LossWeights, is_released: bool) -> None:
    config = tiny(WORDS)
    fixes = RELEASED_FIXES if is_released else config.fixes
    torch.manual_seed(0)
    model = ASAP(replace(config, weights=weights, fixes=fixes, text_frozen=is_released))
    losses, late = _gradients(model, False)
    settled, early = _gradients(model, True)
    assert all(torch.equal(settled[name], value) for name, value in losses.items())
    assert early.keys() == late.keys()
    for name, value in late.items():
        torch.testing.assert_close(early[name], value, rtol=1e-5, atol=1e-7, msg=name)


def test_the_image_decoder_is_done_before_texts_are_read() -> None:
    torch.manual_seed(0)
    model = ASAP(tiny(WORDS))
    model.settles_early, seen = True, []
    model.bert_encoder.register_forward_pre_hook(lambda *_: seen.append(model.decoder_blocks[0].mlp.fc1.weight.grad))
    model(_batch())
    assert seen
    assert seen[0] is not None
    assert model.blocks[0].mlp.fc1.weight.grad is None  # the encoder waits for what texts tell it


def test_nothing_runs_backwards_where_no_gradient_is_wanted() -> None:
    torch.manual_seed(0)
    model = ASAP(tiny(WORDS))
    model.settles_early = True
    with torch.no_grad():
        assert not model(_batch())["total"].requires_grad
    assert all(weight.grad is None for weight in model.parameters())


def test_a_frozen_encoder_is_owed_nothing_and_a_frozen_decoder_owes() -> None:
    for frozen, learning in (("blocks", "decoder_blocks"), ("decoder_blocks", "blocks")):
        torch.manual_seed(0)
        model = ASAP(replace(tiny(WORDS), weights=LossWeights(alignment=0.0, language=0.0)))
        for name, weight in model.named_parameters():
            weight.requires_grad_(name.startswith(learning))
        late, early = _gradients(model, False)[1], _gradients(model, True)[1]
        assert any(name.startswith(learning) for name in early)
        assert not any(name.startswith(frozen) for name in early)
        for name, value in late.items():
            torch.testing.assert_close(early[name], value, rtol=1e-5, atol=1e-7, msg=name)


def test_what_is_owed_grows_with_the_total() -> None:
    features = torch.tensor([1.0, 2.0], requires_grad=True)
    cut = Cut(features * 2)
    owed = cut.settle(cut.copy.square().sum())
    assert owed == 0
    (3 * (owed + features.sum())).backward()
    assert features.grad is not None
    assert features.grad.tolist() == [3 * (8 + 1), 3 * (16 + 1)]  # d(2x)^2/dx = 8x
