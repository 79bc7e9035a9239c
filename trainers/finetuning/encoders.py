"""Encoders to start from: runs of trainers.pretrain, published weights, and models that were fine-tuned before."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from core.errors import CheckpointError, ConfigError
from core.grounding.asap_engine import EngineSpec
from core.grounding.model_folder import SPEC
from core.models.backbone import Backbone, BackboneConfig, find_encoder
from core.models.checkpoint import config_from_json, load_strictly, read_weights
from core.models.imports import fit_weights, read_source
from core.models.model_file import FIRST_FORMAT, read_about
from core.models.model_file import FORMAT as RUN_FORMAT
from core.models.published_models import PUBLISHED_MODELS
from core.tasks.header import FORMAT as TASK_FORMAT
from core.tasks.header import read_metadata
from core.tasks.task_file import load_task
from core.tasks.view import TaskView
from trainers.recipes import find_recipe
from trainers.run_files import MODEL


class StartEncoder(NamedTuple):
    """An encoder that is about to be fine-tuned."""

    config: BackboneConfig
    weights: dict[str, Tensor]  # of `Backbone`
    view: TaskView  # as it was pre-trained
    name: str  # who it is, for people
    sha256: str  # of its sizes and weights
    notes: tuple[str, ...] = ()  # what a reader of results must know

    def build(self) -> Backbone:
        """The encoder with its weights."""
        backbone = Backbone(self.config)
        load_strictly(backbone, self.weights, self.name)
        return backbone


def open_encoder(path: Path) -> StartEncoder:
    """The encoder of a run's folder, of a file of this program, or of published weights.

    Raises CheckpointError for files that are none of these or lack part of the encoder.
    """
    file = path / MODEL if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(
            f"No weights at {file}; expected a run of trainers.pretrain (its {MODEL}), or a published file."
        )
    kind = read_metadata(file).get("format") if file.suffix == ".safetensors" else None
    if kind == TASK_FORMAT:
        return _from_task(file)
    if kind in (RUN_FORMAT, FIRST_FORMAT):
        return _from_run(file)
    return _from_published(path)


def _from_task(file: Path) -> StartEncoder:
    loaded = load_task(file)
    weights = dict(loaded.model.backbone.state_dict())
    name = f"{loaded.about.facts.get('encoder', 'an encoder')}, fine-tuned for {loaded.about.task}"
    return _start(loaded.model.config.backbone, weights, loaded.view, name)


def _from_run(file: Path) -> StartEncoder:
    about = read_about(file)
    recipe = find_recipe(about.recipe)
    tensors, metadata = read_weights(file)
    with torch.device("meta"):
        model = recipe.build(config_from_json(recipe.config_type, metadata["config"]))
    name = f"{about.recipe} {about.preset}".strip()
    return _take(model, tensors, _engine_facts(file.parent) | about.facts, name)


def _from_published(path: Path) -> StartEncoder:
    found = read_source([path])
    published = PUBLISHED_MODELS.get(found.source.name)
    if published is None:
        raise CheckpointError(f"{path.name} holds {found.source.name}, whose sizes are not known here. Give its run.")
    with torch.device("meta"):
        model = published.build(published.config())
    fitted = fit_weights(found, model, published.recipe, published.needed)
    return _take(model, fitted.weights, published.facts, f"published {found.source.name}")


def _take(model: nn.Module, tensors: Mapping[str, Tensor], facts: Mapping[str, str], name: str) -> StartEncoder:
    """The encoder's part of a model's weights; what is computed anew may be missing from them."""
    start, config = find_encoder(model)
    if facts.get("axes", "RAS") == "LPS":
        config = replace(config, reversed_axes=(0, 1))
    empty = Backbone(config)
    weights = {}
    for key, value in empty.state_dict().items():
        given = tensors.get(start + key.removeprefix("encoder."))
        is_computed = config.vit is not None and not config.vit.learned_positions and key.endswith("pos_embed")
        if given is None and not is_computed:
            raise CheckpointError(
                f"The file of {name} lacks {key} of the encoder. Fine-tuning needs all of it: give the whole file, or "
                "pre-train from these weights first (trainers.pretrain --init)."
            )
        weights[key] = value if given is None else given.float()
    taken = _start(config, weights, view_of(config, facts), name)
    if "spacing_mm" in facts:
        return taken
    return taken._replace(notes=(f"{name} does not tell how CTs were shown to it; ASAP's way is taken.",))


def _engine_facts(folder: Path) -> dict[str, str]:
    """What engine.json of a model folder tells of the view, as model files tell it."""
    if not (folder / SPEC).is_file():
        return {}
    view = config_from_json(EngineSpec, (folder / SPEC).read_text(encoding="utf-8")).view
    told: dict[str, Any] = {"spacing_mm": view.spacing_mm, "window_hu": view.hu_range, "shown_as": view.shown_as}
    told["clip_late"] = view.clip_late
    facts = {name: json.dumps(value) for name, value in told.items()} | {"axes": view.axes, "padding": view.padding}
    return facts | {"resample": "smooth" if view.smooth else "as_released"}


def view_of(config: BackboneConfig, facts: Mapping[str, str]) -> TaskView:
    """How the encoder was shown CTs in pre-training, as its file tells."""
    told = {name: json.loads(facts[name]) for name in ("spacing_mm", "window_hu", "shown_as") if name in facts}
    tuples = {name: tuple(value) for name, value in told.items() if isinstance(value, list)}
    how: Literal["smooth", "as_released"] = "as_released" if facts.get("resample") == "as_released" else "smooth"
    late, padding = json.loads(facts.get("clip_late", "false")), facts.get("padding", "mirror")
    filled: Literal["mirror", "air"] = "air" if padding == "air" else "mirror"
    return TaskView(size=config.image_size, resample=how, clip_late=late, padding=filled, **tuples)


def without_training(start: StartEncoder, seed: int) -> StartEncoder:
    """The same encoder with weights as they are before any training, to compare with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = Backbone(start.config).state_dict()
    return _start(start.config, dict(weights), start.view, f"{start.name}, weights drawn anew")


def require_window(view: TaskView, config: BackboneConfig) -> None:
    """Refuse a box that is no whole number of patches."""
    if any(n % p for n, p in zip(view.size, config.patch_size, strict=True)):
        raise ConfigError(f"The box has {view.size} voxels; expected multiples of the patch {config.patch_size}.")


def _start(config: BackboneConfig, weights: dict[str, Tensor], view: TaskView, name: str) -> StartEncoder:
    digest = hashlib.sha256(repr(config).encode())
    for key in sorted(weights):
        digest.update(key.encode() + b"\0")
        digest.update(weights[key].contiguous().float().numpy().tobytes())
    return StartEncoder(config, weights, view, name, digest.hexdigest())
