"""One file that is a whole fine-tuned model: weights, config, class names, and how it is shown a CT."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from core.errors import CheckpointError
from core.models.checkpoint import config_from_json, config_to_json, load_strictly, read_weights, save_weights
from core.models.classifier import Classifier, ClassifierConfig
from core.models.unetr import Segmenter3d, SegmenterConfig
from core.tasks.header import FORMAT, Header, parse_header
from core.tasks.view import TaskView


class LoadedTask(NamedTuple):
    """A model ready for inference, in eval mode, float32, on the CPU."""

    model: Classifier | Segmenter3d
    view: TaskView
    about: Header


def save_task(path: Path, model: Classifier | Segmenter3d, view: TaskView, facts: Mapping[str, str]) -> None:
    """Write one self-contained safetensors file atomically."""
    metadata = {
        "format": FORMAT,
        "task": "classification" if isinstance(model, Classifier) else "segmentation",
        "config": config_to_json(model.config),
        "view": config_to_json(view),
        "facts": json.dumps(dict(facts)),
    }
    save_weights(path, model, metadata)


def load_task(path: Path) -> LoadedTask:
    """Read what `save_task` wrote; CheckpointError for anything that does not fit exactly."""
    tensors, metadata = read_weights(path)
    about = parse_header(metadata)
    if about is None or "view" not in metadata:
        raise CheckpointError(
            f"{path.name} has the format {metadata.get('format')!r} or an incomplete description; expected a whole "
            f"file of {FORMAT!r}, as trainers.finetune writes it."
        )
    view = config_from_json(TaskView, metadata["view"])
    with torch.random.fork_rng(devices=[]):  # weights are drawn only to be overwritten
        model = _build(about.task, metadata["config"])
    load_strictly(model, tensors, path.name)
    return LoadedTask(model.eval().requires_grad_(False), view, about)


def _build(task: str, config: str) -> Classifier | Segmenter3d:
    if task == "classification":
        return Classifier(config_from_json(ClassifierConfig, config))
    return Segmenter3d(config_from_json(SegmenterConfig, config))
