"""The Report tab: choose a sentence, see where it lives; click the scan, see which sentences live there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from asap_viewer.flow import find_sentences, heat_updates, report_rows
from asap_viewer.panels import FindingsPanel, HerePanel, ReportPanel
from asap_viewer.parts import Handlers, Parts, Updates, ready, shows_errors, told
from asap_viewer.plots import draw_matrix
from asap_viewer.server import owner_of
from asap_viewer.services import Services
from asap_viewer.viewer import jump, show_heat
from asap_viewer.words import place_words
from asap_viewer.workflow import find_findings, ground_text, groundings_of, rank_at, read_report
from core.errors import ReportError
from core.grounding.findings18 import FindingScore
from core.grounding.heatmap import SentenceGrounding, support_of
from core.progress import Progress
from core.structures import spoken_name

if TYPE_CHECKING:
    from core.tasks.classifying import LabelScore

WITHOUT_CLASSIFIER = "the grounding engine: 18 findings of CT-RATE"
PLACES = "Choose one to jump to what speaks most for it."


@dataclass(frozen=True, eq=False)
class ReportTab:
    """Components of the tab."""

    text: gr.Textbox
    find: gr.Button
    engine: gr.Dropdown
    free: gr.Textbox
    free_find: gr.Button
    sentences: ReportPanel
    here: HerePanel
    matrix_button: gr.Button
    matrix: gr.Plot
    labels_by: gr.Dropdown
    score: gr.Button
    findings: FindingsPanel


def lay_out(services: Services) -> ReportTab:
    """The tab's components, in reading order."""
    sentences = ReportPanel()
    here = HerePanel()
    with gr.Row():
        free = gr.Textbox(
            placeholder="Any sentence, e.g. “Nodule in the left lower lobe.”",
            label="Find a sentence in the scan",
            scale=4,
            max_length=500,
        )
        free_find = gr.Button("Find", size="sm", scale=1, min_width=70)
    with gr.Accordion("Paste or edit the report", open=False):
        text = gr.Textbox(lines=8, max_lines=20, label="Report", placeholder="Paste the findings here")
        with gr.Row():
            names = services.engine_names()
            engine = gr.Dropdown(names, value=names[0], label="Grounding engine", scale=2)
            find = gr.Button("Find sentences", variant="primary", scale=1)
    with gr.Accordion("Every sentence against every organ", open=False):
        matrix_button = gr.Button("Draw", size="sm")
        matrix = gr.Plot(show_label=False)
    with gr.Accordion("Findings, read from the scan alone", open=False):
        classifiers = services.classifier_names()
        choices = [(WITHOUT_CLASSIFIER, ""), *((f"{name}, a fine-tuned classifier", name) for name in classifiers)]
        labels_by = gr.Dropdown(choices, value="", label="Labels by", visible=bool(classifiers))
        score = gr.Button("Score the scan", size="sm")
        findings = FindingsPanel()
    return ReportTab(
        text, find, engine, free, free_find, sentences, here, matrix_button, matrix, labels_by, score, findings
    )


