"""Judging many cases: one after the other, none stopped by another, what is finished kept as it comes."""

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.anatomy.masks import OrganMasks
from core.errors import AsapError, ConfigError, StorageError
from core.folder import replace_file
from core.grounding.engine import GroundingEngine
from core.volume import Volume
from trainers.grounding.cases import Case, Problem
from trainers.grounding.figures import summarise, summarise_presence
from trainers.grounding.heat_files import write_heat
from trainers.grounding.journal import JOURNAL, CaseResult, Journal, is_evaluation
from trainers.grounding.judging import Answer, JudgeConfig, Seen, SentenceRow, judge_case
from trainers.grounding.tables import answers_csv, describe, sentences_csv, write_summary
from trainers.grounding.worst import WorstPictures
from trainers.metrics.intervals import IntervalConfig

METRICS, SENTENCES, ANSWERS, SUMMARY = "metrics.json", "sentences.csv", "presence.csv", "summary.md"
PICTURES, HEAT = "pictures", "heat"
FORMAT, FORMAT_VERSION = "asap-grounding-metrics", 1
Segment = Callable[[Volume], OrganMasks]


@dataclass(frozen=True)
class OutputConfig:
    """What an evaluation leaves behind."""

    out: Path
    """Folder; new, empty, or of an earlier evaluation, which is replaced."""
    pictures: int = 12
    """Pictures of the worst sentences."""
    save_heat: bool = False
    """Heat of every sentence as NIfTI too."""
    resume: bool = False
    """Go on with the unfinished evaluation in the folder."""
    interval: IntervalConfig = field(default_factory=IntervalConfig)
    """Intervals of the figures."""


class Evaluation:
    """One engine over many cases."""

    def __init__(
        self, engine: GroundingEngine, judge: JudgeConfig, output: OutputConfig, settings: str, segment: Segment | None
    ) -> None:
        """settings: everything the results depend on. segment: makes organ masks for CTs that bring none.

        Raises ConfigError where the folder holds something else.
        """
        prepare_folder(output.out, output.resume)
        self._engine, self._judge, self._output, self._segment = engine, judge, output, segment
        self._journal = Journal(output.out, settings, output.resume)
        self._worst = WorstPictures(output.out / PICTURES, output.pictures)
        self._results: list[CaseResult] = []

    def run(self, cases: Iterable[Case], progress: Callable[[str], None]) -> None:
        """Judge every case; a case that fails is noted with the reason. `progress` is told one line a case."""
        for number, case in enumerate(cases, start=1):
            start, known = time.perf_counter(), self._journal.find(case)
            result = self._recall(known) if known is not None else self._try(case)
            self._results.append(result)
            lines = [f"{number}. {case.name}: {len(result.rows)} sentences, {time.perf_counter() - start:.1f} s"]
            for line in (*lines, *(f"   left out: {describe(one)}" for one in result.problems)):
                progress(line)

    def _recall(self, result: CaseResult) -> CaseResult:
        for name, row in zip(result.pictures, result.rows, strict=True):
            self._worst.keep(name, row)
        return result

    def _try(self, case: Case) -> CaseResult:
        try:
            result = self._judge_case(case)
        except StorageError:
            raise
        except AsapError as error:
            return CaseResult((), (), (Problem(case.name, "", str(error)),), ())
        self._journal.add(case, result)
        return result

    def _judge_case(self, case: Case) -> CaseResult:
        opened = case.open()
        if opened.masks is None and self._segment is not None:
            opened = opened.with_masks(self._segment(opened.volume))
        judged = judge_case(self._engine, case, opened, self._judge)
        names = [f"{_file_stem(case.name)}_{number:02d}" for number in range(1, len(judged.seen) + 1)]
        for name, seen in zip(names, judged.seen, strict=True):
            self._keep_files(name, seen)
        rows, pictures = tuple(seen.row for seen in judged.seen), tuple(f"{name}.png" for name in names)
        return CaseResult(rows, judged.answers, judged.problems, judged.warnings, pictures)

    def _keep_files(self, name: str, seen: Seen) -> None:
        try:
            self._worst.offer(f"{name}.png", seen)
            if self._output.save_heat:
                write_heat(self._output.out / HEAT, name, seen, self._judge.threshold)
        except OSError as error:
            raise StorageError(f"Pictures or heat cannot be written ({error.strerror}). Is the disk full?") from error

    def finish(self, problems: Sequence[Problem], facts: dict[str, Any]) -> dict[str, Any]:
        """Write all results and return what stands in metrics.json; `problems` were found before, `facts` stand first.

        Raises ConfigError where nothing was judged.
        """
        rows = [row for result in self._results for row in result.rows]
        answers = [answer for result in self._results for answer in result.answers]
        left_out = [*problems, *(one for result in self._results for one in result.problems)]
        if not rows:
            why = describe(left_out[0]) if left_out else "there is no case"
            raise ConfigError(f"Nothing was judged: {why}")
        told = {"format": FORMAT, "version": FORMAT_VERSION, **facts, "counts": _count(rows, answers)}
        told |= summarise(rows, self._output.interval)
        told |= {
            "presence": summarise_presence(answers, self._output.interval),
            "pictures": self._worst.names,
            "left_out": [one._asdict() for one in left_out],
            "warnings": [one._asdict() for result in self._results for one in result.warnings],
        }
        texts = {
            METRICS: json.dumps(told, indent=1, allow_nan=False, ensure_ascii=False) + "\n",
            SENTENCES: sentences_csv(rows),
            ANSWERS: answers_csv(answers),
            SUMMARY: write_summary(told),
        }
        for name, text in texts.items():
            replace_file(self._output.out / name, text.encode())
        return told


def _count(rows: Sequence[SentenceRow], answers: Sequence[Answer]) -> dict[str, int]:
    return {
        "cases": len({row.case for row in rows}),
        "patients": len({row.patient for row in rows}),
        "sentences": len(rows),
        "without_heat": sum(row.constrained.distance_mm != row.constrained.distance_mm for row in rows),
        "questions": len(answers),
    }


def _file_stem(name: str) -> str:
    """A case's name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:80] or "case"


def prepare_folder(out: Path, is_resumed: bool) -> None:
    """Make the folder ready: ConfigError for one that holds something else; an earlier evaluation in it is removed."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; expected a folder for the results. Choose another --out.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not is_evaluation(out):
        raise ConfigError(f"{out} holds other files than an evaluation's; choose a new or empty folder with --out.")
    if is_resumed:
        return
    for name in (METRICS, SENTENCES, ANSWERS, SUMMARY, JOURNAL):
        (out / name).unlink(missing_ok=True)
    for name in (PICTURES, HEAT):
        shutil.rmtree(out / name, ignore_errors=True)


def tell(line: str) -> None:
    """Progress for people."""
    sys.stderr.write(f"{line}\n")
