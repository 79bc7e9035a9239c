"""What the page's handlers share: samples, engines, the index, the annotations, the open sessions.

Everything heavy is made at its first use, so that the page answers before torch is imported.
"""

import functools
import json
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import gradio as gr

from asap_viewer.engines import State, engine_states, open_classifier, open_grounder, open_segmenter
from asap_viewer.layers import ct_layers
from asap_viewer.served import VolumeServer
from asap_viewer.sessions import Case, SessionStore
from asap_viewer.settings import Settings
from asap_viewer.workflow import keep_masks, read_report
from core.anatomy.masks import OrganMasks, Segmenter
from core.anatomy.provided import load_masks
from core.annotation.records import SentenceRef, describe_evidence
from core.errors import AnnotationError, IndexFileError
from core.export.nifti import write_on_source
from core.grounding.engine import GroundingEngine
from core.grounding.registry import normality_engines
from core.progress import Progress, silent
from core.reading.study import Study, open_study
from core.synthesis.phantom import build_phantom

if TYPE_CHECKING:  # faiss and SQLAlchemy are loaded when they are needed
    from core.annotation.store import AnnotationStore
    from core.retrieval.index import ReportIndex
    from core.tasks.classifying import TaskClassifier

PHANTOM_ID = "phantom"
PHANTOM_TITLE = "Phantom: a computed chest with known lesions"


class Sample(NamedTuple):
    """A case that is always there."""

    id: str
    title: str


class SampleParts(NamedTuple):
    """What a sample is made of."""

    study: Study
    masks: OrganMasks
    title: str
    report: str


@dataclass(eq=False)
class Services:
    """One per process."""

    settings: Settings
    served: VolumeServer

    def __post_init__(self) -> None:
        self.sessions = SessionStore()
        self._engines: dict[str, GroundingEngine] = {}
        self._classifiers: dict[str, TaskClassifier] = {}
        self._lock = threading.RLock()
        self.layers = functools.lru_cache(maxsize=8)(ct_layers)  # keyed by the Volume's identity

    # -- sessions

    def end_page(self, request: gr.Request) -> None:
        """A page was closed: forget its session."""
        self.sessions.end_page(request.session_hash or "")

    # -- samples

    def samples(self) -> list[Sample]:
        """The cases that are always there, the real one first."""
        found = sorted((self.settings.samples).glob("*/sample.json"))
        shipped = [Sample(path.parent.name, json.loads(path.read_text(encoding="utf-8"))["title"]) for path in found]
        return [*shipped, Sample(PHANTOM_ID, PHANTOM_TITLE)]

    def open_sample(self, sample_id: str, progress: Progress = silent) -> Case:
        """A sample as a fresh case, with the masks and the report that belong to it."""
        progress(0.1, "Opening the sample")
        study, masks, title, text = self._phantom() if sample_id == PHANTOM_ID else self._shipped(sample_id)
        case = Case(study, title)
        keep_masks(case, masks)
        read_report(case, text)
        return case

    @functools.lru_cache(maxsize=4)  # noqa: B019  (one Services lives as long as the process)
    def _shipped(self, sample_id: str) -> SampleParts:
        """A sample's files, read once: every session shares the voxels, which nothing changes."""
        folder = self.settings.samples / sample_id
        about = json.loads((folder / "sample.json").read_text(encoding="utf-8"))
        study = open_study(folder / about["ct"])
        masks = load_masks(folder / about["organs"], study.volume, engine=about["organs_engine"])
        return SampleParts(study, masks, about["title"], (folder / about["report"]).read_text(encoding="utf-8"))

    @functools.lru_cache(maxsize=1)  # noqa: B019  (as above)
    def _phantom(self) -> SampleParts:
        """The phantom, written as a file and opened like any other CT."""
        phantom = build_phantom()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "phantom.nii.gz"
            write_on_source(path, phantom.volume.hu, phantom.volume)
            study = open_study(path)
        return SampleParts(study, phantom.masks, PHANTOM_TITLE, phantom.report.findings)

    # -- engines

    def engine_states(self) -> list[State]:
        """Every engine, whether it can run here, and what it lacks."""
        return engine_states(self.settings)

    def engine_names(self) -> list[str]:
        """Grounding engines that can run here, the best first; where none can the bundled one, to say what it lacks."""
        names = [state.name for state in self.engine_states() if state.task == "grounding" and state.can_run]
        return names or ["bundled"]

    def engine(self, name: str) -> GroundingEngine:
        """A grounding engine, loaded once; EngineError says what is missing."""
        with self._lock:
            if name not in self._engines:
                self._engines[name] = open_grounder(name, self.settings)
            return self._engines[name]

    def normality_names(self) -> list[str]:
        """Grounding engines that can run here and tell how far organs are from normal."""
        return normality_engines(self.settings.assets, self.settings.models)

    def classifier_names(self) -> list[str]:
        """Fine-tuned classifiers that can run here."""
        return [state.name for state in self.engine_states() if state.task == "findings" and state.can_run]

    def classifier(self, name: str) -> "TaskClassifier":
        """A fine-tuned classifier, loaded once; EngineError says what is missing."""
        with self._lock:
            if name not in self._classifiers:
                self._classifiers[name] = open_classifier(name, self.settings)
            return self._classifiers[name]

    def segmenter_names(self) -> list[str]:
        """Organ engines, the automatic choice first."""
        return ["auto", *(state.name for state in self.engine_states() if state.task == "organs")]

    def segmenter(self, name: str) -> Segmenter:
        """An organ engine; EngineError says what is missing."""
        return open_segmenter(name, self.settings)

    # -- retrieval and annotation

    @functools.cached_property
    def index(self) -> "ReportIndex":
        """The index of reports that ships; IndexFileError when there is none."""
        from core.retrieval.storage import load_index

        folder = self.settings.index
        if not folder.is_dir():
            raise IndexFileError("No report index is installed. Build one: python -m asap_viewer index build --help")
        return load_index(folder)

    @functools.cached_property
    def annotations(self) -> "AnnotationStore":
        """Where verdicts are kept."""
        from core.annotation.store import AnnotationStore

        if not self.settings.database_url:
            self.settings.data.mkdir(parents=True, exist_ok=True)
        return AnnotationStore(self.settings.annotations_url)

    def verdicts(self, case: Case) -> dict[int, tuple[str, str]]:
        """Sentence number -> (verdict, note) kept for this CT and these sentence texts."""
        if case.report is None:
            return {}
        kept = {one.sentence.key: one for one in self.annotations.for_case(case.volume.content_hash)}
        keys = {sentence.index: SentenceRef(sentence.index, sentence.text).key for sentence in case.report.sentences}
        return {index: (kept[key].verdict, kept[key].note) for index, key in keys.items() if key in kept}

    def judge(self, case: Case, index: int, verdict: str, note: str, engine: str) -> None:
        """Keep a verdict on a sentence of the open report, with what the page showed for it."""
        sentences = {sentence.index: sentence for sentence in case.report.sentences} if case.report else {}
        if index not in sentences:
            raise AnnotationError(f"The report has no sentence {index}. Choose one in the list first.")
        content_hash, text = case.volume.content_hash, sentences[index].text
        found = case.groundings.get((engine, text))
        evidence = describe_evidence(found, engine) if found else None
        self.annotations.describe_case(content_hash, case.title[:200], case.volume.source)
        self.annotations.record(content_hash, (index, text), verdict, note, evidence=evidence)
