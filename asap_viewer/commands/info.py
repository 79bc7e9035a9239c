"""`info CT`: what a CT is."""

import argparse
from typing import Any

from asap_viewer.commands.inputs import add_ct, open_ct
from asap_viewer.settings import Settings
from core.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `info`."""
    add_ct(parser)


def run(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    """The receipt of an opened CT as JSON."""
    from core.reading.study import study_info

    return study_info(open_ct(arguments.ct, settings, progress, arguments.hu_fix).study)
