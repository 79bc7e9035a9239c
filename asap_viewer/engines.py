"""The engines of this installation: `core`'s registries with the folders that the settings name. No gradio."""

from typing import TYPE_CHECKING, NamedTuple

from asap_viewer.settings import Settings
from core.anatomy.masks import Segmenter
from core.grounding.engine import GroundingEngine
from core.grounding.registry import choose_device, list_engines, load_engine
from core.tasks.registry import find_task, list_tasks, open_task_segmenter
from core.tasks.registry import open_classifier as load_classifier

if TYPE_CHECKING:
    from core.tasks.classifying import TaskClassifier

TASK_NAMES = {"classification": "findings", "segmentation": "organs"}
"""What a fine-tuned model is for -> how `engines` calls it."""


class State(NamedTuple):
    """One engine of any kind, as `engines` lists it."""

    name: str
    task: str  # "grounding", "organs", or "findings" for a fine-tuned classifier
    what: str
    can_run: bool
    lacks: str  # what is missing and how to get it; "" when it can run


def open_segmenter(name: str, settings: Settings, device: str | None = None) -> Segmenter:
    """An organ engine by name, "auto" for the best that can run. EngineError says what is missing."""
    if find_task(name, "segmentation", settings.models) is not None:
        return open_task_segmenter(name, settings.models, choose_device(device or settings.device))
    from core.anatomy.engines import choose_segmenter  # the page answers before scipy and its like are imported

    return choose_segmenter(name, settings.organ_places(name, device))


def open_grounder(name: str, settings: Settings, device: str | None = None) -> GroundingEngine:
    """A grounding engine by name, loaded. EngineError says what is missing."""
    return load_engine(name, settings.assets, settings.models, device or settings.device)


def is_classifier(name: str, settings: Settings) -> bool:
    """Whether an engine is a fine-tuned classifier, which has labels of its own and reads no sentences."""
    return find_task(name, "classification", settings.models) is not None


def open_classifier(name: str, settings: Settings, device: str | None = None) -> "TaskClassifier":
    """A fine-tuned classifier by name, loaded. EngineError says what is missing."""
    return load_classifier(name, settings.models, choose_device(device or settings.device))


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
    tuned = [
        State(one.name, TASK_NAMES[one.task], one.what, one.can_run, one.lacks) for one in list_tasks(settings.models)
    ]
    return [*grounding, *organs, *tuned]
