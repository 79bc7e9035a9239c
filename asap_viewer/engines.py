"""The engines of this installation: `core`'s registries with the folders that the settings name. No gradio."""

from typing import NamedTuple

from asap_viewer.settings import Settings
from core.anatomy.masks import Segmenter
from core.grounding.engine import GroundingEngine
from core.grounding.registry import list_engines, load_engine


class State(NamedTuple):
    """One engine of either kind, as `engines` lists it."""

    name: str
    task: str  # "grounding" or "organs"
    what: str
    can_run: bool
    lacks: str  # what is missing and how to get it; "" when it can run


def open_segmenter(name: str, settings: Settings, device: str | None = None) -> Segmenter:
    """An organ engine by name, "auto" for the best that can run. EngineError says what is missing."""
    from core.anatomy.engines import choose_segmenter  # the page answers before scipy and its like are imported

    return choose_segmenter(name, settings.organ_places(name, device))


def open_grounder(name: str, settings: Settings, device: str | None = None) -> GroundingEngine:
    """A grounding engine by name, loaded. EngineError says what is missing."""
    return load_engine(name, settings.assets, settings.models, device or settings.device)


def engine_states(settings: Settings) -> list[State]:
    """Every engine this program knows, whether it can run here, and what it lacks."""
    from core.anatomy.engines import list_engines as list_organ_engines

    grounding = [
        State(one.name, "grounding", one.what, one.can_run, one.lacks)
        for one in list_engines(settings.assets, settings.models)
    ]
    organs = [
        State(name, "organs", "organ masks", available.can_run, "" if available.can_run else available.reason)
        for name, available in list_organ_engines(settings.organ_places("embedded")).items()
    ]
    return [*grounding, *organs]
