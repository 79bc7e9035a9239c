"""Every size and switch of ASG, and its named presets."""

from dataclasses import dataclass, field, replace
from typing import Literal

from core.errors import ConfigError
from core.models.bert import BertConfig
from core.models.contrast import GatherMode
from core.models.projection import HeadConfig
from core.models.tag_decoder import TagDecoderConfig
from core.models.vit import VisionConfig
from core.organ_map import ORGAN_MAPS
from core.report.tags import CT_TAGS

CXR_BERT_6 = BertConfig(depth=6)
"""The first half of CXR-BERT, as the published model takes the first half of Bio_ClinicalBERT."""


@dataclass(frozen=True)
class ASGWeights:
    """What each loss counts in the total; one of weight 0 is not computed."""

    ira: float = 1.0
    """Whole images against whole reports of the batch."""
    arsa: float = 1.0
    """Regions against sentences inside each study."""
    irl: float = 5.0
    """Tags recognised in the image."""
    erl: float = 1.0
    """Images against reports again, with targets softened by common tags."""

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 0 or max(vars(self).values()) <= 0:
            raise ConfigError(f"Loss weights must not be negative, and not all 0, got {self}.")


@dataclass(frozen=True)
class ASGFixes:
    """Defects of the released code, each mended on its own; all False = as released."""

    word_order: bool = True
    """Tokens have their position numbers; the release passes token types there, so all are at position 0."""
    own_regions: bool = True
    """Regions are pooled from their own study; the release sorts a batch after numbering them, and mixes it up."""
    padding_masked: bool = True
    """Padding enters no batch statistics of the word head."""


@dataclass(frozen=True)
class ASGConfig:
    """The whole model; defaults are the published sizes, mended and fit for the small batches of CT."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    """Image encoder."""
    text: BertConfig = CXR_BERT_6
    """Text encoder; as wide as `vision`, because tag names ask the patches."""
    heads: HeadConfig = field(default_factory=HeadConfig)
    """The four projections into the shared space."""
    tag_decoder: TagDecoderConfig = field(default_factory=TagDecoderConfig)
    """The decoder that recognises tags."""
    tags: tuple[str, ...] = CT_TAGS
    """Names of the K tags, in the order of the batch field `tags`."""
    organs: int = len(ORGAN_MAPS["asg"])
    """O, the regions of a study: organs of the map that numbers `organ_mask`."""
    temperature: float = 0.07
    """Of every softmax over similarities; fixed."""
    tag_share: float = 0.2
    """Share of common tags in the targets of `erl`; the rest is the pair itself."""
    gather: GatherMode = "full_grad"
    """Whether `ira` and `erl` compare with the studies of all processes; the release has "none"."""
    shared_sentence: Literal["soft", "hard"] = "soft"
    """Regions with common sentences: positives of each other by their share, or negatives as released."""
    ignore_unmentioned: bool = False
    """Whether `irl` leaves out tags that a report says nothing of, instead of calling them absent."""
    weights: ASGWeights = field(default_factory=ASGWeights)
    """Of the losses."""
    fixes: ASGFixes = field(default_factory=ASGFixes)
    """Which defects are mended."""

    def __post_init__(self) -> None:
        if self.text.width != self.vision.width:
            raise ConfigError(
                f"Text encoder and image encoder have widths {self.text.width} and {self.vision.width}; expected the "
                "same, because tag names are compared with patches."
            )
        if self.vision.width % self.tag_decoder.heads:
            raise ConfigError(f"width {self.vision.width} is not a multiple of {self.tag_decoder.heads} tag heads.")
        if self.temperature <= 0 or not 0 <= self.tag_share <= 1 or self.organs < 1:
            raise ConfigError("temperature must be above 0, tag_share in [0, 1], organs at least 1.")
        if not self.tags or len(set(self.tags)) < len(self.tags):
            raise ConfigError(f"tags must be at least one name, each once, got {self.tags}.")


def released() -> ASGConfig:
    """The published code, switch by switch and defect by defect, over CTs."""
    return ASGConfig(
        heads=HeadConfig(norm="batch"),
        gather="none",
        shared_sentence="hard",
        fixes=ASGFixes(word_order=False, own_regions=False, padding_masked=False),
    )


def paper() -> ASGConfig:
    """What the text describes, without the code's defects, and with what the small batches of CT need."""
    return ASGConfig()


def tiny(vocab_size: int) -> ASGConfig:
    """`paper` in the size of a few seconds of CPU training: 32x32x16 voxels, 64 patches, width 48, depth 2."""
    text = BertConfig(vocab_size, width=48, depth=2, heads=4, mlp_width=96, positions=128, dropout=0.0)
    return replace(
        paper(),
        vision=VisionConfig((32, 32, 16), (8, 8, 4), width=48, depth=2, heads=4, mlp_ratio=2),
        text=replace(text, attention_dropout=0.0),
        heads=HeadConfig(hidden=64, embed=16),
        tag_decoder=TagDecoderConfig(layers=2, heads=4, mlp_width=64, dropout=0.0),
    )
