"""One file that is a whole model of any recipe: weights, config, vocabulary and what is known about the training."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from core.errors import CheckpointError
from core.models.checkpoint import config_from_json, config_to_json, load_strictly, read_weights, save_weights
from core.models.tokens import ReportTokenizer

FORMAT = "asap-viewer/model/1"
"""Written into every file; a reader refuses other formats."""
FIRST_FORMAT = "asap-viewer/asap/1"
"""Of files that were written before there were recipes; they hold an ASAP."""


class ModelFacts(NamedTuple):
    """What a model file says about itself."""

    recipe: str
    preset: str
    facts: dict[str, str]  # free text by name, e.g. spacing_mm, window_hu, organ_map, training data


class LoadedModel(NamedTuple):
    """A model ready for inference."""

    model: Any
    tokenizer: ReportTokenizer
    about: ModelFacts


def save_model(
    path: Path, model: nn.Module, tokenizer: ReportTokenizer, about: ModelFacts, dtype: torch.dtype | None = None
) -> None:
    """Write one self-contained safetensors file atomically; `dtype` (e.g. float16) shrinks the weights.

    `model` has the dataclass it was built from as `config`.
    """
    metadata = {
        "format": FORMAT,
        "recipe": about.recipe,
        "preset": about.preset,
        "config": config_to_json(model.config),
        "tokenizer": tokenizer.to_json(),
        "facts": json.dumps(about.facts),
    }
    save_weights(path, model, metadata, dtype)


def read_about(path: Path) -> ModelFacts:
    """What a model file says about itself, without reading its weights; refuses other files."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return _about(path, file.metadata() or {})
    except FileNotFoundError as error:
        raise CheckpointError(f"No weights at {path}; expected a .safetensors file.") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} is not a readable safetensors file ({error}). Copy it again.") from error


def load_model(path: Path, recipe: str, config_type: type, build: Callable[[Any], nn.Module]) -> LoadedModel:
    """Read what `save_model` wrote for `recipe`: eval mode, float32, on the CPU; refuses what does not fit exactly."""
    tensors, metadata = read_weights(path)
    about = _about(path, metadata)
    if about.recipe != recipe:
        raise CheckpointError(f"{path.name} holds a model of recipe {about.recipe}; expected {recipe}.")
    config: Any = config_from_json(config_type, metadata["config"])
    with torch.random.fork_rng(devices=[]):  # weights are drawn only to be overwritten; leave the caller's draws alone
        model = build(config)
    load_strictly(model, tensors, path.name)
    tokenizer = ReportTokenizer.from_json(metadata["tokenizer"])
    return LoadedModel(model.eval().requires_grad_(False), tokenizer, about)


def _about(path: Path, metadata: Mapping[str, str]) -> ModelFacts:
    kind = metadata.get("format")
    if kind == FIRST_FORMAT:
        facts = json.loads(metadata["facts"])
        return ModelFacts("asap", facts.get("preset", ""), facts)
    if kind != FORMAT:
        raise CheckpointError(
            f"{path.name} has the format {kind!r}; expected {FORMAT!r}, a file written by trainers.pretrain. "
            "Published weights are imported, not opened."
        )
    return ModelFacts(metadata["recipe"], metadata["preset"], json.loads(metadata["facts"]))
