"""ASG (arXiv 2403.09294): whole reports, anatomical regions and tags, each compared with the image."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.models.asg import ASG
from core.models.asg_config import ASGConfig, paper, released, tiny
from core.models.asg_text import start_text
from core.organ_map import find_organ_map
from trainers.crops import DataView
from trainers.loop import LoopConfig
from trainers.optim import OptimConfig
from trainers.recipes.recipe import FieldContext, Preset, Recipe
from trainers.report_tokens import ReportConfig, ReportTokens
from trainers.sources import FieldSource
from trainers.stage import Stage
from trainers.triplets import TripletFields

REQUIRES = ("image", "organ_mask", "report_ids", "report_attn", "report_sent", "sent_organ", "tags")
STAGES = (Stage(requires=REQUIRES),)
VIEW = DataView(organ_map="asg", mirror_chance=0.0, offset_chance=0.0)
"""Random crops and nothing else, as published."""
PUBLISHED_OPTIM = OptimConfig(
    steps=0,
    epochs=50,
    warmup_steps=0,
    warmup_share=0.4,
    peak_lr=4e-5,
    floor_lr=1e-8,
    decay_all=True,
    betas=(0.9, 0.999),
    clip_norm=0.0,
)
PUBLISHED_LOOP = LoopConfig(batch_size=72, seed=42, validate_every=156, patience=5, optim=PUBLISHED_OPTIM)
"""For 4 GPUs: 288 studies per step, 156 steps per epoch of CT-RATE. Ends after 5 epochs that validate no better."""
TINY_LOOP = LoopConfig(batch_size=8, optim=OptimConfig(steps=200, warmup_steps=20, peak_lr=2e-3, betas=(0.9, 0.999)))


def read_fields(context: FieldContext) -> Sequence[FieldSource]:
    """Reports as tokens, and what their triplets say of organs and tags."""
    organs, config = find_organ_map(context.view.organ_map), context.model
    if len(organs) != config.organs:
        raise ConfigError(
            f"Organ map {context.view.organ_map} has {len(organs)} organs, the model {config.organs}. Choose another "
            "--view.organ-map, or a --model config for it."
        )
    if context.reports.as_released:
        raise ConfigError("ASG needs sentences that are split as its triplets number them: leave out as_released.")
    return (
        ReportTokens(context.rows, context.tokenizer, context.reports),
        TripletFields(context.root, context.rows, config.tags, organs),
    )


def find_sentences(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Similarity of the words of the first study's sentences with all patches: (S, gx, gy, gz)."""
    assert isinstance(model, ASG)
    patches = model.project_patches(model.encode_patches(batch["image"][:1]))[0]
    sentences = model.embed_sentences(*(batch[name][:1] for name in ("report_ids", "report_attn", "report_sent")))
    return torch.einsum("se,xyze->sxyz", sentences.float(), patches.float())


RECIPE = Recipe(
    name="asg",
    config_type=ASGConfig,
    build=ASG,
    presets={
        "released": Preset(lambda _words: released(), VIEW, loop=PUBLISHED_LOOP, stages=STAGES, wants_vocabulary=True),
        "paper": Preset(lambda _words: paper(), VIEW, loop=PUBLISHED_LOOP, stages=STAGES, wants_vocabulary=True),
        "tiny": Preset(tiny, VIEW, ReportConfig(128), TINY_LOOP, STAGES),
    },
    fields=read_fields,
    heat=find_sentences,
    start_text=start_text,
    required_parts=tuple(f"img_encoder_q.model.{part}" for part in ("patch_embed.", "cls_token", "blocks.", "norm.")),
)
