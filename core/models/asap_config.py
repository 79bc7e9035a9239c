"""Every size and switch of ASAP, and its named presets."""

from dataclasses import dataclass, field, replace
from typing import Literal

from core.errors import ConfigError
from core.models.bert import BertConfig
from core.models.mae import DecoderConfig
from core.models.pyramid import COARSEST, PyramidConfig
from core.models.vit import VisionConfig

REPORT_DECODER = BertConfig(depth=6, heads=6, mlp_width=1536, positions=256, dropout=0.1, attention_dropout=0.1)
"""ASAP's report decoder."""


@dataclass(frozen=True)
class LossWeights:
    """What each term counts in the total; a term of weight 0 is not computed."""

    reconstruction: float = 1.0
    """Hidden voxels (MIM)."""
    injection: float = 1.0
    """Anatomy class shares of every patch."""
    language: float = 1.0
    """Masked report tokens."""
    alignment: float = 1.0
    """Sentences against the regions of their own report."""
    study: float = 0.0
    """Whole volumes against whole reports of the batch (mends spec 7.1, point 5)."""
    grounding: float = 0.0
    """Sentences against their true regions, when the batch carries `sentence_target`."""
    questions: float = 0.0
    """Claims that are true or false of the CT, each read alone, when the batch carries `asked_target`."""
    size_prior: float = 0.0
    """Pull of the learned region size to the middle of its range."""
    place: float = 0.0
    """Where in the cells of the pyramid each claim is true (softmax over cells)."""
    extent: float = 0.0
    """How far its region reaches: a yes or no per cell, and their overlap."""
    presence: float = 0.0
    """Whether a claim is true anywhere, read off its best cells."""
    kinds: float = 0.0
    """Kinds of finding, told on cells by a head that only training uses."""
    structures: float = 0.0
    """Anatomy on cells, by the same head."""

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 0:
            raise ConfigError(f"Loss weights must not be negative, got {self}.")


@dataclass(frozen=True)
class Fixes:
    """Defects of the released code (spec 7.1), each mended on its own; all False = as released."""

    learned_size: bool = True
    """A mixture over region sizes, so that the size head gets a gradient (point 1)."""
    no_unused_weights: bool = True
    """Leave out weights that no computation reads; the published layout has them (point 2)."""
    padding_masked: bool = True
    """Empty sentence slots neither act as negatives nor enter the mean region (point 3)."""
    language_on_masked_only: bool = True
    """The language loss counts masked real tokens only, not padding and visible ones (point 6)."""
    text_in_eval_mode: bool = True
    """The frozen text encoder runs without dropout (point 7)."""
    balanced_injection: bool = True
    """Every anatomy class weighs the same in the injection loss (point 10)."""
    counted_together: bool = True
    """Means over sentences and words run over all processes; the published code averages each card's own mean, so
    that a sentence weighs more on a card with few of them."""
    unmasked_alignment: bool = False
    """Align on all patches by a second, unmasked pass; costs about twice the encoder's time (point 11)."""


@dataclass(frozen=True)
class ASAPConfig:
    """The whole model; defaults are the released sizes with the released behaviour mended."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    """Volume encoder."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """Image decoder."""
    text: BertConfig = field(default_factory=BertConfig)
    """Text encoder."""
    report: BertConfig = REPORT_DECODER
    """Fusion layer and report decoder; as wide as `vision`, vocabulary of `text`."""
    text_projection_width: int = 128
    """CXR-BERT's CLS projection head, which only the published layout holds."""
    classes: int = 9
    """Anatomy classes, background included."""
    mask_ratio: float = 0.75
    """Share of patches that the encoder does not see."""
    log2_size_min: int = 4
    """A region has at least 2^this patches."""
    size_steps: int = 3
    """Number of region sizes, doubling from one to the next."""
    size_softness: float = 0.5
    """Spread of the mixture over sizes when `learned_size`."""
    temperature: float = 0.07
    """Of every softmax over cosines."""
    region_share: float = 0.2
    """Factor on the mean region token in the fusion memory."""
    region_token: bool = True
    """Whether the fusion memory holds the mean region token; SimCroP has none."""
    text_frozen: bool = True
    """Whether the text encoder keeps the weights it starts with."""
    grounding_terms: Literal["softmax", "presence", "both"] = "both"
    """Softmax over patches, a yes or no per patch, or their sum."""
    pyramid: PyramidConfig | None = None
    """Cells of a few voxels beside the patches, see `core.models.two_scale`; None = patches only."""
    weights: LossWeights = field(default_factory=LossWeights)
    """Of the losses."""
    fixes: Fixes = field(default_factory=Fixes)
    """Which defects are mended."""

    def __post_init__(self) -> None:
        if (self.report.width, self.report.vocab_size) != (self.vision.width, self.text.vocab_size):
            raise ConfigError(
                f"The report decoder has width {self.report.width} and {self.report.vocab_size} words; expected the "
                f"volume encoder's width {self.vision.width} and the text encoder's {self.text.vocab_size} words."
            )
        if not 0 <= self.mask_ratio < 1 or int(self.vision.patches * (1 - self.mask_ratio) + 1e-9) < 1:
            raise ConfigError(f"mask_ratio is {self.mask_ratio}; expected [0, 1) with at least one patch visible.")
        if min(self.temperature, self.size_softness) <= 0 or self.classes < 2 or self.size_steps < 1:
            raise ConfigError(
                "temperature and size_softness must be above 0, classes at least 2, size_steps at least 1."
            )
        if self.pyramid is not None and self.vision.patch_size != (COARSEST,) * 3:
            raise ConfigError(
                f"patch_size is {self.vision.patch_size}; the pyramid ends in patches of {COARSEST} voxels an edge."
            )

    @property
    def has_grounding(self) -> bool:
        """Whether the supervised grounding term, and its two scalars, exist."""
        return self.weights.grounding > 0


