"""One file that is a whole ASAP: weights, config, vocabulary and what is known about their training."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from core.errors import CheckpointError
from core.models.asap import ASAP
from core.models.asap_config import ASAPConfig
from core.models.checkpoint import config_from_json, config_to_json, load_strictly, read_weights, save_weights
from core.models.tokens import ReportTokenizer

FORMAT = "asap-viewer/asap/1"
"""Written into every file; a reader refuses other formats."""


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
    metadata = {
        "format": FORMAT,
        "config": config_to_json(model.config),
        "tokenizer": tokenizer.to_json(),
        "facts": json.dumps(dict(facts)),
    }
    save_weights(path, model, metadata, dtype)


def load_asap(path: Path) -> LoadedASAP:
    """Read what `save_asap` wrote: eval mode, float32, on the CPU; refuses anything that does not fit exactly."""
    tensors, metadata = read_weights(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path.name} has the format {metadata.get('format')!r}; expected {FORMAT!r}, a file written by "
            "trainers.pretrain. Published weights are imported, not opened."
        )
    config = config_from_json(ASAPConfig, metadata["config"])
    with torch.random.fork_rng(devices=[]):  # weights are drawn only to be overwritten; leave the caller's draws alone
        model = ASAP(config)
    load_strictly(model, tensors, path.name)
    tokenizer = ReportTokenizer.from_json(metadata["tokenizer"])
    if tokenizer.vocab_size > config.text.vocab_size:
        raise CheckpointError(
            f"{path.name} has a vocabulary of {tokenizer.vocab_size} and a text encoder for {config.text.vocab_size}."
        )
    return LoadedASAP(model.eval().requires_grad_(False), tokenizer, json.loads(metadata["facts"]))
