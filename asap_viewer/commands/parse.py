"""`parse REPORT.txt`: what a report says."""

import argparse
from pathlib import Path
from typing import Any

from asap_viewer.commands.inputs import read_text
from asap_viewer.settings import Settings
from core.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `parse`."""
    parser.add_argument("report", metavar="REPORT.txt", type=Path, help="the report as plain text")


def run(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:  # noqa: ARG001
    """Sentences with their findings, and the 18 labels, as JSON."""
    from core.report.parse import parse_report, report_to_json

    return report_to_json(parse_report(read_text(arguments.report)))
