"""`ask CT "QUESTION"`: an answer with its evidence, or "I can't tell"."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asap_viewer.commands.inputs import (
    DEFAULT_ENGINE,
    add_ct,
    add_device,
    add_masks,
    find_masks,
    open_ct,
    read_text,
)
from asap_viewer.engines import open_grounder
from asap_viewer.settings import Settings
from core.progress import Progress, part_of

if TYPE_CHECKING:
    from core.grounding.engine import GroundingEngine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `ask`."""
    add_ct(parser)
    parser.add_argument("question", metavar="QUESTION", help='such as "Where is the nodule?"')
    parser.add_argument("--report", metavar="REPORT.txt", type=Path, help="the report that belongs to the CT")
    parser.add_argument("--engine", metavar="NAME", help=f"grounding engine (default {DEFAULT_ENGINE})")
    add_device(parser)
    add_masks(parser)


def run(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Answer from the report, the organ masks and the heat map."""
    from asap_viewer.workflow import ask_case, read_report
    from core.vqa.evidence import describe_answer
    from core.vqa.question import parse_question

    parse_question(arguments.question)  # refused before any work is done
    text = None if arguments.report is None else read_text(arguments.report)
    engine = None if arguments.engine is None else open_grounder(arguments.engine, settings, arguments.device)
    case = open_ct(arguments.ct, settings, part_of(progress, 0.0, 0.2), arguments.hu_fix)
    if text is not None:
        read_report(case, text)
    find_masks(case, arguments.masks, settings, part_of(progress, 0.2, 0.6))

    def engine_when_needed() -> "GroundingEngine":
        return engine or open_grounder(DEFAULT_ENGINE, settings, arguments.device)

    answer = ask_case(case, engine_when_needed, arguments.question, part_of(progress, 0.6, 1.0))
    made_by = {"masks": case.masks.engine if case.masks else None}
    return {**describe_answer(answer), **made_by, "warnings": list(case.study.receipt.warnings)}
