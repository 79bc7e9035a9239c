"""What became of each study of a long run: listed, logged at once, and told at the end."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from core.errors import StorageError
from trainers.spread import Done, Lost, report_progress

J = TypeVar("J")

FAILURES = "failures.jsonl"
LISTED = 100
"""Most studies that a printed document lists; failures.jsonl has all."""
PROGRESS_S = 10.0
"""Seconds between two lines of progress."""


class Outcome(NamedTuple):
    """One study."""

    study_id: str
    file: str  # as a person knows it
    reason: str = ""  # why it could not be used; "" = done
    notes: tuple[str, ...] = ()  # what a person should know although it is done


def collect(
    done: Iterable[Done[J, Outcome]], total: int, folder: Path, name_of: Callable[[J], Outcome]
) -> list[Outcome]:
    """Outcomes as they come; failures go to failures.jsonl of `folder` at once, progress to stderr now and then.

    name_of: an item without a result -> its study and file. StorageError where the log cannot be written.
    """
    outcomes: list[Outcome] = []
    failed, began = 0, time.monotonic()
    told, log = began, folder / FAILURES
    _append(log, "", "w")
    for item in done:
        outcome = item.result
        if isinstance(outcome, Lost):
            outcome = name_of(item.item)._replace(reason=outcome.reason)
        outcomes.append(outcome)
        if outcome.reason:
            failed += 1
            _append(log, json.dumps(_describe(outcome)) + "\n")
        if time.monotonic() - told > PROGRESS_S:
            told = time.monotonic()
            report_progress(len(outcomes), failed, total, began)
    return outcomes


def summarise(outcomes: list[Outcome]) -> dict[str, Any]:
    """Counts, failures with reasons and notes, as a command prints them."""
    failed = [one for one in outcomes if one.reason]
    noted = [one for one in outcomes if one.notes and not one.reason]
    return {
        "done": len(outcomes) - len(failed),
        "failed": len(failed),
        "failures": [_describe(one) for one in failed[:LISTED]],
        "notes": [{"study_id": one.study_id, "notes": list(one.notes)} for one in noted[:LISTED]],
    }


def _describe(outcome: Outcome) -> dict[str, str]:
    return {"study_id": outcome.study_id, "file": outcome.file, "reason": outcome.reason}


def _append(log: Path, line: str, mode: str = "a") -> None:
    try:
        with log.open(mode, encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise StorageError(f"{log} cannot be written ({error.strerror}). Free some disk.") from error
