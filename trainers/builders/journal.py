"""What a builder has finished so far, one line a report, so that a stopped run goes on where it was."""

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from core.errors import ConfigError
from core.retrieval.table import ReportRow


class Entry(NamedTuple):
    """What became of one report."""

    value: Any  # plain JSON, None when it failed
    problems: list[str]  # what could not be used, or why it failed


class Journal:
    """A JSON-lines file beside the output; lines of other settings, changed reports or cut by a kill do not count."""

    def __init__(self, out: Path, settings: str) -> None:
        self.path = out.with_name(f".{out.name}.journal")
        self._header = hashlib.sha256(settings.encode()).hexdigest()
        self._entries = self._read()

    def __enter__(self) -> "Journal":
        lines = [json.dumps({"settings": self._header}), *(_line(*item) for item in self._entries.items())]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            scratch = self.path.with_suffix(".part")
            scratch.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")  # without what does not count
            scratch.replace(self.path)
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written ({error.strerror}). Choose another --out.") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def find(self, row: ReportRow) -> Entry | None:
        """What an earlier run made of exactly this report."""
        return self._entries.get(_key(row))

    def add(self, row: ReportRow, entry: Entry) -> None:
        """Note a finished report; ConfigError when the disk does not take it."""
        try:
            self._file.write(f"{_line(_key(row), entry)}\n")
            self._file.flush()
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written ({error.strerror}). Is the disk full?") from error

    def remove(self) -> None:
        """Forget everything: the output is complete."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Entry]:
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be read ({error.strerror}). Choose another --out.") from error
        if not lines or _parsed(lines[0]).get("settings") != self._header:
            return {}
        told = [_parsed(line) for line in lines[1:]]
        return {one["report"]: Entry(one["value"], one["problems"]) for one in told if one.keys() >= _LINE_KEYS}


_LINE_KEYS = {"report", "value", "problems"}


def _line(key: str, entry: Entry) -> str:
    return json.dumps({"report": key, "value": entry.value, "problems": entry.problems})


def _parsed(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _key(row: ReportRow) -> str:
    return hashlib.sha256(json.dumps([row.study_id, row.findings, row.impression]).encode()).hexdigest()
