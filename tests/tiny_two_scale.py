"""A model of two scales in the size of a test: 32 x 32 x 32 voxels, 8 patches, 4,096 cells."""

from dataclasses import replace

import torch

from core.models.asap_config import ASAPConfig, two_scale
from core.models.bert import BertConfig
from core.models.mae import DecoderConfig
from core.models.pyramid import PyramidConfig

WORDS = 40


def tiny_two_scale(vocab_size: int = WORDS, heads: tuple[int, int] = (5, 3), traits: int = 0) -> ASAPConfig:
    plain = two_scale(vocab_size, (32, 32, 32))
    text = BertConfig(vocab_size, width=24, depth=1, heads=4, mlp_width=48, positions=64, dropout=0.0)
    return replace(
        plain,
        vision=replace(plain.vision, width=24, depth=1, heads=4, mlp_ratio=2),
        decoder=DecoderConfig(width=24, depth=1, heads=4, mlp_ratio=2, injection_block=0),
        text=replace(text, attention_dropout=0.0),
        report=replace(text, attention_dropout=0.0),
        pyramid=PyramidConfig((8, 12, 16), (12, 12), 12, 12, traits, *heads),
    )


def random_batch(studies: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """One region per study, at another corner for each; two true claims, one false and one slot of padding."""
    generator = torch.Generator().manual_seed(seed)
    regions = torch.zeros(studies, 1, 16, 16, 16, dtype=torch.uint8)
    for study in range(studies):
        regions[study, 0, 2 + 6 * (study % 2) :][:4, 3:6, 9:12] = 8
    ids = torch.randint(5, WORDS, (studies, 9), generator=generator)
    sentences = torch.tensor([0, 1, 1, 1, 1, 2, 2, 2, 2], dtype=torch.int16).repeat(studies, 1)
    asked = torch.randint(5, WORDS, (studies, 4, 6), generator=generator)
    return {
        "image": torch.rand(studies, 1, 32, 32, 32, generator=generator) * 2 - 1,
        "organ_mask": torch.randint(0, 9, (studies, 32, 32, 32), generator=generator, dtype=torch.uint8),
        "findings_ids": ids,
        "findings_attn": torch.ones(studies, 9, dtype=torch.bool),
        "findings_sent": sentences,
        "report_ids": ids,
        "report_attn": torch.ones(studies, 9, dtype=torch.bool),
        "mlm_in": ids,
        "mlm_labels": torch.where(torch.arange(9) % 2 == 1, ids, -100),
        "asked_ids": asked,
        "asked_attn": torch.ones(studies, 4, 6, dtype=torch.bool),
        "asked_valid": torch.tensor([[True, True, True, False]]).repeat(studies, 1),
        "asked_region": torch.tensor([[0, 0, -1, -1]], dtype=torch.int16).repeat(studies, 1),
        "region_cells": regions.flatten(2),
        "kind_region": torch.tensor([[0, -1, -2]], dtype=torch.int16).repeat(studies, 1),
        "cell_class": torch.randint(0, 5, (studies, 4096), generator=generator, dtype=torch.uint8),
    }
