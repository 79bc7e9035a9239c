"""Which grounding engines exist, which can run here, what the others lack. Imports no torch until one is loaded."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

from core.errors import EngineError
from core.grounding.engine import GroundingEngine
from core.grounding.model_folder import VOCABULARIES, WEIGHTS, inspect_folder, open_folder

BUNDLED = "bundled"
RAW = "ASAP.pth"
"""The one published file that also opens as it is."""
COLIPRI_FILES = ("model.safetensors",)
COLIPRI_PACKAGES = ("colipri", "torchio")
WORDS = "tokenizer.json, cxrbert_wordpiece.json or vocab.txt"
GET_WORDS = (
    f"CXR-BERT's vocabulary, as {WORDS}: the first two are files of the tokenizers library, such as dataset/ of the "
    "repository ToniChopp/ASAP has; vocab.txt is in Microsoft's BiomedVLP-CXR-BERT-specialized"
)


class Publication(NamedTuple):
    """Published weights that are an engine once they are imported."""

    what: str
    files: str  # which files, and where their authors say to get them
    command: str  # what follows --source


PUBLISHED: dict[str, Publication] = {
    "asap": Publication(
        "published ViT-B of ASAP (arXiv 2606.00602)",
        "ASAP.pth, the full pre-training file and not the encoder alone: request it from its authors (README of "
        "ToniChopp/ASAP)",
        "asap ASAP.pth",
    ),
    "fvlm": Publication(
        "published fVLM (arXiv 2501.14548): lung, heart, esophagus and aorta against sentences; needs organ masks",
        "the CT-RATE checkpoint (.pth) of alibaba-damo-academy/fvlm",
        "fvlm CHECKPOINT.pth",
    ),
    "visd": Publication(
        "published ViSD-Boost (arXiv 2508.03742): the same four organs; needs organ masks",
        "checkpoint_vqvae.pth and checkpoint.pth of alibaba-damo-academy/ViSD-Boost",
        "visd checkpoint_vqvae.pth checkpoint.pth",
    ),
}


class EngineState(NamedTuple):
    """One engine as a person chooses it."""

    name: str
    what: str
    can_run: bool
    lacks: str  # what is missing and how to get it; "" when it can run


def list_engines(assets: Path, models: Path) -> list[EngineState]:
    """Every engine this program knows, then those whose folders lie in `models`; the bundled one first.

    assets: folder with models/bundled. models: where people put weights, one folder per engine.
    """
    known = [_bundled_state(assets), *(_published_state(name, models) for name in PUBLISHED), _colipri_state(models)]
    names = {state.name for state in known}
    folders = [folder for folder in sorted(models.glob("*")) if folder.name not in names and folder.is_dir()]
    return [*known, *(state for state in map(_own_state, folders) if state is not None)]


def runnable_engines(assets: Path, models: Path) -> list[str]:
    """Names of the engines that can run here, the bundled one first."""
    return [state.name for state in list_engines(assets, models) if state.can_run]


def load_engine(name: str, assets: Path, models: Path, device: str = "auto") -> GroundingEngine:
    """Load an engine by name; "auto" takes the first that can run. EngineError says what is missing."""
    states = {state.name: state for state in list_engines(assets, models)}
    if name == "auto":
        name = next((state.name for state in states.values() if state.can_run), BUNDLED)
    if name not in states:
        raise EngineError(f"There is no engine {name!r}. Expected one of: auto, {', '.join(states)}.")
    if not states[name].can_run:
        raise EngineError(f"The engine {name!r} cannot run here. {states[name].lacks}")
    place, folder = choose_device(device), weights_folder(name, assets, models)
    if name == "colipri":
        from core.grounding.colipri_engine import open_colipri

        return open_colipri(folder, place)
    if (folder / WEIGHTS).is_file():
        return open_folder(folder, place, name)
    from core.grounding.asap_engine import open_published

    return open_published(folder, _vocabulary(folder), place)


def normality_engines(assets: Path, models: Path) -> list[str]:
    """Names of the engines that can run here and tell how far organs are from normal (`NormalityJudge`)."""
    states = {name: inspect_folder(weights_folder(name, assets, models)) for name in runnable_engines(assets, models)}
    return [name for name, state in states.items() if state is not None and state.recipe == "visd"]


def weights_folder(name: str, assets: Path, models: Path) -> Path:
    """Where the files of an engine lie."""
    return assets / "models" / BUNDLED if name == BUNDLED else models / name


def choose_device(wish: str) -> str:
    """ "auto", "cpu" or "cuda" -> where to run; EngineError when a GPU is asked for and none is there."""
    import torch

    if wish not in ("auto", "cpu", "cuda"):
        raise EngineError(f"The device is {wish!r}; expected auto, cpu or cuda.")
    if wish == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            "No CUDA device is usable here. Use --device cpu, or install torch's CUDA build and a driver."
        )
    return "cuda" if wish != "cpu" and torch.cuda.is_available() else "cpu"


def _vocabulary(folder: Path) -> Path:
    """The vocabulary in a folder that has one."""
    return next(folder / name for name in VOCABULARIES if (folder / name).is_file())


def _has_vocabulary(folder: Path) -> bool:
    return any((folder / name).is_file() for name in VOCABULARIES)


def _bundled_state(assets: Path) -> EngineState:
    folder = assets / "models" / BUNDLED
    state = inspect_folder(folder)
    reason = state.lacks if state else f"Missing in assets/models/{BUNDLED}: {WEIGHTS}."
    lacks = f"{reason} Clone the project again." if reason else ""
    return EngineState(BUNDLED, "small ASAP trained here on synthetic findings; a demonstration", not lacks, lacks)


def _published_state(name: str, models: Path) -> EngineState:
    """One of `PUBLISHED`: converted, raw where that opens too, or what to get and which command converts it."""
    told, folder = PUBLISHED[name], models / name
    state = inspect_folder(folder)
    if state is not None:
        what = told.what if state.is_published else f"a model of recipe {state.recipe}, trained with trainers.pretrain"
        return EngineState(name, what, not state.lacks, state.lacks)
    is_raw = name == "asap" and (folder / RAW).is_file()
    if is_raw and _has_vocabulary(folder):
        return EngineState(name, told.what, True, "")
    missing = [] if is_raw else [told.files]
    missing += [] if _has_vocabulary(folder) else [GET_WORDS]
    lacks = (
        f"Missing in {models.name}/{name}: {'; and '.join(missing)}. Then convert once: python -m "
        f"trainers.import_weights --source {told.command} --tokenizer VOCABULARY --out {models.name}/{name}"
    )
    return EngineState(name, told.what, False, lacks)


def _own_state(folder: Path) -> EngineState | None:
    """A folder with a model of ours; None for any other folder."""
    state = inspect_folder(folder)
    if state is None:
        return None
    made = "imported weights" if state.is_published else "a model trained with trainers.pretrain"
    what = f"{made}, recipe {state.recipe}" if state.recipe else "a file of weights"
    return EngineState(folder.name, what, not state.lacks, state.lacks)


def _colipri_state(models: Path) -> EngineState:
    folder = models / "colipri"
    absent = [name for name in COLIPRI_PACKAGES if importlib.util.find_spec(name) is None]
    lacks = [f"Not installed: {' and '.join(absent)} (pip install -r requirements-colipri.txt)."] if absent else []
    missing = [name for name in COLIPRI_FILES if not (folder / name).is_file()]
    if missing:
        lacks.append(f"Missing in {models.name}/colipri: model.safetensors of Microsoft's colipri (MIT), as it is.")
    if not _has_vocabulary(folder):
        lacks.append(f"Missing in {models.name}/colipri: {GET_WORDS}.")
    return EngineState("colipri", "Microsoft's COLIPRI (arXiv 2510.15042, MIT)", not lacks, " ".join(lacks))
