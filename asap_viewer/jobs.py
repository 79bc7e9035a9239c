"""Long work beside a page that stays usable: progress as it comes, and a stop that is obeyed. No gradio."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from core.errors import Cancelled
from core.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """Where a job is."""

    fraction: float
    """Done, in [0, 1]."""
    message: str
    seconds: float
    """Since the job began."""


@dataclass(frozen=True)
class Done(Generic[T]):
    """The last thing a job yields when nothing went wrong."""

    value: T
    seconds: float


class StopFlag:
    """Set by the Cancel button; the job meets it at its next progress report."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def stop(self) -> None:
        """Ask the job that watches this flag to end."""
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()


def follow(work: Callable[[Progress], T], stop: StopFlag, every_s: float = 0.15) -> Iterator[Step | Done[T]]:
    """Run `work` in a thread; yield a Step at most every `every_s` seconds, then one Done.

    Errors of `work` are raised here. Closing the iterator, or `stop`, makes the next progress report raise
    `Cancelled` inside `work`.
    """
    began = time.monotonic()
    latest: queue.SimpleQueue[Step] = queue.SimpleQueue()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def report(fraction: float, message: str) -> None:
        if stop.is_set():
            raise Cancelled("Stopped. What was there before is unchanged.")
        latest.put(Step(min(max(fraction, 0.0), 1.0), message, time.monotonic() - began))

    def run() -> None:
        try:
            outcome.append(work(report))
        except BaseException as error:  # (handed to the caller's thread, never swallowed)
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True, name="job")
    thread.start()
    try:
        yield from _steps_while_alive(thread, latest, every_s)
    finally:
        if thread.is_alive():
            stop.stop()
    if failure:
        raise failure[0]
    yield Done(outcome[0], time.monotonic() - began)


def _steps_while_alive(thread: threading.Thread, latest: "queue.SimpleQueue[Step]", every_s: float) -> Iterator[Step]:
    """The newest step of each interval, until the thread ends."""
    while thread.is_alive():
        thread.join(every_s)
        step = None
        while not latest.empty():
            step = latest.get()
        if step is not None:
            yield step
