"""Folders with a model: what they hold, told from their headers without torch, and opening them as engines.

A folder holds model.safetensors as trainers.pretrain, trainers.bundle or trainers.import_weights write it; a vocabulary
where the weights carry none; and engine.json where view and calibration are not those of the weights' own facts.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from core.errors import CheckpointError, ConfigError, EngineError
from core.tasks.header import FORMAT as TASK_FORMAT

if TYPE_CHECKING:
    from core.grounding.asap_engine import EngineSpec
    from core.grounding.engine import GroundingEngine
    from core.models.tokens import ReportTokenizer

WEIGHTS, SPEC = "model.safetensors", "engine.json"
VOCABULARIES = ("tokenizer.json", "cxrbert_wordpiece.json", "vocab.txt")
"""As `core.models.tokens` names them, which imports torch."""
LARGEST_HEADER = 100_000_000
RECIPES = ("asap", "fvlm", "visd", "asg", "ecamp")
WITHOUT_TEXT_SPACE = "ecamp"


class FolderState(NamedTuple):
    """What a folder of weights is."""

    recipe: str  # "" = no model of ours
    is_published: bool  # True = imported, not trained here
    lacks: str  # why it is no engine; "" when it is one


def inspect_folder(folder: Path) -> FolderState | None:
    """What lies in a folder, None for one without weights of ours. Reads headers only."""
    path = folder / WEIGHTS
    if not path.is_file():
        return None
    metadata = read_header(path)
    if metadata is not None and metadata.get("format") == TASK_FORMAT:
        return None  # fine-tuned to a task: an engine of another kind, see core.tasks.registry
    if metadata is None or "config" not in metadata:
        return FolderState("", False, f"{path.name} in {folder.name} is no model file of this program.")
    recipe = metadata.get("recipe", "asap")
    is_published = "published:" in metadata.get("facts", "")
    return FolderState(recipe, is_published, _lacking(folder, recipe, metadata))


def read_header(path: Path) -> Mapping[str, str] | None:
    """Text metadata of a safetensors file, None for a file that is none."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            told = json.loads(file.read(length)) if length <= LARGEST_HEADER else None
    except (OSError, ValueError, struct.error):
        return None
    metadata = told.get("__metadata__", {}) if isinstance(told, dict) else None
    return metadata if isinstance(metadata, dict) else None


def _lacking(folder: Path, recipe: str, metadata: Mapping[str, str]) -> str:
    """Why a model of ours is no engine, "" when it is one."""
    has_words = "tokenizer" in metadata or any((folder / name).is_file() for name in VOCABULARIES)
    faults = {
        f"It is of recipe {recipe!r}, which this version does not know; expected one of {', '.join(RECIPES)}.": (
            recipe not in RECIPES
        ),
        "It is of recipe ecamp, which has no space that images and texts share: finding sentences is not defined for "
        "this recipe. Use it with --init of trainers.pretrain.": recipe == WITHOUT_TEXT_SPACE,
        f"Missing in {folder.name}: the vocabulary of its text encoder, as {', '.join(VOCABULARIES[:2])} (ASAP's "
        f"repository, dataset/) or {VOCABULARIES[2]} (BiomedVLP-CXR-BERT-specialized).": not has_words,
        f"Missing in {folder.name}: {SPEC}. Make the folder with trainers.bundle.": (
            "facts" not in metadata and not (folder / SPEC).is_file()
        ),
    }
    return next((fault for fault, is_so in faults.items() if is_so), "")


def open_folder(
    folder: Path, device: str = "cpu", name: str = "", ignore_calibration: bool = False
) -> "GroundingEngine":
    """The engine in a folder, called `name`, or as engine.json or the folder is. EngineError, CheckpointError.

    ignore_calibration: open it without, as to measure a new one where the old is broken.
    """
    from core.models.checkpoint import read_weights

    state = inspect_folder(folder)
    if state is None or state.lacks:
        raise EngineError(state.lacks if state else f"{folder.name} holds no {WEIGHTS}.")
    found = _Found(*read_weights(folder / WEIGHTS), ignore_calibration)
    if state.recipe in ("fvlm", "visd"):
        return _open_organs(folder, name or folder.name, found, device)
    return _open_patches(folder, name, found, device)


class _Found(NamedTuple):
    """What lies in a folder's weights."""

    tensors: Any
    metadata: Mapping[str, str]
    ignores_calibration: bool


def _open_patches(folder: Path, name: str, found: _Found, device: str) -> "GroundingEngine":
    """An engine of recipe asap or asg."""
    from core.grounding.asap_engine import AsapEngine
    from core.grounding.asg_engine import AsgEngine
    from core.grounding.two_scale_engine import TwoScaleEngine, needed_parts
    from core.models.asap_config import ASAPConfig
    from core.models.asg import ASG
    from core.models.asg_config import ASGConfig
    from core.models.assembly import assemble_model
    from core.models.checkpoint import config_from_json
    from core.models.pyramid import CELL
    from core.models.two_scale import build_asap

    tensors, metadata = found.tensors, found.metadata
    title, tokenizer = f"{folder.name}/{WEIGHTS}", _tokenizer(folder, metadata)
    if metadata.get("recipe", "asap") == "asg":
        config = config_from_json(ASGConfig, metadata["config"])
        asg = assemble_model(ASG, config, tensors, ("img_encoder_q.", "text_encoder_q."), title)
        return AsgEngine(asg, tokenizer, _spec(folder, name, found, config.vision.patch_size), device)
    asap_config = config_from_json(ASAPConfig, metadata["config"])
    is_plain = asap_config.pyramid is None
    spec = _spec(folder, name, found, asap_config.vision.patch_size if is_plain else (CELL,) * 3)
    model = assemble_model(build_asap, asap_config, tensors, needed_parts(asap_config), title)
    return (AsapEngine if is_plain else TwoScaleEngine)(model, tokenizer, spec, device)


