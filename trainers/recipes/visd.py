"""ViSD-Boost (arXiv 2508.03742): organs contrasted by sight, modelled when normal, then aligned with their texts."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from core.models.visd import VISD
from core.models.visd_config import VISDConfig, mended, paper, released, tiny, tiny_vit, vit
from core.models.vit import Size3
from trainers.loop import LoopConfig
from trainers.optim import OptimConfig
from trainers.recipes.fvlm import PUBLISHED_LOOP, VIEW, organ_fields
from trainers.recipes.recipe import FieldContext, Preset, Recipe
from trainers.report_tokens import ReportConfig
from trainers.second_view import SecondView
from trainers.sources import FieldSource
from trainers.stage import Stage

SEEN = ("image", "organ_mask", "organ_abnormal")
STAGES = (
    Stage("contrast", requires=(*SEEN, "image_v2", "organ_mask_v2")),
    Stage("normality", requires=SEEN),
    Stage("alignment", requires=(*SEEN, "organ_ids", "organ_attn", "organ_text_id")),
)
"""Each begins with the weights of the one before; what a stage freezes is the model's business (`VISD.set_stage`)."""

TINY_STAGES = tuple(replace(stage, length=1.0 if stage.name == "alignment" else 0.5) for stage in STAGES)
TINY_LOOP = LoopConfig(batch_size=8, optim=OptimConfig(steps=70, warmup_steps=5, peak_lr=8e-3, betas=(0.9, 0.999)))
TINY_VIEW = replace(VIEW, flip_chance=0.0)
TEXTS = ReportConfig(max_tokens=384)


def view_fields(context: FieldContext) -> Sequence[FieldSource]:
    """Texts and states of the organs, and the second view of every crop."""
    return (*organ_fields(context), SecondView(context.view))


def image_size(config: VISDConfig) -> Size3:
    """Voxels (x, y, z) of a crop."""
    return config.image_size


def patch_size(config: VISDConfig) -> Size3:
    """Voxels (x, y, z) of a token of the last level."""
    return config.patch_size


def published(config: Callable[[], VISDConfig]) -> Preset:
    """A preset of the published size; its schedule is fVLM's in every stage, because ViSD-Boost's is not known."""
    return Preset(lambda _words: config(), VIEW, TEXTS, PUBLISHED_LOOP, STAGES, val_share=0.0, wants_vocabulary=True)


RECIPE = Recipe(
    name="visd",
    config_type=VISDConfig,
    build=VISD,
    fields=view_fields,
    image_size=image_size,
    patch_size=patch_size,
    required_parts=("visual_encoder.",),
    presets={
        "released": published(released),
        "paper": published(paper),
        "mended": published(mended),
        "vit": published(vit),
        "tiny": Preset(tiny, TINY_VIEW, ReportConfig(max_tokens=64), TINY_LOOP, TINY_STAGES),
        "tiny_vit": Preset(tiny_vit, TINY_VIEW, ReportConfig(max_tokens=64), TINY_LOOP, TINY_STAGES),
    },
)
