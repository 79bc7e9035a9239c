"""The slow way that the benchmark measures against reaches the same losses and gradients as ours."""

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.published_step import PublishedStep
from core.models.asap import ASAP
from core.models.asap_config import RELEASED_FIXES, ASAPConfig, LossWeights, tiny

WORDS, TOKENS, REAL = 60, 40, 30


def _config() -> ASAPConfig:
    return replace(tiny(WORDS), fixes=RELEASED_FIXES, weights=LossWeights(), text_frozen=True)


def _batch(config: ASAPConfig) -> dict[str, Tensor]:
    """Two studies of different length, padding behind the texts."""
    generator = torch.Generator().manual_seed(1)
    real = torch.arange(TOKENS)[None] < torch.tensor([[REAL], [REAL - 10]])
    ids = torch.randint(5, WORDS, (2, TOKENS), generator=generator).masked_fill(~real, 0)
    ids[:, 0] = 2
    return {
        "image": torch.rand(2, 1, *config.vision.image_size, generator=generator) * 2 - 1,
        "organ_mask": torch.randint(0, config.classes, (2, *config.vision.image_size), generator=generator),
        "findings_ids": ids,
        "findings_attn": real,
        "findings_sent": ((torch.arange(TOKENS)[None] // 10 + 1) * real).short(),
        "report_ids": ids,
        "report_attn": real,
        "mlm_in": torch.where(torch.rand(2, TOKENS, generator=generator) < 0.5, 4, ids),
        "mlm_labels": ids,
    }


def test_both_ways_give_the_same_losses_and_gradients() -> None:
    torch.manual_seed(0)
    config = _config()
    ours, slow = ASAP(config).eval(), PublishedStep(config).eval()
    slow.load_state_dict(ours.state_dict())
    batch, noise = _batch(config), torch.rand(2, config.vision.patches)
    # one study has a sentence less: what fills its empty slot is arbitrary, so it is compared alone
    for rows in (slice(0, 1), slice(1, 2)):
        own = {name: value[rows] for name, value in batch.items()}
        expected, found = ours(own, noise[rows]), slow(own, noise[rows])
        assert set(found) == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)
        for model, losses in ((ours, expected), (slow, found)):
            model.zero_grad()
            losses["total"].backward()
        gradients = dict(slow.named_parameters())
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(gradients[name].grad, parameter.grad, rtol=1e-3, atol=1e-6, msg=name)
