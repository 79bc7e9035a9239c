"""ASAP (arXiv 2606.00602) and its ancestor SimCroP (arXiv 2509.08311) as presets of one model."""

from collections.abc import Mapping

from einops import rearrange
from torch import Tensor, nn

from core.models.asap import ASAP
from core.models.asap_config import ASAPConfig, corrected, paper, released, simcrop, small, tiny
from core.models.selection import cosine_to_patches
from trainers.batch import ASAP_REQUIRES
from trainers.crops import DataView
from trainers.loop import LoopConfig
from trainers.optim import OptimConfig
from trainers.recipes.recipe import Preset, Recipe
from trainers.report_tokens import ReportConfig
from trainers.stage import Stage

RELEASED_VIEW = DataView(resample="as_released", mirror_chance=0.0, flip_chance=0.2)
PUBLISHED_LOOP = LoopConfig(
    batch_size=14,
    accumulate=8,
    precision="fp16",
    seed=42,
    checkpoint_every=105,
    optim=OptimConfig(steps=0, epochs=200, warmup_steps=0, warmup_epochs=20, clip_norm=0.0),
)
"""For 4 GPUs: 448 studies per step, about 105 steps per epoch."""


def find_sentences(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Cosine of the first study's sentences with all patches: (S, gx, gy, gz)."""
    assert isinstance(model, ASAP)
    patches = model.project_patches(model.encode_patches(batch["image"][:1]).float())
    words = (batch[name][:1] for name in ("findings_ids", "findings_attn", "findings_sent"))
    ids, attn, sentences = words
    vectors = model.embed_sentences(ids, attn, sentences.long()).float()
    cosine = cosine_to_patches(vectors[None], rearrange(patches, "1 x y z d -> 1 (x y z) d"))
    x, y, z = model.config.vision.grid
    return rearrange(cosine, "1 s (x y z) -> s x y z", x=x, y=y, z=z)


WITHOUT_MASKS = tuple(name for name in ASAP_REQUIRES if name != "organ_mask")

RECIPE = Recipe(
    name="asap",
    config_type=ASAPConfig,
    build=ASAP,
    heat=find_sentences,
    presets={
        "released": Preset(
            lambda _words: released(),
            RELEASED_VIEW,
            ReportConfig(as_released=True),
            PUBLISHED_LOOP,
            wants_vocabulary=True,
            val_share=0.0,
        ),
        "paper": Preset(
            lambda _words: paper(), RELEASED_VIEW, loop=PUBLISHED_LOOP, wants_vocabulary=True, val_share=0.0
        ),
        "corrected": Preset(lambda _words: corrected(), wants_vocabulary=True),
        "small": Preset(small, reports=ReportConfig(256)),
        "tiny": Preset(tiny, reports=ReportConfig(128)),
        "simcrop": Preset(
            lambda _words: simcrop(),
            loop=PUBLISHED_LOOP,
            stages=(Stage(requires=WITHOUT_MASKS),),
            wants_vocabulary=True,
            val_share=0.0,
        ),
    },
)
