"""fVLM (arXiv 2501.14548): organs of a CT against what the report says of them."""

from collections.abc import Sequence
from dataclasses import replace

from core.errors import ConfigError
from core.models.fvlm import FVLM
from core.models.fvlm_config import FVLMConfig, paper, released, tiny
from core.organ_map import find_organ_map
from trainers.crops import DataView
from trainers.loop import LoopConfig
from trainers.optim import OptimConfig
from trainers.organ_texts import OrganTextFields, OrganWords
from trainers.recipes.recipe import FieldContext, Preset, Recipe
from trainers.report_tokens import ReportConfig
from trainers.sources import FieldSource
from trainers.stage import Stage

STAGES = (Stage(requires=("image", "organ_mask", "organ_ids", "organ_attn", "organ_text_id", "organ_abnormal")),)

VIEW = DataView(
    spacing_mm=(1.0, 1.0, 3.0),
    window_hu=(-1150.0, 350.0),
    shown_as=(0.0, 1.0),
    organ_map="fvlm4",
    resample="as_released",
    clip_late=True,
    place="organs",
    padding="air",
    mirror_chance=0.0,
    flip_chance=0.2,
    offset_chance=0.0,
)
"""The published preprocessing (spec 3): the box of the four organs at 1 x 1 x 3 mm, flipped blindly."""

PUBLISHED_LOOP = LoopConfig(
    batch_size=14,
    seed=42,
    checkpoint_every=430,
    optim=OptimConfig(
        steps=0,
        epochs=20,
        schedule="epoch_cosine",
        warmup_steps=377,
        peak_lr=1e-4,
        start_lr=1e-6,
        floor_lr=1e-6,
        weight_decay=0.01,
        decay_all=True,
        betas=(0.9, 0.999),
        clip_norm=0.0,
    ),
)
"""For 4 GPUs: 56 studies per step, 430 steps per epoch of CT-RATE; the log of the authors fits about 30 epochs."""

TINY_LOOP = LoopConfig(batch_size=8, optim=OptimConfig(steps=160, warmup_steps=10, peak_lr=1e-3, betas=(0.9, 0.999)))


def organ_fields(context: FieldContext) -> Sequence[FieldSource]:
    """Texts and states of the model's organs; refuses a view whose masks number others."""
    organs, model = find_organ_map(context.view.organ_map), context.model
    if organs.names != model.organs:
        raise ConfigError(
            f"The view's organ map {context.view.organ_map} has {', '.join(organs.names)}; the model has "
            f"{', '.join(model.organs)}. Set --view.organ-map, or --change 'organs=[...]'."
        )
    words = OrganWords(context.tokenizer, context.reports.max_tokens)
    return (OrganTextFields(context.root, organs, words, with_states=model.states == "file"),)


RECIPE = Recipe(
    name="fvlm",
    config_type=FVLMConfig,
    build=FVLM,
    fields=organ_fields,
    required_parts=("visual_encoder.",),
    presets={
        "released": Preset(
            lambda _words: released(),
            VIEW,
            ReportConfig(max_tokens=384),
            PUBLISHED_LOOP,
            STAGES,
            val_share=0.0,
            wants_vocabulary=True,
        ),
        "paper": Preset(
            lambda _words: paper(),
            VIEW,
            ReportConfig(max_tokens=384),
            replace(PUBLISHED_LOOP, optim=replace(PUBLISHED_LOOP.optim, epochs=40)),
            STAGES,
            val_share=0.0,
            wants_vocabulary=True,
        ),
        "tiny": Preset(tiny, replace(VIEW, flip_chance=0.0), ReportConfig(max_tokens=64), TINY_LOOP, STAGES),
    },
)
