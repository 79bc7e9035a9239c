"""Every size and switch of ECAMP, and its named presets for CT."""

from dataclasses import dataclass, field, replace
from typing import Literal

from core.errors import ConfigError
from core.models.bert import BertConfig
from core.models.entity_masking import RELEASED_RULE, MaskingRule
from core.models.entity_words import EntityWords
from core.models.mae import DecoderConfig
from core.models.super_resolution import Shrink
from core.models.vit import Size3, VisionConfig


@dataclass(frozen=True)
class SuperResolutionConfig:
    """What is sharpened, where, and how the error is counted (spec 3, 8.6, 8.7)."""

    mode: Literal["down", "hires"] = "down"
    """down: the encoder sees the image shrunk by `scale`, the image is the target. hires: `image_hr` is the target."""
    scale: tuple[int, int, int] = (2, 2, 2)
    """Target voxels per predicted voxel (x, y, z); 1 along the flat axis of a picture."""
    shrink: Shrink = "mean"
    """How `down` shrinks; bicubic for flat pictures."""
    window: int = 12
    """Patches of the sharpened window per axis, at most the grid's."""
    window_from: Literal["attn", "organ", "center"] = "attn"
    """Where words about findings look, the organs of abnormal findings, or the middle of the crop."""
    norm: Literal["window", "all"] = "window"
    """Mean over the window, or as released its sum over the number of all voxels of the sharp image."""
    ends_in_relu: bool = False
    """As released; cannot reach the values below 0 that images have."""
    refresh_epochs: int = 1
    """attn: epochs between two looks of the model at all studies; each costs an unmasked pass without gradient."""
    momentum: float = 0.5
    """attn: share of its old place that a study's window keeps at each look."""

    def __post_init__(self) -> None:
        if min(self.scale) < 1 or self.window < 1 or self.refresh_epochs < 1 or not 0 <= self.momentum < 1:
            raise ConfigError(
                f"scale, window and refresh_epochs must be at least 1, momentum lie in [0, 1), got {self}."
            )
        if self.shrink != "mean" and self.scale[2] != 1:
            raise ConfigError(f"shrink is {self.shrink!r}, which knows flat pictures only (scale x, y, 1). Use 'mean'.")


@dataclass(frozen=True)
class ReportTask:
    """How a report becomes the masked language task (spec 2)."""

    rule: MaskingRule = field(default_factory=MaskingRule)
    """What is hidden how often."""
    words: EntityWords = field(default_factory=EntityWords)
    """Entities and stock phrases."""
    insert_chance: float = 0.8
    """How often the distilled statements are put between the report's sentences."""
    max_tokens: int = 512
    """Longest text in tokens."""
    as_released: bool = False
    """Insert at dots, pad every text to `max_tokens`; else at sentence boundaries, as long as it is."""

    def __post_init__(self) -> None:
        if not 0 <= self.insert_chance <= 1 or self.max_tokens < 4:
            raise ConfigError("insert_chance must lie in [0, 1], max_tokens above 3.")


@dataclass(frozen=True)
class ECAMPWeights:
    """What each loss counts in the total; a term of weight 0 is not computed."""

    reconstruction: float = 1.0
    """Hidden patches (MIM)."""
    super_resolution: float = 1.0
    """The sharpened window."""
    language: float = 1.0
    """Masked report tokens."""

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 0:
            raise ConfigError(f"Loss weights must not be negative, got {self}.")


REPORT_DECODER = BertConfig(depth=6, heads=6, mlp_width=1536, positions=512, dropout=0.1, attention_dropout=0.1)
"""ECAMP's text decoder with CXR-BERT's vocabulary and reports of 512 tokens."""


