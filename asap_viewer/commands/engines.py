"""`engines`: which engines exist, which can run here, what the others lack and how to get it."""

import argparse
from typing import Any

from asap_viewer.engines import engine_states
from asap_viewer.settings import Settings
from core.progress import Progress


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """`engines` takes no arguments."""


def run(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:  # noqa: ARG001
    """Engines that find sentences, engines that find organs, and classifiers."""
    states = [state._asdict() for state in engine_states(settings)]
    return {"engines": states, "models_folder": str(settings.models)}
