"""What can be done with an open case, step by step. No gradio: the page and the tests call the same functions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from asap_viewer.sessions import Case
from core.anatomy.masks import OrganMasks, Segmenter
from core.anatomy.measure import measure_organs
from core.errors import ReportError
from core.grounding.engine import GroundingEngine, PatchFeatures
from core.grounding.findings18 import FindingScore, judge_organs, score_findings
from core.grounding.heatmap import SentenceGrounding
from core.grounding.query import query_of
from core.grounding.readout import Canvas, ground_sentences, make_canvas
from core.progress import Progress, part_of, silent
from core.reading.limits import ReadLimits
from core.reading.study import HuFix, open_study
from core.report.parse import negate_sentence, parse_report
from core.report.parsed import ParsedReport
from core.vqa.evidence import Answer, CaseEvidence

MAX_FREE_TEXT = 500
"""Characters of one free sentence or question."""


def open_case(path: Path, series: str | None, limits: ReadLimits, hu_fix: HuFix, progress: Progress = silent) -> Case:
    """Read a CT file, DICOM folder or archive into a new case. StudyError says what is wrong with it."""
    study = open_study(path, series=series, limits=limits, progress=progress, hu_fix=hu_fix)
    return Case(study, path.name)


def find_organs(case: Case, segmenter: Segmenter, progress: Progress = silent) -> OrganMasks:
    """Segment the case and keep the masks; what was worked out from older masks is dropped."""
    masks = segmenter.segment(case.volume, progress)
    keep_masks(case, masks)
    return masks


def keep_masks(case: Case, masks: OrganMasks) -> None:
    """Make `masks` the case's masks."""
    with case.seeing:
        case.masks = masks
        case.groundings.clear()
        case.features.clear()


def read_report(case: Case, text: str) -> ParsedReport:
    """Parse a report and make it the case's; ReportError for something that is no report."""
    report = parse_report(text)
    case.forget_report()
    case.report = report
    return report


def see_with(case: Case, engine: GroundingEngine, progress: Progress = silent) -> PatchFeatures:
    """The case's patch vectors by `engine`, computed once."""
    with case.seeing:
        if engine.name not in case.features:
            case.features[engine.name] = engine.embed_volume(case.volume, case.masks, progress)
        return case.features[engine.name]


def canvas_of(case: Case, engine: GroundingEngine, progress: Progress = silent) -> tuple[PatchFeatures, Canvas]:
    """The case as `engine` sees it, and the grid its heat is drawn on."""
    features = see_with(case, engine, progress)
    return features, make_canvas(case.volume, features, case.masks)


def ground_report(case: Case, engine: GroundingEngine, progress: Progress = silent) -> tuple[SentenceGrounding, ...]:
    """Every sentence of the case's report, found in its CT."""
    if case.report is None:
        raise ReportError("There is no report to look for. Paste one first.")
    features, canvas = canvas_of(case, engine, part_of(progress, 0.0, 0.7))
    queries = [query_of(sentence) for sentence in case.report.sentences]
    found = ground_sentences(engine, features, canvas, queries, progress=part_of(progress, 0.7, 1.0))
    for one in found:
        case.groundings[engine.name, one.text] = one
    return found


def ground_text(case: Case, engine: GroundingEngine, text: str, progress: Progress = silent) -> SentenceGrounding:
    """One free sentence, found in the CT; contrasted with the report's sentences where there is one."""
    text = text.strip()
    if not text or len(text) > MAX_FREE_TEXT:
        raise ReportError(f"Found {len(text)} characters. Expected one sentence of at most {MAX_FREE_TEXT}.")
    known = case.groundings.get((engine.name, text))
    if known is not None:
        return known
    features, canvas = canvas_of(case, engine, part_of(progress, 0.0, 0.9))
    asked = query_of(parse_report(text).sentences[0])
    others = case.report.sentences if case.report else ()
    queries = [replace(asked, index=0, text=text, negation=negate_sentence(text)), *map(query_of, others)]
    found = ground_sentences(engine, features, canvas, queries)[0]
    case.groundings[engine.name, text] = found
    return found


def find_findings(case: Case, engine: GroundingEngine, progress: Progress = silent) -> tuple[FindingScore, ...]:
    """The 18 CT-RATE findings of the open CT, without its report."""
    features, canvas = canvas_of(case, engine, part_of(progress, 0.0, 0.5))
    judged = judge_organs(engine, case.volume, case.masks, part_of(progress, 0.5, 0.8))
    return score_findings(engine, features, canvas, judged, part_of(progress, 0.8, 1.0))


def groundings_of(case: Case, engine_name: str) -> list[SentenceGrounding]:
    """What is known of the report's sentences by an engine, in their order; empty before `ground_report`."""
    sentences = case.report.sentences if case.report else ()
    found = (case.groundings.get((engine_name, sentence.text)) for sentence in sentences)
    return [one for one in found if one is not None]


def rank_at(
    groundings: Sequence[SentenceGrounding], point_mm: Sequence[float], most: int = 5
) -> list[tuple[SentenceGrounding, float]]:
    """Sentences with the hottest heat at a patient point (3,) mm, hottest first, with that heat in [0, 1]."""
    warm = []
    for one in groundings:
        voxel = np.rint(one.map.grid.to_voxel(point_mm)).astype(int)
        if (voxel >= 0).all() and (voxel < one.map.grid.shape).all():
            heat = float(one.map.heat[tuple(voxel)])
            if heat > 0.05:
                warm.append((one, heat))
    return sorted(warm, key=lambda pair: -pair[1])[:most]


def ask_case(
    case: Case, open_engine: Callable[[], GroundingEngine], question: str, progress: Progress = silent
) -> Answer:
    """Answer a question from the case's report, masks and heat maps; the engine is opened only if it is needed."""
    from core.vqa.answer import answer_question

    def ground(sentence: str) -> SentenceGrounding:
        return ground_text(case, open_engine(), sentence, progress)

    measures = measure_organs(case.volume, case.masks) if case.masks else ()
    known = CaseEvidence(case.report, measures, case.masks, case.volume.grid, ground)
    progress(0.0, "Looking for the answer")
    return answer_question(question, known)