@dataclass(frozen=True)
class ECAMPConfig:
    """The whole model; defaults are the paper's, on CT."""

    vision: VisionConfig = field(default_factory=lambda: VisionConfig((112, 112, 56), (8, 8, 4)))
    """Volume encoder; in mode down its image is the batch's over `sr.scale`."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """Image decoder."""
    report: BertConfig = REPORT_DECODER
    """Fusion layer and text decoder, as wide as `vision`; with `text_in` embed also the word embeddings."""
    text_in: Literal["embed", "cxrbert"] = "embed"
    """Masked words enter as embeddings that are trained, or as states of a frozen text encoder (cheaper to learn)."""
    text: BertConfig = field(default_factory=BertConfig)
    """The frozen text encoder of `text_in` cxrbert; vocabulary of `report`."""
    mask_ratio: float = 0.75
    """Share of patches that the encoder does not see."""
    mim_norm: Literal["all", "masked"] = "masked"
    """Divide the squared error by the hidden voxels (MAE) or, as released, by all."""
    language_on: Literal["masked", "all"] = "masked"
    """Tokens that the language loss counts: hidden ones, or as released also visible ones and padding."""
    sr: SuperResolutionConfig = field(default_factory=SuperResolutionConfig)
    """Super-resolution."""
    task: ReportTask = field(default_factory=ReportTask)
    """Masked language."""
    weights: ECAMPWeights = field(default_factory=ECAMPWeights)
    """Of the losses."""

    def __post_init__(self) -> None:
        if self.report.width != self.vision.width:
            raise ConfigError(f"The text decoder is {self.report.width} wide, the encoder {self.vision.width}.")
        if self.text_in == "cxrbert" and self.text.vocab_size != self.report.vocab_size:
            raise ConfigError(
                f"The text encoder has {self.text.vocab_size} words, the decoder {self.report.vocab_size}; "
                "expected the same vocabulary."
            )
        if self.task.max_tokens > self.report.positions:
            raise ConfigError(
                f"Texts have up to {self.task.max_tokens} tokens, the text decoder {self.report.positions} positions."
            )
        if not 0 <= self.mask_ratio < 1 or int(self.vision.patches * (1 - self.mask_ratio) + 1e-9) < 1:
            raise ConfigError(f"mask_ratio is {self.mask_ratio}; expected [0, 1) with at least one patch visible.")

    @property
    def image_size(self) -> Size3:
        """Voxels (x, y, z) of the batch's `image`."""
        return self._times_shrink(self.vision.image_size)

    @property
    def image_patch(self) -> Size3:
        """Voxels (x, y, z) of the batch's `image` that belong to one patch."""
        return self._times_shrink(self.vision.patch_size)

    @property
    def window(self) -> Size3:
        """Patches (x, y, z) of the sharpened window."""
        x, y, z = (min(self.sr.window, n) for n in self.vision.grid)
        return x, y, z

    def _times_shrink(self, size: Size3) -> Size3:
        if self.sr.mode == "hires":
            return size
        x, y, z = (n * s for n, s in zip(size, self.sr.scale, strict=True))
        return x, y, z


def ecamp_paper() -> ECAMPConfig:
    """What the paper's abstract and figure say, on CT: descriptors are always hidden. Where they are silent, what the
    method means to do: the usual position code, and losses as means over what they judge.
    """
    return ECAMPConfig()


def ecamp_released() -> ECAMPConfig:
    """What the public code does, on CT, defects included: it never hides descriptors on purpose, counts every token
    and voxel, cannot sharpen to values below 0, and codes neighbouring patches nearly alike.
    """
    plain = ECAMPConfig()
    return replace(
        plain,
        vision=replace(plain.vision, slow_positions=True),
        mim_norm="all",
        language_on="all",
        sr=SuperResolutionConfig(norm="all", ends_in_relu=True),
        task=ReportTask(rule=RELEASED_RULE, as_released=True),
    )


def ecamp_tiny(vocab_size: int) -> ECAMPConfig:
    """The paper's in the size of a few seconds of CPU training: 32x32x16 voxels, 64 patches, width 48, depth 2."""
    report = BertConfig(vocab_size, width=48, depth=2, heads=4, mlp_width=96, positions=128, dropout=0.0)
    return ECAMPConfig(
        vision=VisionConfig((16, 16, 8), (4, 4, 2), width=48, depth=2, heads=4, mlp_ratio=2),
        decoder=DecoderConfig(width=48, depth=2, heads=4, mlp_ratio=2, injection_block=0),
        report=replace(report, attention_dropout=0.0),
        sr=SuperResolutionConfig(window=3),
        task=ReportTask(max_tokens=128),
    )
