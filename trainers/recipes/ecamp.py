"""ECAMP (arXiv 2312.13316) on CT: masked images, a super-resolved window, masked words around entities."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from core.errors import ConfigError
from core.models.checkpoint import load_strictly
from core.models.ecamp import ECAMP
from core.models.ecamp_config import ECAMPConfig, ecamp_paper, ecamp_released, ecamp_tiny
from core.models.tokens import ReportTokenizer
from core.preprocess import Size3
from trainers.attention_windows import refresh_windows
from trainers.crops import DataView
from trainers.entity_reports import EntityReports
from trainers.fine_volumes import FineVolumes
from trainers.loop import LoopConfig
from trainers.optim import OptimConfig
from trainers.recipes.recipe import FieldContext, Preset, Recipe
from trainers.sharp_windows import SharpWindows
from trainers.sources import FieldSource
from trainers.stage import Stage

REQUIRES = ("image", "report_ids", "report_attn", "mlm_in", "mlm_labels", "mlm_weight", "report_entity", "sr_corner")
STAGES = (Stage(requires=REQUIRES),)
PAPER_VIEW = DataView(offset_chance=0.0)
RELEASED_VIEW = DataView(resample="as_released", mirror_chance=0.0, flip_chance=0.2, offset_chance=0.0)
TINY_LOOP = LoopConfig(batch_size=4, optim=OptimConfig(steps=300, warmup_steps=10, peak_lr=3e-3))
"""Eight studies in half a minute of one core; by heart only without inserted statements (docs/methods/ecamp.md)."""
PUBLISHED_LOOP = LoopConfig(
    batch_size=14,
    accumulate=8,
    precision="fp16",
    seed=42,
    optim=OptimConfig(steps=0, epochs=120, horizon_epochs=200, warmup_steps=0, warmup_epochs=40, clip_norm=0.0),
)
"""Published but for the batch: 14 volumes a GPU, as ASAP has them, where ECAMP had 256 pictures."""


def ecamp_fields(context: FieldContext) -> Sequence[FieldSource]:
    """Reports with distilled statements, and windows; in mode hires also sharp targets from a finer volume."""
    config, rows = context.model, context.rows
    fine = None
    if config.sr.mode == "hires":
        fine = FineVolumes(context.root, list(rows), context.view, config.sr.scale, context.cache / "fine")
    reports = EntityReports(rows, context.tokenizer, config.task, context.root)
    return (reports, SharpWindows(rows, config, context.root, fine))


def words_read(config: ECAMPConfig) -> int:
    """Words that the text decoder knows."""
    return config.report.vocab_size


def image_size(config: ECAMPConfig) -> Size3:
    """Voxels (x, y, z) of the batch's image, of which mode down shows the encoder a shrunken copy."""
    return config.image_size


def image_patch(config: ECAMPConfig) -> Size3:
    """Voxels (x, y, z) of the batch's image in one patch."""
    return config.image_patch


def ecamp_organ() -> ECAMPConfig:
    """The paper's, with windows on the organs that the report finds something in."""
    plain = ecamp_paper()
    return replace(plain, sr=replace(plain.sr, window_from="organ"))


def start_text(model: ECAMP, _tokenizer: ReportTokenizer, weights: Mapping[str, Tensor] | None) -> None:
    """Weights of `--text` into the frozen text encoder; refused where words are learned from scratch."""
    if weights is None:
        return
    if model.config.text_in == "embed":
        raise ConfigError(
            "This ecamp learns its words from scratch and has no text encoder. Leave out --text, or give it one: "
            "--change text_in=cxrbert."
        )
    load_strictly(model.bert_encoder, weights, "--text")


def text_positions(config: ECAMPConfig) -> int:
    """Tokens in the longest report that the text decoder reads."""
    return config.report.positions


RECIPE = Recipe(
    name="ecamp",
    config_type=ECAMPConfig,
    build=ECAMP,
    presets={
        "released": Preset(
            lambda _words: ecamp_released(),
            RELEASED_VIEW,
            loop=PUBLISHED_LOOP,
            stages=STAGES,
            val_share=0.0,
            wants_vocabulary=True,
        ),
        "paper": Preset(
            lambda _words: ecamp_paper(), PAPER_VIEW, loop=PUBLISHED_LOOP, stages=STAGES, wants_vocabulary=True
        ),
        "organ": Preset(
            lambda _words: ecamp_organ(),
            PAPER_VIEW,
            loop=PUBLISHED_LOOP,
            stages=(Stage(requires=(*REQUIRES, "organ_mask")),),
            wants_vocabulary=True,
        ),
        "tiny": Preset(ecamp_tiny, PAPER_VIEW, loop=TINY_LOOP, stages=STAGES),
    },
    fields=ecamp_fields,
    image_size=image_size,
    patch_size=image_patch,
    vocabulary_size=words_read,
    longest_text=text_positions,
    start_text=start_text,
    before_epoch=refresh_windows,
)
