"""The Case tab: open a CT, see what was opened, choose another series; then everything else follows by itself."""

import functools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from asap_viewer.flow import begin_case, find_everything, first_finding
from asap_viewer.panels import FactsPanel, SeriesPanel
from asap_viewer.parts import Handlers, Parts, Updates, failed, shows_errors, told
from asap_viewer.server import owner_of
from asap_viewer.services import Services
from asap_viewer.sessions import Case, Session
from asap_viewer.workflow import open_case
from core.errors import StudyError
from core.progress import Progress
from core.reading.study import HuFix


@dataclass(frozen=True, eq=False)
class OpenTab:
    """Components of the tab."""

    samples: gr.Dropdown
    open_sample: gr.Button
    files: gr.File
    folder: gr.UploadButton
    series: SeriesPanel
    receipt: FactsPanel
    fix_hu: gr.Button


def lay_out(services: Services) -> OpenTab:
    """The tab's components, in reading order."""
    samples = [(sample.title, sample.id) for sample in services.samples()]
    with gr.Row():
        chosen = gr.Dropdown(samples, value=samples[0][1], label="Sample case", scale=3)
        open_sample = gr.Button("Open sample", size="sm", scale=1, min_width=110)
    files = gr.File(
        label="Drop a CT: .nii .nii.gz .nrrd .mha .mhd+.raw, DICOM files, or a .zip of any",
        file_count="multiple",
        height=150,
    )
    folder = gr.UploadButton("Open a DICOM folder", file_count="directory", size="sm")
    series = SeriesPanel()
    receipt = FactsPanel()
    fix_hu = gr.Button("Correct the HU values", size="sm", visible="hidden")
    return OpenTab(chosen, open_sample, files, folder, series, receipt, fix_hu)


@dataclass(frozen=True, eq=False)
class OpenHandlers(Handlers):
    """Every way of opening a CT ends in the same steps."""

    tab: OpenTab

    @shows_errors
    def start(self, engine: str, segmenter: str, request: gr.Request) -> Iterator[Updates]:
        """The page was loaded: begin its session with the first sample."""
        session = self.services.sessions.begin(request.session_hash or "")
        yield {self.parts.token: session.token}
        yield from self.sample(session.token, self.services.samples()[0].id, engine, segmenter, request)

    @shows_errors
    def sample(self, token: str, sample_id: str, engine: str, segmenter: str, request: gr.Request) -> Iterator[Updates]:
        session = self.services.sessions.get(token)
        work = functools.partial(self.services.open_sample, sample_id)
        yield from self._open(session, work, (engine, segmenter), request, shows_first=True)

    @shows_errors
    def uploaded(self, token: str, paths: Any, engine: str, segmenter: str, request: gr.Request) -> Iterator[Updates]:
        session = self.services.sessions.get(token)
        if paths:
            upload = take_upload(paths, session)
            yield {self.tab.files: gr.update(value=None)}
            yield from self._open(session, self._reader(upload), (engine, segmenter), request)

    @shows_errors
    def other_series(
        self, token: str, engine: str, segmenter: str, request: gr.Request, event: gr.EventData
    ) -> Iterator[Updates]:
        session, series = self.services.sessions.get(token), str(event.id)
        if session.upload is not None and series != session.series:
            yield from self._open(session, self._reader(session.upload, series), (engine, segmenter), request)

    @shows_errors
    def fix_hu(self, token: str, engine: str, segmenter: str, request: gr.Request) -> Iterator[Updates]:
        """Open the same upload again with its HU scale mended."""
        session = self.services.sessions.get(token)
        if session.upload is None:
            raise StudyError("Only an uploaded CT can be corrected. Open it again.")
        work = self._reader(session.upload, session.series, "auto")
        yield from self._open(session, work, (engine, segmenter), request)

    @shows_errors
    def cancel(self, token: str) -> Iterator[Updates]:
        self.services.sessions.get(token).stop_all()
        yield {self.parts.status: failed("Stopping…")}

    def _reader(self, upload: Path, series: str | None = None, hu_fix: HuFix = "none") -> Callable[[Progress], Case]:
        return functools.partial(open_case, upload, series, self.services.settings.limits, hu_fix)

    def _open(
        self,
        session: Session,
        work: Callable[[Progress], Case],
        engines: tuple[str, str],
        request: gr.Request,
        shows_first: bool = False,
    ) -> Iterator[Updates]:
        """`shows_first`: end with the heat of the first finding, so that a visitor sees at once what this is for."""
        owner = owner_of(request)
        case = yield from told(self.parts, work, session.begin_job())
        yield begin_case(self.services, self.parts, session, case, owner)
        session.chosen = first_finding(case) if shows_first else 0
        yield from find_everything(self.services, self.parts, session, engines, owner)


def wire(tab: OpenTab, parts: Parts, services: Services, page: gr.Blocks) -> None:
    """Connect the tab."""
    do = OpenHandlers(services, parts, tab)
    outputs: list[Any] = [
        parts.token,
        parts.viewer,
        parts.status,
        parts.receipt,
        parts.series,
        parts.report_text,
        parts.sentences,
        parts.here,
        parts.organs,
        parts.badge,
        parts.answers,
        parts.findings,
        parts.matrix,
        parts.distances,
        parts.fix_hu,
        tab.files,
    ]
    quiet: dict[str, Any] = {"outputs": outputs, "show_progress": "hidden", "api_visibility": "private"}
    engines = [parts.engine, parts.segmenter]
    page.load(do.start, engines, **quiet)
    tab.open_sample.click(do.sample, [parts.token, tab.samples, *engines], **quiet)
    tab.files.upload(do.uploaded, [parts.token, tab.files, *engines], **quiet)
    tab.folder.upload(do.uploaded, [parts.token, tab.folder, *engines], **quiet)
    tab.series.choose(do.other_series, [parts.token, *engines], **quiet)
    tab.fix_hu.click(do.fix_hu, [parts.token, *engines], **quiet)
    quiet["outputs"] = parts.status
    parts.status.cancel(do.cancel, parts.token, **quiet)


def take_upload(paths: list[str] | str, session: Session) -> Path:
    """Move uploaded files out of the shared upload cache into the session's own folder; one path to open."""
    listed = [Path(path) for path in ([paths] if isinstance(paths, str) else paths)]
    if not listed:
        raise StudyError("The upload holds no file. Choose a CT file, a DICOM folder or a .zip.")
    folder = session.fresh_folder()
    for number, path in enumerate(listed):
        name = (
            path.name
            if len(listed) == 1 or path.suffix.lower() in {".mhd", ".raw", ".zraw"}
            else f"{number:05d}_{path.name}"
        )
        shutil.move(str(path), folder / name)
    session.upload = next(folder.iterdir()) if len(listed) == 1 else folder
    return session.upload
