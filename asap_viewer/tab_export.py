"""The Export tab: masks, heat maps, scores and annotations as files on the CT's own grid."""

import json
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from asap_viewer.heat_files import describe_calibration, describe_sentence, heat_name, raw_heat_name
from asap_viewer.panels import FactsPanel
from asap_viewer.parts import Handlers, Parts, Updates, ready, shows_errors, told
from asap_viewer.served import FileBlob
from asap_viewer.server import owner_of
from asap_viewer.services import Services
from asap_viewer.sessions import Case
from asap_viewer.words import fact
from asap_viewer.workflow import groundings_of
from core.errors import StudyError
from core.export.nifti import nifti_bytes
from core.grounding.engine import GroundingEngine
from core.grounding.readout import heat_on_source, peak_on_source, raw_heat_on_source
from core.progress import Progress

MASKS, SEG, HEAT, NOTES = "Organ masks (NIfTI)", "Organ masks (DICOM SEG)", "Heat maps and scores", "Annotations"


@dataclass(frozen=True, eq=False)
class ExportTab:
    """Components of the tab."""

    what: gr.Radio
    make: gr.Button
    files: FactsPanel


def lay_out() -> ExportTab:
    """The tab's components, in reading order."""
    what = gr.Radio([MASKS, SEG, HEAT, NOTES], value=MASKS, label="Export", info="Every image is on the CT's own grid.")
    return ExportTab(what, gr.Button("Prepare the file", variant="primary"), FactsPanel())


@dataclass(frozen=True, eq=False)
class ExportHandlers(Handlers):
    """Making files; they live in memory, at an address only this session knows, and go with it."""

    tab: ExportTab

    @shows_errors
    def make(self, token: str, what: str, engine: str, request: gr.Request) -> Iterator[Updates]:
        """Make one file and show its link."""
        session = self.services.sessions.get(token)
        case = session.require_case()

        def work(progress: Progress) -> FileBlob:
            progress(0.1, f"Preparing {what.lower()}")
            return self._file(case, what, engine, progress)

        blob = yield from told(self.parts, work, session.begin_side_job())
        address = self.services.served.publish(blob, owner_of(request))
        size = f"{blob.raw_bytes / 1e6:.1f} MB"
        row = fact(what, f"{blob.filename} ({size})") | {"href": address, "download": blob.filename}
        yield {self.tab.files: gr.update(rows=[row]), self.parts.status: ready("The file is ready")}

    def _file(self, case: Case, what: str, engine: str, progress: Progress) -> FileBlob:
        if what == MASKS:
            return FileBlob(nifti_bytes(case.volume.to_source(_labels(case)), case.volume.source), "organs.nii.gz")
        if what == SEG:
            return FileBlob(_seg_bytes(case), "organs.dcm")
        if what == HEAT:
            return FileBlob(_heat_archive(case, self.services.engine(engine), progress), "grounding.zip")
        return FileBlob(self._annotation_archive(case, engine), "annotations.zip")

    def _annotation_archive(self, case: Case, engine: str) -> bytes:
        """annotations.json, heat maps and masks of the open CT, zipped."""
        from core.annotation.export import OpenCase, export_annotations
        from core.annotation.records import SentenceRef
        from core.resample import resample

        heats = {
            SentenceRef(one.index, one.text): resample(one.map.heat, one.map.grid, case.volume.grid)
            for one in groundings_of(case, engine)
        }
        opened = OpenCase(case.volume, heats, case.masks, case.study.dicom_headers)
        key = case.volume.content_hash
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "annotations"
            export_annotations(self.services.annotations, out, key, {key: opened})
            return _zipped({str(path.relative_to(out)): path for path in sorted(out.rglob("*")) if path.is_file()})


def _labels(case: Case) -> Any:
    """The case's label map (X, Y, Z), or a StudyError while there is none."""
    if case.masks is None:
        raise StudyError("This CT has no organ masks yet. Wait for them, or press “Find organs again” first.")
    return case.masks.labels


def _seg_bytes(case: Case) -> bytes:
    from core.export.dicomseg import write_dicom_seg

    labels = _labels(case)
    assert case.masks is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "organs.dcm"
        write_dicom_seg(path, labels, case.volume, case.study.dicom_headers, case.masks.engine)
        return path.read_bytes()


def _heat_archive(case: Case, engine: GroundingEngine, progress: Progress) -> bytes:
    """grounding.json and two NIfTI per sentence, as `asap_viewer ground` writes them, zipped."""
    found = groundings_of(case, engine.name)
    if not found:
        raise StudyError("No sentence has been looked for yet. Press “Find sentences” in the Report tab first.")
    files: dict[str, bytes | Path] = {}
    rows = []
    for at, one in enumerate(found):
        progress(at / len(found), f"Sentence {at + 1} of {len(found)}")
        both = []
        for name, heat_of in ((heat_name, heat_on_source), (raw_heat_name, raw_heat_on_source)):
            heat = heat_of(one, case.volume)
            files[name(one.index)] = nifti_bytes(heat, case.volume.source)
            both.append(peak_on_source(heat, one, case.volume))
        rows.append(describe_sentence(one, case.volume, both[0], both[1]))
    document = {
        "engine": engine.name,
        "calibration": describe_calibration(engine),
        "content_hash": case.volume.content_hash,
        "sentences": rows,
    }
    files["grounding.json"] = json.dumps(document, indent=1).encode()
    return _zipped(files)


def _zipped(files: dict[str, Any]) -> bytes:
    """Files by name (bytes, or paths to read) as one archive; images are compressed already."""
    with tempfile.TemporaryFile() as target:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name, content in files.items():
                archive.writestr(name, content.read_bytes() if isinstance(content, Path) else content)
        target.seek(0)
        return target.read()


def wire(tab: ExportTab, parts: Parts, services: Services) -> None:
    """Connect the tab."""
    do = ExportHandlers(services, parts, tab)
    inputs = [parts.token, tab.what, parts.engine]
    tab.make.click(do.make, inputs, [tab.files, parts.status], show_progress="hidden", api_visibility="private")
