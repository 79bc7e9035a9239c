"""The pre-training methods: what each needs, its named presets, and how its model is built."""

from collections.abc import Callable
from typing import NamedTuple

from core.errors import ConfigError
from core.models.asap import ASAP
from core.models.asap_config import ASAPConfig, corrected, released, small, tiny
from trainers.batch import ASAP_REQUIRES


class Recipe(NamedTuple):
    """One pre-training method."""

    requires: tuple[str, ...]  # entries of the batch
    presets: dict[str, Callable[[int], ASAPConfig]]  # by name, from the size of the vocabulary
    build: Callable[[ASAPConfig], ASAP]


RECIPES: dict[str, Recipe] = {
    "asap": Recipe(
        tuple(ASAP_REQUIRES),
        {
            "released": lambda _vocab_size: released(),
            "corrected": lambda _vocab_size: corrected(),
            "small": small,
            "tiny": tiny,
        },
        ASAP,
    ),
}


def preset_config(recipe: str, preset: str, vocab_size: int) -> ASAPConfig:
    """A recipe's preset; refuses a vocabulary that is larger than the preset's text encoder."""
    presets = RECIPES[recipe].presets
    if preset not in presets:
        raise ConfigError(f"Recipe {recipe} has no preset {preset!r}; expected one of {', '.join(presets)}.")
    config = presets[preset](vocab_size)
    if config.text.vocab_size < vocab_size:
        raise ConfigError(
            f"The vocabulary has {vocab_size} words, preset {preset} takes {config.text.vocab_size}. "
            "Give --tokenizer a smaller file, or a --model config of that size."
        )
    return config
