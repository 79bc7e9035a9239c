"""Fine-tuned models in the models folder, MODELS/NAME/model.safetensors; torch is loaded with a model only."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core.errors import EngineError
from core.tasks.header import FILE, describe, read_header

if TYPE_CHECKING:
    from core.tasks.classifying import TaskClassifier
    from core.tasks.segmenting import TaskSegmenter

INSTALL = "MONAI is not installed: pip install -r requirements-finetune.txt"


class TaskEngine(NamedTuple):
    """One fine-tuned model as a person chooses it."""

    name: str  # of its folder
    task: str  # "classification" or "segmentation"
    what: str
    can_run: bool
    lacks: str  # "" when it can run


def list_tasks(models: Path) -> list[TaskEngine]:
    """Every fine-tuned model whose folder lies in `models`, by name."""
    found = []
    for folder in sorted(models.glob("*")):
        header = read_header(folder / FILE)
        if header is not None:
            lacks = INSTALL if header.task == "segmentation" and importlib.util.find_spec("monai") is None else ""
            found.append(TaskEngine(folder.name, header.task, describe(header), not lacks, lacks))
    return found


def find_task(name: str, task: str, models: Path) -> TaskEngine | None:
    """The model called `name` for a task, None when no such folder holds one."""
    return next((one for one in list_tasks(models) if (one.name, one.task) == (name, task)), None)


def open_classifier(name: str, models: Path, device: str = "cpu") -> "TaskClassifier":
    """Load a classifier; EngineError says what is missing."""
    _require(name, "classification", models)
    from core.tasks.classifying import TaskClassifier
    from core.tasks.task_file import load_task

    return TaskClassifier(name, load_task(models / name / FILE), device)


def open_task_segmenter(name: str, models: Path, device: str = "cpu") -> "TaskSegmenter":
    """Load a segmenter; EngineError says what is missing."""
    _require(name, "segmentation", models)
    from core.tasks.segmenting import TaskSegmenter
    from core.tasks.task_file import load_task

    return TaskSegmenter(name, load_task(models / name / FILE), device)


def _require(name: str, task: str, models: Path) -> None:
    found = find_task(name, task, models)
    if found is None:
        known = ", ".join(one.name for one in list_tasks(models) if one.task == task) or "none"
        raise EngineError(f"There is no fine-tuned model for {task} called {name!r} in {models.name}; found: {known}.")
    if not found.can_run:
        raise EngineError(f"The fine-tuned model {name!r} cannot run here. {found.lacks}.")