def _open_organs(folder: Path, name: str, found: _Found, device: str) -> "GroundingEngine":
    """An engine of recipe fvlm or visd."""
    from core.grounding.organ_engine import NormalityEngine, OrganEngine
    from core.models.assembly import assemble_model
    from core.models.checkpoint import config_from_json
    from core.models.fvlm import FVLM
    from core.models.fvlm_config import FVLMConfig
    from core.models.visd import VISD
    from core.models.visd_config import VISDConfig
    from core.organ_map import find_organ_map, organ_map_from_json

    tensors, metadata = found.tensors, found.metadata
    is_fvlm, facts = metadata["recipe"] == "fvlm", json.loads(metadata["facts"])
    config: Any = config_from_json(FVLMConfig if is_fvlm else VISDConfig, metadata["config"])
    model = assemble_model(FVLM if is_fvlm else VISD, config, tensors, ("",), f"{folder.name}/{WEIGHTS}")
    organs = organ_map_from_json(facts["organs"]) if "organs" in facts else find_organ_map(facts["organ_map"])
    if organs.names != config.organs:
        raise CheckpointError(
            f"{folder.name} was trained on {', '.join(config.organs)}, its organ map has {', '.join(organs.names)}."
        )
    spec = _spec(folder, name, found, config.vision.patch_size if is_fvlm else config.patch_size)
    build = OrganEngine if is_fvlm else NormalityEngine
    engine = build(name, model, _tokenizer(folder, metadata), spec.view, organs, device)
    engine.spec = replace(engine.spec, calibration=spec.calibration)
    return engine


def _read_spec(folder: Path, ignores_calibration: bool) -> "EngineSpec":
    """engine.json; CheckpointError for one that is broken, or whose calibration was measured with other weights."""
    from core.grounding.asap_engine import EngineSpec
    from core.models.checkpoint import config_from_json

    mend = f"Fit it with python -m trainers.calibrate --model {folder.name}, or take its calibration out."
    try:
        text = (folder / SPEC).read_text(encoding="utf-8")
        if ignores_calibration:
            text = json.dumps({key: value for key, value in json.loads(text).items() if key != "calibration"})
        spec = config_from_json(EngineSpec, text)
    except (CheckpointError, OSError, ValueError) as error:
        raise CheckpointError(f"{folder.name}/{SPEC} cannot be used: {error} {mend}") from error
    measured = spec.calibration.weights_sha256
    if measured and measured != hash_weights(folder):
        raise CheckpointError(
            f"The calibration in {folder.name}/{SPEC} was measured with other weights than {WEIGHTS} holds: its error "
            f"rates do not hold. {mend}"
        )
    return spec


def hash_weights(folder: Path) -> str:
    """SHA-256 of a folder's weights, as a calibration names them."""
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tokenizer(folder: Path, metadata: Mapping[str, str]) -> "ReportTokenizer":
    from core.models.tokens import ReportTokenizer, find_vocabulary

    beside = find_vocabulary(folder)
    if beside is not None:
        return ReportTokenizer.from_file(beside)
    return ReportTokenizer.from_json(metadata["tokenizer"])


def _spec(folder: Path, name: str, found: _Found, patch: tuple[int, int, int]) -> "EngineSpec":
    """engine.json, or the view that the weights' facts tell with a plain calibration."""
    from core.grounding.asap_engine import EngineSpec
    from core.models.checkpoint import config_from_json

    if (folder / SPEC).is_file():
        spec = _read_spec(folder, found.ignores_calibration)
        return replace(spec, name=name) if name else spec
    facts = json.loads(found.metadata["facts"])
    told = {
        "spacing_mm": json.loads(facts["spacing_mm"]),
        "image_size": json.loads(facts["crop"]),
        "patch_size": list(patch),
        "hu_range": json.loads(facts["window_hu"]),
        "shown_as": json.loads(facts.get("shown_as", "[-1.0, 1.0]")),
        "axes": facts.get("axes", "RAS"),
        "smooth": facts.get("resample", "smooth") == "smooth",
        "clip_late": json.loads(facts.get("clip_late", "true")),
        "padding": facts.get("padding", "air"),
    }
    if "organ_margin" in facts:
        margin = zip(json.loads(facts["organ_margin"]), told["spacing_mm"], strict=True)
        told["organ_margin_mm"] = [voxels * mm for voxels, mm in margin]
    try:
        return config_from_json(EngineSpec, json.dumps({"name": name or folder.name, "view": told}))
    except ConfigError as error:
        raise CheckpointError(f"{folder.name} was trained on an impossible view ({error}).") from error
