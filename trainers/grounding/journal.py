"""What an evaluation has finished, one line a case, so that a stopped one can go on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import ConfigError, StorageError
from trainers.grounding.cases import Case, Problem
from trainers.grounding.judging import WAYS, Answer, Reading, SentenceRow

JOURNAL = "journal.jsonl"
FORMAT = "asap-grounding-evaluation"


class CaseResult(NamedTuple):
    """What became of one case."""

    rows: tuple[SentenceRow, ...]
    answers: tuple[Answer, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    pictures: tuple[str, ...] = ()
    """Name of the picture of each row, whether or not it was kept."""


class Journal:
    """A JSON-lines file in the output folder; lines of other settings, changed cases or cut by a kill do not count."""

    def __init__(self, folder: Path, settings: str, is_resumed: bool) -> None:
        self.path = folder / JOURNAL
        self._header = {"format": FORMAT, "settings": settings}
        self._found = self._read() if is_resumed else {}
        lines = [json.dumps(self._header), *(_line(key, result) for key, result in self._found.items())]
        self._write("w", "".join(f"{line}\n" for line in lines))

    def find(self, case: Case) -> CaseResult | None:
        """What an earlier run made of exactly this case."""
        return self._found.get(case.key + case.name)

    def add(self, case: Case, result: CaseResult) -> None:
        """Note a finished case."""
        self._write("a", f"{_line(case.key + case.name, result)}\n")

    def _write(self, mode: str, text: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written ({error.strerror}). Is the disk full?") from error

    def _read(self) -> dict[str, CaseResult]:
        if not self.path.is_file():
            return {}
        header, *lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        if _parsed(header) != self._header:
            raise ConfigError(
                f"{self.path.parent} holds an evaluation with other settings or another engine. Leave out --resume to "
                "replace it, or choose another --out."
            )
        told = [_parsed(line) for line in lines]
        return {one["key"]: _result(one) for one in told if one.keys() >= _KEYS}


_KEYS = {"key", *CaseResult._fields}


def is_evaluation(folder: Path) -> bool:
    """Whether a folder holds an evaluation, whole or not."""
    path = folder / JOURNAL
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return _parsed(file.readline()).get("format") == FORMAT


def _line(key: str, result: CaseResult) -> str:
    return json.dumps({"key": key, **result._asdict()})


def _parsed(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _result(told: dict[str, Any]) -> CaseResult:
    return CaseResult(
        tuple(_row(row) for row in told["rows"]),
        tuple(Answer(*one) for one in told["answers"]),
        tuple(Problem(*one) for one in told["problems"]),
        tuple(Problem(*one) for one in told["warnings"]),
        tuple(told["pictures"]),
    )


def _row(values: Sequence[Any]) -> SentenceRow:
    told = dict(zip(SentenceRow._fields, values, strict=True))
    told |= {way: Reading(*told[way]) for way in WAYS} | {"organs": tuple(told["organs"])}
    return SentenceRow(**told)
