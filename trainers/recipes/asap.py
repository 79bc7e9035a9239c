"""ASAP (arXiv 2606.00602) and its ancestor SimCroP (arXiv 2509.08311) as presets of one model."""

from core.models.asap import ASAP
from core.models.asap_config import ASAPConfig, corrected, released, simcrop, small, tiny
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
WITHOUT_MASKS = tuple(name for name in ASAP_REQUIRES if name != "organ_mask")

RECIPE = Recipe(
    name="asap",
    config_type=ASAPConfig,
    build=ASAP,
    presets={
        "released": Preset(
            lambda _words: released(),
            RELEASED_VIEW,
            ReportConfig(as_released=True),
            PUBLISHED_LOOP,
            wants_vocabulary=True,
        ),
        "corrected": Preset(lambda _words: corrected(), wants_vocabulary=True),
        "small": Preset(small),
        "tiny": Preset(tiny),
        "simcrop": Preset(
            lambda _words: simcrop(),
            loop=PUBLISHED_LOOP,
            stages=(Stage(requires=WITHOUT_MASKS),),
            wants_vocabulary=True,
        ),
    },
)
