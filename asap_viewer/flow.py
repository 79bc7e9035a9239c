"""What happens by itself once a CT is open: slices first, then organs, then sentences."""

from collections.abc import Iterator

import gradio as gr
import numpy as np

from asap_viewer.layers import heat_layer, label_layer
from asap_viewer.parts import Parts, Updates, ready, told
from asap_viewer.served import Owner
from asap_viewer.services import Services
from asap_viewer.sessions import Case, Session
from asap_viewer.viewer import go_to, keep_case, look_at, show_case, show_heat
from asap_viewer.words import fact, heat_label, organ_rows, receipt_rows, sentence_rows, series_rows
from asap_viewer.workflow import find_organs, ground_report, groundings_of
from core.anatomy.measure import measure_organs, orientation_check
from core.grounding.heatmap import SentenceGrounding
from core.grounding.presence import Calibrated, explain_calibration
from core.progress import Progress
from core.structures import spoken_name

BADGE_KINDS = {"ok": "good", "suspicious": "warning", "unknown": "plain"}


def begin_case(services: Services, parts: Parts, session: Session, case: Case, owner: Owner) -> Updates:
    """Show a freshly opened case: slices and receipt; everything of the case before is gone."""
    session.case, session.chosen, session.answers = case, 0, []
    rows = case.study.receipt.series
    session.series = next((row.id for row in rows if row.chosen), None)
    return {
        parts.viewer: {**show_case(viewer_case(services, case, owner)), **look_at(preset="lung")},
        parts.receipt: gr.update(rows=[fact("case", case.title), *receipt_rows(case.study)]),
        parts.series: gr.update(series=series_rows(rows)),
        parts.fix_hu: gr.update(visible=True if case.study.receipt.hu_verdict.correction_hu else "hidden"),
        parts.report_text: gr.update(value=case.report.text if case.report else ""),
        parts.sentences: gr.update(sentences=report_rows(services, case, "", is_pending=True), chosen=0, legend=""),
        parts.here: gr.update(here={}),
        parts.organs: gr.update(organs=[], empty="Looking for organs…"),
        parts.badge: gr.update(rows=[]),
        parts.answers: gr.update(answers=[]),
        parts.findings: gr.update(findings=[], caption=""),
        parts.matrix: gr.update(value=None),
        parts.distances: gr.update(rows=[]),
        parts.status: ready("Slices are ready"),
    }


def viewer_case(services: Services, case: Case, owner: Owner) -> dict:
    """The viewer's `case` property, with organ masks where there are any."""
    labels = label_layer(case.masks, case.volume) if case.masks else None
    layers = services.layers(case.volume)
    return layers.prop(lambda blob: services.served.publish(blob, owner), case.title, labels, case.masks)


def find_everything(
    services: Services, parts: Parts, session: Session, engines: tuple[str, str], owner: Owner
) -> Iterator[Updates]:
    """Organs, then the report's sentences, each shown as soon as it is there."""
    engine, segmenter = engines
    case = session.require_case()
    if case.masks is None:
        yield from find_case_organs(services, parts, session, segmenter, owner)
    else:
        yield organ_updates(services, parts, case, owner)
    if case.report is not None:
        yield from find_sentences(services, parts, session, engine, owner)


def find_case_organs(
    services: Services, parts: Parts, session: Session, segmenter: str, owner: Owner
) -> Iterator[Updates]:
    """Segment the open case and show its organs."""
    case = session.require_case()
    engine = services.segmenter(segmenter)
    yield from told(parts, lambda progress: find_organs(case, engine, progress), session.stop)
    yield organ_updates(services, parts, case, owner)


def organ_updates(services: Services, parts: Parts, case: Case, owner: Owner) -> Updates:
    """Masks into the viewer, the organ tree, and the badge that says whether left and right look right."""
    assert case.masks is not None  # callers have just made them
    rows = organ_rows(case.masks, measure_organs(case.volume, case.masks))
    verdict = orientation_check(case.masks, case.volume.grid)
    badge = [fact("masks by", case.masks.engine), fact("left / right", verdict.words, BADGE_KINDS[verdict.kind])]
    badge += [fact("note", note, "warning") for note in case.masks.notes]
    badge += [fact(spoken_name(name), f"not found: {reason}") for name, reason in case.masks.missing.items()]
    return {
        parts.viewer: keep_case(viewer_case(services, case, owner)),
        parts.organs: gr.update(organs=rows, empty="No organ was found in this CT."),
        parts.badge: gr.update(rows=badge),
        parts.status: ready("Organs are ready"),
    }


def find_sentences(
    services: Services, parts: Parts, session: Session, engine_name: str, owner: Owner
) -> Iterator[Updates]:
    """Ground the report of the open case, show where each sentence lives, and the heat of the chosen one."""
    case = session.require_case()
    yield {parts.sentences: gr.update(sentences=report_rows(services, case, engine_name, is_pending=True), legend="")}

    def work(progress: Progress) -> tuple[SentenceGrounding, ...]:
        return ground_report(case, services.engine(engine_name), progress)

    found = yield from told(parts, work, session.stop)
    engine = services.engine(engine_name)
    legend = explain_calibration(engine.calibration if isinstance(engine, Calibrated) else None)
    rows = report_rows(services, case, engine_name)
    yield {
        parts.sentences: gr.update(sentences=rows, chosen=session.chosen, legend=legend),
        parts.status: ready(f"{len(found)} sentences looked for by {engine_name}. Choose one."),
    }
    for one in found:
        if one.index == session.chosen:
            yield heat_updates(services, parts, case, one, (engine_name, owner))


def first_finding(case: Case) -> int:
    """Number of the first sentence that says something is there; 0 if none does."""
    sentences = case.report.sentences if case.report else ()
    return next((sentence.index for sentence in sentences if sentence.existence == "present"), 0)


def report_rows(services: Services, case: Case, engine_name: str, is_pending: bool = False) -> list[dict]:
    """The report panel's rows, with verdicts kept for this CT; empty without a report."""
    if case.report is None:
        return []
    verdicts = services.verdicts(case)
    return sentence_rows(case.report, groundings_of(case, engine_name), verdicts, is_pending)


def heat_updates(
    services: Services, parts: Parts, case: Case, one: SentenceGrounding, by: tuple[str, Owner]
) -> Updates:
    """One sentence's heat, its raw heat and its peak in the viewer; by: the engine that found it, and whose page."""
    engine, owner = by

    def served(heat: np.ndarray) -> dict:
        layer = heat_layer(heat, one.map.grid, case.volume)
        return layer.prop(lambda blob: services.served.publish(blob, owner))

    raw = None if one.map.anywhere is one.map.heat else served(one.map.anywhere)
    peaks = {"kept": one.peak_ras_mm, "raw": one.raw_peak_ras_mm}
    label = heat_label(one.text, engine)
    update = show_heat(served(one.map.heat), label, raw=raw, words=one.constraint.words, peaks=peaks)
    return {parts.viewer: {**update, **go_to(one.peak_ras_mm)}}
