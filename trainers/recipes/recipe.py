"""What a recipe is: a pre-training method with its inputs, its model and its named presets.

A new one is a file `trainers/recipes/NAME.py` that exports RECIPE.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from core.errors import ConfigError
from core.models.checkpoint import ENCODER_PARTS
from core.models.tokens import ReportTokenizer
from core.preprocess import Size3
from core.retrieval.table import ReportRow
from trainers.crops import DataView
from trainers.folder import CACHE
from trainers.loop import LoopConfig
from trainers.report_tokens import ReportConfig, ReportTokens
from trainers.sources import BUILDERS, FieldSource
from trainers.stage import Stage
from trainers.synthetic import SyntheticConfig
from trainers.validation import EpochStart, SentenceHeat


class RecipeModel(Protocol):
    """What every recipe's model offers beside being an nn.Module built from one frozen dataclass `config`.

    A model with several stages also has `set_stage(name)`, which freezes and unfreezes its parts; it is called before
    training begins, after any weights are loaded. `end_stage()`, where there is one, drops what only a
    stage needs. One with slow copies has `after_step()`, called after each step.
    """

    def __call__(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name, scalars, with their weighted sum as "total"; fields as in `trainers.batch`."""
        ...

    def encode_patches(self, images: Tensor) -> Tensor:
        """Images (B, 1, X, Y, Z) -> patch tokens (B, gx, gy, gz, D) of all patches."""
        ...


class FieldContext(NamedTuple):
    """What a recipe may build its field sources from."""

    root: Path  # data folder, where the files of the builders lie
    rows: Mapping[str, ReportRow]  # reports by study id
    tokenizer: ReportTokenizer
    reports: ReportConfig
    view: DataView
    model: Any  # the recipe's model config
    cache: Path = Path(CACHE)  # folder for prepared volumes


@dataclass(frozen=True)
class Preset:
    """A named way to run a recipe: model, view of the data, and what the command's options start from."""

    config: Callable[[int], Any]
    """Model config from the size of the vocabulary."""
    view: DataView = field(default_factory=DataView)
    """How CTs are shown."""
    reports: ReportConfig = field(default_factory=ReportConfig)
    """How reports become tokens."""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """Batch, precision, optimiser and schedule."""
    stages: tuple[Stage, ...] = (Stage(),)
    """What is trained one after the other."""
    val_share: float = 0.05
    """Share of the patients that validate; presets that repeat a published run train on all."""
    wants_vocabulary: bool = False
    """True = its text encoder belongs to a published vocabulary, which must be given."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    """How the data engine makes studies."""


def report_fields(context: FieldContext) -> Sequence[FieldSource]:
    """The field sources of a recipe that reads nothing but reports."""
    return (ReportTokens(context.rows, context.tokenizer, context.reports),)


def vision_size(config: Any) -> Size3:
    """Voxels (x, y, z) read by a model whose config has `vision`."""
    return config.vision.image_size


def vision_patch(config: Any) -> Size3:
    """Voxels (x, y, z) of a patch of a model whose config has `vision`."""
    return config.vision.patch_size


def text_words(config: Any) -> int:
    """Words of a model whose config has `text`."""
    return config.text.vocab_size


def text_positions(config: Any) -> int:
    """Tokens in the longest text that a model whose config has `text` reads."""
    return config.text.positions


@dataclass(frozen=True)
class Recipe:
    """One pre-training method."""

    name: str
    """As in `--recipe`."""
    config_type: type
    """Frozen dataclass of the model's config."""
    build: Callable[[Any], nn.Module]
    """Model, a `RecipeModel`, from its config."""
    presets: Mapping[str, Preset]
    """By short name; NAME_PRESET is understood too."""
    fields: Callable[[FieldContext], Sequence[FieldSource]] = report_fields
    """Field sources over a data folder; refuse missing files by naming their builder."""
    image_size: Callable[[Any], Size3] = vision_size
    """Voxels (x, y, z) that a model of a config reads."""
    patch_size: Callable[[Any], Size3] = vision_patch
    """Voxels (x, y, z) of one of its patches."""
    vocabulary_size: Callable[[Any], int] = text_words
    """Words that a model of a config knows."""
    longest_text: Callable[[Any], int] = text_positions
    """Tokens in the longest report that a model of a config reads."""
    start_text: Callable[[Any, ReportTokenizer, Mapping[str, Tensor] | None], None] | None = None
    """Takes the weights of `--text`, "bert." before their names (None without one), and what the model reads off the
    vocabulary once; without it they go to every text encoder of the model."""
    required_parts: tuple[str, ...] = ENCODER_PARTS
    """Beginnings of the names that a file of `--init` must hold."""
    heat: SentenceHeat | None = None
    """Where a model of it finds sentences, for pictures in the log; None = it does not point."""
    before_epoch: Callable[[EpochStart], None] | None = None
    """Called before every epoch, for training sets that learn from the model."""
    builders: Mapping[str, str] = field(default_factory=lambda: BUILDERS)
    """Batch field -> command that makes what it is read from."""

    def preset(self, name: str) -> Preset:
        """A preset by its name, with or without the recipe's name in front."""
        short = name.removeprefix(f"{self.name}_")
        if short not in self.presets:
            raise ConfigError(f"Recipe {self.name} has no preset {name!r}; expected one of {', '.join(self.presets)}.")
        return self.presets[short]

    def config(self, preset: str, vocab_size: int) -> Any:
        """A preset's model config; refuses a vocabulary that is larger than its text encoder."""
        config = self.preset(preset).config(vocab_size)
        if self.vocabulary_size(config) < vocab_size:
            raise ConfigError(
                f"The vocabulary has {vocab_size} words, preset {preset} takes {self.vocabulary_size(config)}. "
                "Give --tokenizer a smaller file, or a --model config of that size."
            )
        return config
