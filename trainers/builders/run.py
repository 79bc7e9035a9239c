"""Over a whole table of reports: in parallel, going on where an earlier run stopped, never stopped by one bad row."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple

from core.errors import ConfigError, EngineError, ReportError
from core.retrieval.table import ReportRow, read_table
from trainers.builders.files import study_name
from trainers.builders.journal import Entry, Journal

Build = Callable[[ReportRow], Entry]
"""One report -> its part of the output; ReportError when the report cannot be used."""

FEW_REPORTS = 400
"""Fewer are read before other processes have started."""
HOPELESS = 20
"""When the first so many reports all fail, the fault is not theirs."""
SAY_EVERY_S = 10.0


class Workers(NamedTuple):
    """Who does the work."""

    kind: Literal["processes", "threads"]
    number: int


class Problem(NamedTuple):
    """A report that failed, or a part of it."""

    study_id: str
    reason: str


class Outcome(NamedTuple):
    """What came of a table."""

    values: dict[str, Any]  # study -> plain JSON, in the order of the table
    problems: list[Problem]
    reused: int  # reports that an earlier run had finished


def read_reports(path: Path) -> tuple[list[ReportRow], list[Problem]]:
    """Usable rows of a report table, and why the others are not."""
    table = read_table(path)
    rows: dict[str, ReportRow] = {}
    problems = [Problem(row.study_id, f"line {row.line}: {row.reason}") for row in table.skipped]
    for row in table.rows:
        name = study_name(row.study_id, path.name)
        if name in rows:
            problems.append(Problem(row.study_id, "its name is already used, with or without .nii.gz"))
        rows.setdefault(name, row)
    if not rows:
        raise ConfigError(f"{path} has no report that can be used ({len(problems)} rows were left out).")
    return list(rows.values()), problems


def build_all(rows: Sequence[ReportRow], build: Build, journal: Journal, workers: Workers) -> Outcome:
    """Build every row; raises EngineError or ConfigError where nothing more can be done, keeping what was."""
    entries = {row.study_id: entry for row in rows if (entry := journal.find(row)) is not None}
    reused, todo = len(entries), [row for row in rows if row.study_id not in entries]
    with journal:
        progress = _Progress(len(rows), reused)
        for row, entry in zip(todo, _results(todo, build, workers), strict=True):
            journal.add(row, entry)
            entries[row.study_id] = entry
            progress.step()
            if progress.done - reused == HOPELESS:
                _refuse_hopeless(entries)
    failed = [Problem(row.study_id, reason) for row in rows for reason in entries[row.study_id].problems]
    values = {study_name(row.study_id, "reports"): entries[row.study_id].value for row in rows}
    return Outcome({study: value for study, value in values.items() if value is not None}, failed, reused)


def _results(rows: list[ReportRow], build: Build, workers: Workers) -> Iterator[Entry]:
    """Entries in the order of the rows."""
    attempt = partial(_attempt, build)
    is_small = workers.kind == "processes" and len(rows) < FEW_REPORTS
    if workers.number == 1 or is_small:
        yield from map(attempt, rows)
        return
    pool = _pool(workers)
    try:
        yield from pool.map(attempt, rows, chunksize=32)
    except BrokenProcessPool as error:
        raise EngineError(
            "A worker process was killed (out of memory?). Run the same command again to go on, with --workers 1."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(workers: Workers) -> Executor:
    if workers.kind == "threads":
        return ThreadPoolExecutor(workers.number)
    return ProcessPoolExecutor(workers.number, mp_context=get_context("spawn"))


def _attempt(build: Build, row: ReportRow) -> Entry:
    try:
        return build(row)
    except ReportError as error:
        return Entry(None, [" ".join(str(error).split())])


def _refuse_hopeless(entries: Mapping[str, Entry]) -> None:
    if all(entry.value is None for entry in entries.values()):
        reason = next(iter(entries.values())).problems[0]
        raise ConfigError(f"The first {len(entries)} reports all failed; the first: {reason}")


class _Progress:
    """Says on stderr now and then how far the work is."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.first = total, done, done
        self.start = self.said = time.monotonic()

    def step(self) -> None:
        self.done += 1
        now = time.monotonic()
        if now - self.said >= SAY_EVERY_S:
            left_s = (now - self.start) / (self.done - self.first) * (self.total - self.done)
            sys.stderr.write(f"{self.done} of {self.total} reports, about {left_s / 60:.1f} min left\n")
            self.said = now
