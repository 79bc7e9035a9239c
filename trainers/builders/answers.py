"""Answers of language models kept on disk, so that no question is paid for twice and a stopped run goes on."""

import hashlib
import json
import sqlite3
import threading
from pathlib import Path

from core.errors import ConfigError
from trainers.builders.prompts import PROMPT_VERSION, Question


class AnswerCache:
    """A SQLite file of usable answers by report, organ, question, prompt version and model; safe to use from threads.

    Every answer is a transaction of its own: a kill at any moment loses none that `keep` returned for.
    """

    def __init__(self, path: Path, model: str) -> None:
        self.path, self.model, self._lock = path, model, threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
            with self._connection:
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)"
                )
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"The cache {path} cannot be used ({error}). Choose another --cache, or delete it if nothing in it is "
                "worth keeping."
            ) from error

    def find(self, question: Question) -> str | None:
        """The kept answer, None when there is none."""
        with self._lock:
            found = self._connection.execute(
                "SELECT answer FROM answers WHERE key = ?", (self._key(question),)
            ).fetchone()
        return None if found is None else str(found[0])

    def keep(self, question: Question, answer: str) -> None:
        """Keep an answer; ConfigError when the disk does not take it."""
        try:
            with self._lock, self._connection:
                entry = (self._key(question), answer)
                self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", entry)
        except sqlite3.Error as error:
            raise ConfigError(f"The cache {self.path} cannot be written ({error}). Is the disk full?") from error

    def close(self) -> None:
        self._connection.close()

    def _key(self, question: Question) -> str:
        parts = [PROMPT_VERSION, self.model, question.step, question.organ, question.task, question.report]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
