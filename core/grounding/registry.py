"""Which grounding engines exist, which can run here, what the others lack. Imports no torch until one is loaded."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

from core.errors import EngineError
from core.grounding.engine import GroundingEngine

BUNDLED = "bundled"
MODEL_FILES = ("model.safetensors", "tokenizer.json", "engine.json")
PUBLISHED_FILES = ("ASAP.pth", "cxrbert_wordpiece.json")


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
    known = [_bundled_state(assets), _published_state(models), *_later_states()]
    names = {state.name for state in known}
    own = [
        EngineState(folder.name, "a model trained with trainers.pretrain", True, "")
        for folder in sorted(models.glob("*"))
        if folder.name not in names and all((folder / name).is_file() for name in MODEL_FILES)
    ]
    return [*known, *own]


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
    from core.grounding.asap_engine import open_model_folder, open_published

    place = choose_device(device)
    if name == "asap":
        return open_published(weights_folder(name, assets, models), place)
    return open_model_folder(weights_folder(name, assets, models), place)


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


def _missing(folder: Path, files: tuple[str, ...]) -> list[str]:
    return [name for name in files if not (folder / name).is_file()]


def _bundled_state(assets: Path) -> EngineState:
    missing = _missing(assets / "models" / BUNDLED, MODEL_FILES)
    lacks = f"Missing in assets/models/{BUNDLED}: {', '.join(missing)}. Clone the project again." if missing else ""
    return EngineState(BUNDLED, "small ASAP trained here on synthetic findings; a demonstration", not missing, lacks)


def _published_state(models: Path) -> EngineState:
    missing = _missing(models / "asap", PUBLISHED_FILES)
    lacks = (
        f"Missing in {models.name}/asap: {', '.join(missing)}. ASAP.pth: request it from its authors (README of "
        "ToniChopp/ASAP; the full pre-training file, not the encoder alone). cxrbert_wordpiece.json: the tokenizers "
        "file of the same repository (dataset/)."
    )
    return EngineState("asap", "published ViT-B of ASAP (arXiv 2606.00602)", not missing, lacks if missing else "")


def _later_states() -> list[EngineState]:
    """Engines the project means to run and does not yet; said so rather than hidden."""
    not_yet = "This version cannot run it yet."
    package = "" if importlib.util.find_spec("colipri") else " Its package is not installed (requirements-colipri.txt)."
    return [
        EngineState("fvlm", "published fVLM", False, not_yet),
        EngineState("visd", "published ViSD-Boost", False, not_yet),
        EngineState("colipri", "Microsoft's COLIPRI", False, not_yet + package),
    ]
