"""Model files of ASAP, see `core.models.model_file`."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from core.errors import CheckpointError
from core.models.asap import ASAP
from core.models.asap_config import ASAPConfig
from core.models.model_file import ModelFacts, load_model, save_model
from core.models.tokens import ReportTokenizer
from core.models.two_scale import build_asap


class LoadedASAP(NamedTuple):
    """A model ready for inference."""

    model: ASAP
    tokenizer: ReportTokenizer
    facts: dict[str, str]  # free text by name, e.g. spacing_mm, organ classes, training data


def save_asap(
    path: Path,
    model: ASAP,
    tokenizer: ReportTokenizer,
    facts: Mapping[str, str],
    dtype: torch.dtype | None = None,
) -> None:
    """Write one self-contained safetensors file atomically; `dtype` (e.g. float16) shrinks the weights."""
    save_model(path, model, tokenizer, ModelFacts("asap", facts.get("preset", ""), dict(facts)), dtype)


def load_asap(path: Path) -> LoadedASAP:
    """Read what `save_asap` wrote: eval mode, float32, on the CPU; refuses anything that does not fit exactly."""
    loaded = load_model(path, "asap", ASAPConfig, build_asap)
    words, known = loaded.tokenizer.vocab_size, loaded.model.config.text.vocab_size
    if words > known:
        raise CheckpointError(f"{path.name} has a vocabulary of {words} and a text encoder for {known}.")
    return LoadedASAP(loaded.model, loaded.tokenizer, loaded.about.facts)