RELEASED_FIXES = Fixes(
    learned_size=False,
    no_unused_weights=False,
    padding_masked=False,
    language_on_masked_only=False,
    text_in_eval_mode=False,
    balanced_injection=False,
    counted_together=False,
)


def released() -> ASAPConfig:
    """The published code, size by size and defect by defect; its weights load strictly."""
    return ASAPConfig(fixes=RELEASED_FIXES)


def paper() -> ASAPConfig:
    """The published sizes and what the method is said to do where its code does something else.

    Regions whose size is learned, contrast among a report's real sentences, words that are hidden and guessed; the
    frozen text encoder does not drop out. Everything else is as in `released`.
    """
    described = Fixes(balanced_injection=False, counted_together=False)
    return ASAPConfig(fixes=described)


def corrected() -> ASAPConfig:
    """The published sizes with every defect mended whose mending does not slow training down."""
    return ASAPConfig(weights=LossWeights(size_prior=0.01))


def simcrop() -> ASAPConfig:
    """SimCroP (arXiv 2509.08311), ASAP's ancestor: no anatomy, 32 patches for every sentence, no region token.

    Its pre-training code was never published, so it stands on the mended parts; its number of patches is not known.
    """
    return ASAPConfig(
        log2_size_min=5,
        size_steps=1,
        region_token=False,
        weights=LossWeights(injection=0.0),
        fixes=Fixes(learned_size=False),
    )


def tiny(vocab_size: int) -> ASAPConfig:
    """`corrected` in the size of a few seconds of CPU training: 32x32x16 voxels, 64 patches, width 48, depth 2."""
    text = BertConfig(vocab_size, width=48, depth=2, heads=4, mlp_width=96, positions=128, dropout=0.0)
    return replace(
        corrected(),
        vision=VisionConfig((32, 32, 16), (8, 8, 4), width=48, depth=2, heads=4, mlp_ratio=2),
        decoder=DecoderConfig(width=48, depth=2, heads=4, mlp_ratio=2, injection_block=0),
        text=replace(text, attention_dropout=0.0),
        report=replace(text, depth=1, attention_dropout=0.0),
        text_frozen=False,
        log2_size_min=1,
    )


def small(vocab_size: int, image_size: tuple[int, int, int] = (80, 64, 80)) -> ASAPConfig:
    """A model for CPUs, trained from scratch with known regions: patches of 8x8x8 voxels, width 192, depth 6.

    Sentences choose among all patches of an unmasked pass, and the masked pass hides half of them.
    """
    text = BertConfig(vocab_size, width=192, depth=3, heads=4, mlp_width=384, positions=256, dropout=0.1)
    return ASAPConfig(
        vision=VisionConfig(image_size, (8, 8, 8), width=192, depth=6, heads=6, mlp_ratio=3),
        decoder=DecoderConfig(width=96, depth=2, heads=4, mlp_ratio=2),
        text=text,
        report=replace(text, depth=1),
        mask_ratio=0.5,
        log2_size_min=1,
        size_steps=4,
        text_frozen=False,
        weights=LossWeights(alignment=0.2, language=0.5, grounding=1.0, size_prior=0.01),
        fixes=Fixes(unmasked_alignment=True),
    )


LUNG_AND_SOFT_TISSUE = ((-1.0, -0.2), (-0.16, 0.25))
"""Windows of images that show -1000 to 1000 HU as -1 to 1: -1000 to -200 HU and -160 to 250 HU."""

TWO_SCALE_WEIGHTS = LossWeights(
    reconstruction=0.5,
    injection=0.2,
    language=0.1,
    alignment=0.1,
    study=0.1,
    size_prior=0.01,
    place=0.3,
    extent=1.0,
    presence=1.0,
    kinds=0.5,
    structures=0.5,
)


def two_scale(
    vocab_size: int,
    image_size: tuple[int, int, int] = (112, 80, 112),
    traits: int = 0,
    heads: tuple[int, int] = (0, 0),
) -> ASAPConfig:
    """Patches of 16 voxels that know the chest, and cells of 2 that sentences are found in; for CPUs.

    traits: numbers that come with every sentence
    heads: classes of structures and kinds of finding that the training set tells on cells.
    """
    text = BertConfig(vocab_size, width=128, depth=3, heads=4, mlp_width=384, positions=256, dropout=0.1)
    return ASAPConfig(
        vision=VisionConfig(
            image_size,
            (COARSEST,) * 3,
            width=192,
            depth=6,
            heads=6,
            mlp_ratio=3,
            channels=len(LUNG_AND_SOFT_TISSUE),
            windows=LUNG_AND_SOFT_TISSUE,
        ),
        decoder=DecoderConfig(width=96, depth=2, heads=4, mlp_ratio=2),
        text=text,
        report=BertConfig(vocab_size, width=192, depth=1, heads=4, mlp_width=384, positions=256, dropout=0.1),
        mask_ratio=0.75,
        log2_size_min=0,
        size_steps=4,
        pyramid=PyramidConfig(traits=traits, structures=heads[0], kinds=heads[1]),
        weights=TWO_SCALE_WEIGHTS,
        fixes=Fixes(unmasked_alignment=True),
    )
