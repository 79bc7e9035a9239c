"""`engines`: which engines exist, which can run here, what the others lack and how to get it."""

import argparse
from typing import Any

from asap_viewer.settings import Settings
from core.progress import Progress


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """`engines` takes no arguments."""


def run(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:  # noqa: ARG001
    """Engines that find sentences, and engines that find organs."""
    from core.anatomy.engines import list_engines as list_organ_engines
    from core.grounding.registry import list_engines

    grounding = [state._asdict() for state in list_engines(settings.assets, settings.models)]
    organs = [
        {"name": name, "can_run": state.can_run, "lacks": state.reason}
        for name, state in list_organ_engines(settings.organ_places("embedded")).items()
    ]
    return {"grounding": grounding, "organs": organs, "models_folder": str(settings.models)}