@dataclass(frozen=True, eq=False)
class ReportHandlers(Handlers):
    """From sentences to places and back."""

    tab: ReportTab

    @shows_errors
    def find(self, token: str, text: str, engine: str, request: gr.Request) -> Iterator[Updates]:
        """Read the report in the box and look for each of its sentences."""
        session = self.services.sessions.get(token)
        read_report(session.require_case(), text)
        session.begin_job()
        session.chosen = 0
        yield {
            self.tab.sentences: gr.update(chosen=0),
            self.tab.here: gr.update(here={}),
            self.parts.viewer: show_heat(None),
        }
        yield from find_sentences(self.services, self.parts, session, engine, owner_of(request))

    @shows_errors
    def choose(self, token: str, engine: str, request: gr.Request, event: gr.EventData) -> Iterator[Updates]:
        """Show where one sentence lives."""
        session = self.services.sessions.get(token)
        case, index = session.require_case(), int(event.index)
        session.chosen = index
        yield {self.tab.sentences: gr.update(chosen=index)}
        for one in groundings_of(case, engine):
            if one.index == index:
                yield heat_updates(self.services, self.parts, case, one, (engine, owner_of(request)))

    @shows_errors
    def find_free(self, token: str, text: str, engine: str, request: gr.Request) -> Iterator[Updates]:
        """Look for a sentence that need not be in the report."""
        session = self.services.sessions.get(token)
        case = session.require_case()

        def work(progress: Progress) -> SentenceGrounding:
            return ground_text(case, self.services.engine(engine), text, progress)

        one = yield from told(self.parts, work, session.begin_side_job())
        shown = heat_updates(self.services, self.parts, case, one, (engine, owner_of(request)))
        yield shown | {self.parts.status: ready(said_of(one))}

    @shows_errors
    def judge(self, token: str, engine: str, event: gr.EventData) -> Iterator[Updates]:
        """Keep what a person thinks of a sentence's region."""
        case = self.services.sessions.get(token).require_case()
        self.services.judge(case, int(event.index), str(event.verdict), str(event.note), engine)
        yield {
            self.tab.sentences: gr.update(sentences=report_rows(self.services, case, engine)),
            self.parts.status: ready(f"Sentence {int(event.index)}: {event.verdict}. Saved with this CT."),
        }

    @shows_errors
    def look_here(self, token: str, engine: str, event: gr.EventData) -> Iterator[Updates]:
        """Rank the sentences for the place under the crosshair."""
        case = self.services.sessions.get(token).require_case()
        ranked = rank_at(groundings_of(case, engine), event.mm)
        place = "Sentences that speak of this place:" if ranked else "No sentence of the report speaks of this place."
        shown = [{"index": one.index, "text": one.text, "heat": round(heat, 2)} for one, heat in ranked]
        yield {self.tab.here: gr.update(here={"place": place, "sentences": shown})}

    @shows_errors
    def draw_matrix(self, token: str, engine: str) -> Iterator[Updates]:
        """The whole report at once: sentences against organs."""
        found = groundings_of(self.services.sessions.get(token).require_case(), engine)
        if not found:
            raise ReportError("No sentence has been looked for yet. Press “Find sentences” first.")
        yield {self.tab.matrix: draw_matrix(found)}

    @shows_errors
    def score(self, token: str, engine: str, classifier: str) -> Iterator[Updates]:
        """The labels of a fine-tuned classifier, or the 18 CT-RATE findings by the grounding engine."""
        session = self.services.sessions.get(token)
        case = session.require_case()

        def work(progress: Progress) -> list[dict[str, Any]]:
            if classifier:
                labels = self.services.classifier(classifier).score(case.volume, progress)
                return [_finding_row(one, support_of(one.probability), "") for one in labels]
            scores = find_findings(case, self.services.engine(engine), progress)
            return [_finding_row(one, one.support, one.words) for one in scores]

        yield {self.tab.findings: gr.update(findings=[], caption="")}
        scored = yield from told(self.parts, work, session.begin_side_job())
        rows = sorted(scored, key=lambda one: -one["probability"])
        told_any = any(one["support"] != "cannot tell" for one in rows)
        unsure = f"{classifier or engine} cannot tell what is present; the places are where it would look."
        by = f"By {classifier}, a fine-tuned classifier" if classifier else f"By {engine}, whatever the report says"
        caption = f"{by}. {PLACES if told_any else unsure}"
        yield {self.tab.findings: gr.update(findings=rows, caption=caption), self.parts.status: ready()}


def jump_to_finding(event: gr.EventData) -> dict[str, Any]:
    """Go to what speaks for a finding; the heat of a sentence would be taken for its own."""
    return {**jump(event), **show_heat(None)}


def _finding_row(one: "FindingScore | LabelScore", support: str, why: str) -> dict[str, Any]:
    place = list(one.peak_ras_mm or ())
    return {"name": one.name, "probability": round(one.probability, 4), "mm": place, "support": support, "why": why}


def said_of(one: SentenceGrounding) -> str:
    """A grounding in one line of words."""
    place = ", ".join(spoken_name(name) for name in list(one.organs)[:2]) or "no organ"
    where = f"Peak at {place_words(one.peak_ras_mm)} ({place})" if one.is_spot else "Points at no spot"
    return (
        f"{where}, {one.constraint.words}; score {one.score:.2f}, "
        f"margin to its negation {one.margin:+.2f}. {one.judgement.words if one.judgement else ''}"
    )


def wire(tab: ReportTab, parts: Parts, services: Services) -> None:
    """Connect the tab."""
    do = ReportHandlers(services, parts, tab)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    last = quiet | {"trigger_mode": "always_last"}
    shown = [parts.viewer, parts.status, tab.sentences]
    asked = [parts.token, tab.engine]
    tab.find.click(do.find, [parts.token, tab.text, tab.engine], [*shown, tab.here], **quiet)
    tab.sentences.choose(do.choose, asked, shown, **last)
    tab.here.choose(do.choose, asked, shown, **last)
    tab.sentences.judge(do.judge, asked, [tab.sentences, parts.status], **quiet)
    for trigger in (tab.free_find.click, tab.free.submit):
        trigger(do.find_free, [parts.token, tab.free, tab.engine], [parts.viewer, parts.status], **quiet)
    parts.viewer.crosshair(do.look_here, asked, [tab.here, parts.status], **last)
    tab.score.click(do.score, [*asked, tab.labels_by], [tab.findings, parts.status], **quiet)
    tab.findings.jump(jump_to_finding, None, parts.viewer, queue=False, **quiet)
    tab.matrix_button.click(do.draw_matrix, asked, [tab.matrix, parts.status], **quiet)
