"""ASAP (arXiv 2606.00602) and its ancestor SimCroP (arXiv 2509.08311) as presets of one model."""

from collections.abc import Mapping

from einops import rearrange
from torch import Tensor, nn

from core.models.asap import ASAP
from core.models.asap_config import ASAPConfig, corrected, paper, released, simcrop, small, tiny, two_scale
from core.models.selection import cosine_to_patches
from core.models.two_scale import build_asap
from core.report.traits import TRAITS
from core.synthesis.patients import ViewConfig
from core.synthesis.studies import StudyConfig
from trainers.batch import ASAP_REQUIRES
from trainers.cells import FINDING_KINDS, STRUCTURE_CLASSES
from trainers.crops import DataView
from trainers.loop import LoopConfig
from trainers.optim import OptimConfig
from trainers.recipes.recipe import Preset, Recipe
from trainers.report_tokens import ReportConfig
from trainers.stage import Stage
from trainers.synthetic import SyntheticConfig

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

TINY_LOOP = LoopConfig(batch_size=4, optim=OptimConfig(steps=300, warmup_steps=10, peak_lr=3e-3))
"""Eight studies by heart in half a minute of one core."""


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


CELL_FIELDS = tuple(
    "region_cells cell_class kind_region asked_ids asked_attn asked_traits asked_region asked_valid".split()
)
TWO_SCALE_STUDIES = SyntheticConfig(
    study=StudyConfig(ViewConfig((120, 88, 120), 3.0)),
    crop=(112, 80, 112),
    patch=(16, 16, 16),
    window_hu=(-1000.0, 1000.0),
    false_claims=8,
    cells=True,
    jitter_hu=20.0,
)
"""336 x 240 x 336 mm in voxels of 3 mm, cut anew from 24 mm more."""

WITHOUT_MASKS = tuple(name for name in ASAP_REQUIRES if name != "organ_mask")

RECIPE = Recipe(
    name="asap",
    config_type=ASAPConfig,
    build=build_asap,
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
        "two_scale": Preset(
            lambda words: two_scale(words, traits=len(TRAITS), heads=(STRUCTURE_CLASSES, len(FINDING_KINDS))),
            loop=LoopConfig(
                precision="auto", checkpoint_every=100, optim=OptimConfig(steps=2000, warmup_steps=50, peak_lr=1e-3)
            ),
            synthetic=TWO_SCALE_STUDIES,
            stages=(Stage(requires=(*ASAP_REQUIRES, *CELL_FIELDS)),),
        ),
        "tiny": Preset(tiny, reports=ReportConfig(128), loop=TINY_LOOP),
        "simcrop": Preset(
            lambda _words: simcrop(),
            loop=PUBLISHED_LOOP,
            stages=(Stage(requires=WITHOUT_MASKS),),
            wants_vocabulary=True,
            val_share=0.0,
        ),
    },
)
