"""Who writes where while a command runs.

Libraries print as they like, some from C and some from worker processes. Here the process's own stdout and stderr
are set aside for the answer and for the one line of an error; whatever else is printed is kept and shown
afterwards, or dropped when the command fails for a reason that the person can mend.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

WIDTH = 100
"""Characters of the progress line on a terminal."""


class Streams:
    """The real stdout and stderr of the process, and what was printed meanwhile."""

    def __init__(self, answer: int, errors: int, logs: IO[bytes], is_live: bool) -> None:
        self._answer, self._errors, self._logs = answer, errors, logs
        self._shows_progress = is_live or os.isatty(errors)
        self._ends_line = not os.isatty(errors)
        self._last, self._step = 0.0, ""

    def progress(self, fraction: float, message: str) -> None:
        """Show every step, and where it is at most ten times a second, when somebody is watching."""
        now, step = time.monotonic(), "".join(letter for letter in message if not letter.isdigit())
        if not self._shows_progress or (step == self._step and now - self._last < 0.1 and fraction < 1.0):
            return
        self._last, self._step = now, step
        text = f"{fraction:4.0%} {message}"[:WIDTH]
        line = text + "\n" if self._ends_line else f"\r{text:<{WIDTH}}"
        os.write(self._errors, line.encode("utf-8", "replace"))

    def write_answer(self, text: str) -> None:
        """Write the JSON document to the real stdout; BrokenPipeError when nobody reads it."""
        self._clear_line()
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._answer, data) :]

    def write_error(self, line: str) -> None:
        """Write one line to the real stderr."""
        self._clear_line()
        os.write(self._errors, (line + "\n").encode("utf-8", "replace"))

    def release_logs(self) -> None:
        """Show what was printed while the command ran."""
        self._flush()
        self._clear_line()
        self._logs.seek(0)
        os.write(self._errors, self._logs.read())
        self.drop_logs()

    def drop_logs(self) -> None:
        """Forget what was printed while the command ran."""
        self._flush()
        self._logs.seek(0)
        self._logs.truncate()

    def _flush(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()

    def _clear_line(self) -> None:
        if self._last and not self._ends_line:
            os.write(self._errors, f"\r{'':<{WIDTH}}\r".encode())
            self._last, self._step = 0.0, ""


@contextmanager
def taken_streams(is_live: bool = False) -> Iterator[Streams]:
    """Set stdout and stderr aside until the block ends; `is_live` lets logs through to stderr at once.

    An exception that leaves the block is a bug: what was printed before it is shown.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    answer, errors = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as logs:
        target = errors if is_live else logs.fileno()
        os.dup2(target, 1)
        os.dup2(target, 2)
        streams = Streams(answer, errors, logs, is_live)
        try:
            yield streams
        finally:
            streams.release_logs()
            os.dup2(answer, 1)
            os.dup2(errors, 2)
            os.close(answer)
            os.close(errors)
