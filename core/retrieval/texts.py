"""The words of an indexed collection, in SQLite: only the few reports that are shown are ever read."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import IndexFileError

_SCHEMA = """
CREATE TABLE report (row INTEGER PRIMARY KEY, study_id TEXT NOT NULL UNIQUE, text TEXT NOT NULL,
                     volume TEXT NOT NULL, content_hash TEXT NOT NULL, extra TEXT NOT NULL);
CREATE INDEX report_hash ON report (content_hash) WHERE content_hash <> '';
CREATE TABLE sentence (row INTEGER PRIMARY KEY, text TEXT NOT NULL);
"""


class StoredReport(NamedTuple):
    """One report as it was indexed."""

    study_id: str
    text: str
    volume: str  # path of its CT as the table gave it, or ""
    content_hash: str  # of its CT when that was embedded, or ""
    extra: dict[str, str]


class TextStore:
    """Reports and distinct sentences by row number; usable from several threads."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def build(cls, reports: Iterable[StoredReport], sentences: Iterable[str]) -> "TextStore":
        """A store in memory; rows count from 0 in the order given."""
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        connection.executescript(_SCHEMA)
        connection.executemany(
            "INSERT INTO report VALUES (?, ?, ?, ?, ?, ?)",
            ((row, *report[:4], json.dumps(report.extra)) for row, report in enumerate(reports)),
        )
        connection.executemany("INSERT INTO sentence VALUES (?, ?)", enumerate(sentences))
        connection.commit()
        return cls(connection)

    @classmethod
    def open(cls, path: Path) -> "TextStore":
        """A saved store, read only. Raises IndexFileError."""
        try:
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
            connection.execute("SELECT row FROM report LIMIT 1")
        except sqlite3.Error as error:
            raise IndexFileError(f"{path.name} cannot be read ({error}). Build the index again.") from error
        return cls(connection)

    def save(self, path: Path) -> None:
        """Write everything to a new file."""
        with self._lock:
            self._connection.execute("VACUUM INTO ?", (str(path),))

    def report(self, row: int) -> StoredReport:
        """The report in a row. KeyError when there is none."""
        found = self._query("SELECT study_id, text, volume, content_hash, extra FROM report WHERE row = ?", (row,))
        if not found:
            raise KeyError(row)
        study_id, text, volume, content_hash, extra = found[0]
        return StoredReport(study_id, text, volume, content_hash, json.loads(extra))

    def row_of(self, study_id: str) -> int | None:
        """The row of a study, or None."""
        found = self._query("SELECT row FROM report WHERE study_id = ?", (study_id,))
        return int(found[0][0]) if found else None

    def rows_of_hash(self, content_hash: str) -> list[int]:
        """Rows whose CT has this content hash."""
        if not content_hash:
            return []
        found = self._query("SELECT row FROM report WHERE content_hash = ? AND content_hash <> ''", (content_hash,))
        return [int(row) for (row,) in found]

    def sentence(self, row: int) -> str:
        """A distinct sentence by its row. KeyError when there is none."""
        found = self._query("SELECT text FROM sentence WHERE row = ?", (row,))
        if not found:
            raise KeyError(row)
        return str(found[0][0])

    def study_ids(self) -> list[str]:
        """Every study, in row order."""
        return [str(study_id) for (study_id,) in self._query("SELECT study_id FROM report ORDER BY row", ())]

    def _query(self, statement: str, values: Sequence[object]) -> list[tuple]:
        try:
            with self._lock:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise IndexFileError(f"The index's reports cannot be read ({error}). Build the index again.") from error
