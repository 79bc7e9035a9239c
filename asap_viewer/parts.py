"""The components that several parts of the page talk to, and the words of the status line."""

import functools
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr

from asap_viewer.jobs import Done, Step, StopFlag, follow
from asap_viewer.panels import (
    AnswersPanel,
    FactsPanel,
    FindingsPanel,
    HerePanel,
    OrganPanel,
    ReportPanel,
    SeriesPanel,
    StatusLine,
)
from asap_viewer.services import Services
from asap_viewer.viewer import CTViewer
from core.errors import AsapError
from core.progress import Progress

T = TypeVar("T")
Updates = dict[Any, Any]
"""Component -> its update, as gradio takes it."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What more than one tab shows or changes."""

    token: gr.State
    """The session's token; the only thing about a case that the browser's requests stand for."""
    viewer: CTViewer
    status: StatusLine
    receipt: FactsPanel
    series: SeriesPanel
    fix_hu: gr.Button
    report_text: gr.Textbox
    sentences: ReportPanel
    here: HerePanel
    organs: OrganPanel
    badge: FactsPanel
    answers: AnswersPanel
    findings: FindingsPanel
    matrix: gr.Plot
    distances: FactsPanel
    engine: gr.Dropdown
    """Name of the grounding engine."""
    segmenter: gr.Dropdown


def working(step: Step) -> Updates:
    """The status line while something runs."""
    return gr.update(
        status={"kind": "work", "message": step.message, "fraction": step.fraction, "seconds": step.seconds}
    )


def ready(message: str = "Ready") -> Updates:
    """The status line when nothing runs."""
    return gr.update(status={"kind": "idle", "message": message, "fraction": 0, "seconds": 0})


def failed(message: str) -> Updates:
    """The status line after something that the person can mend."""
    return gr.update(status={"kind": "error", "message": message, "fraction": 0, "seconds": 0})


def told(parts: Parts, work: Callable[[Progress], T], stop: StopFlag) -> Generator[Updates, None, T]:
    """Run `work` beside the page, yielding its progress to the status line; returns its value."""
    for step in follow(work, stop):
        if isinstance(step, Done):
            return step.value
        yield {parts.status: working(step)}
    raise RuntimeError("a job ended without a value")


@dataclass(frozen=True, eq=False)
class Handlers:
    """What a tab's controls do; each tab adds its own."""

    services: Services
    parts: Parts


def shows_errors(handler: Callable[..., Iterator[Updates]]) -> Callable[..., Iterator[Updates]]:
    """Put errors a person can mend into the status line; bugs stay loud in the log."""

    @functools.wraps(handler)
    def wrapped(self: Handlers, *args: Any) -> Iterator[Updates]:
        try:
            yield from handler(self, *args)
        except AsapError as error:
            yield {self.parts.status: failed(str(error))}

    return wrapped
