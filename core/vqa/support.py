"""What the grounding engine says of a sentence, in words and as evidence."""

from typing import Literal, NamedTuple

from core.errors import EngineError
from core.grounding.heatmap import SentenceGrounding
from core.vqa.evidence import CaseEvidence, Evidence, Point
from core.vqa.wording import say_organs, say_point

PRESENT_FROM = 0.65
ABSENT_UNTIL = 0.35
"""Probabilities between the two decide nothing."""


_SHOWN_BY: dict[str, tuple[str, ...]] = {
    "mediastinum": ("heart", "aorta", "trachea", "airway", "esophagus", "pulmonary_artery", "superior_vena_cava"),
    "pleura_left": ("lung_left",),
    "pleura_right": ("lung_right",),
    "pericardium": ("heart",),
    "coronary_arteries": ("heart",),
    "airway": ("lung",),
    "pulmonary_artery": ("heart", "lung"),
    "bones": ("spine", "ribs", "sternum"),
    "ribs": ("lung",),
}


_VERDICTS: dict[str, Literal["present", "absent", "unclear"]] = {
    "supported": "present",
    "no support": "absent",
    "cannot tell": "unclear",
}


class Support(NamedTuple):
    """The heat map's word on one sentence."""

    verdict: Literal["present", "absent", "unclear", "none"]  # "none" = no engine
    probability: float
    evidence: Evidence
    words: str  # for the answer, "" without an engine
    is_in_place: bool  # False = the peak lies outside the organs it was expected in


def support_of(case: CaseEvidence, sentence: str, organs: tuple[str, ...] = ()) -> Support:
    """Ground a claim in the open CT; `organs` are where its peak is expected, () for anywhere."""
    if case.ground is None:
        return Support("none", 0.0, Evidence(""), "", True)
    try:
        grounding = case.ground(sentence)
    except EngineError as error:
        return Support("none", 0.0, Evidence(""), f" The heat map is missing: {error}", True)
    x, y, z = (float(value) for value in grounding.peak_ras_mm)
    organ = case.organ_at((x, y, z)) or max(grounding.organs, key=lambda name: grounding.organs[name], default="")
    evidence = Evidence("heat map", organ, (x, y, z))
    in_place = not organs or _is_in_place(case, (x, y, z), _with_neighbours(organs))
    verdict = _verdict(grounding)
    return Support(verdict, grounding.probability, evidence, _words(organ, (x, y, z)), in_place)


def _is_in_place(case: CaseEvidence, peak: Point, organs: tuple[str, ...]) -> bool:
    """Whether the peak lies near one of the organs; where masks lack them all, whether it lies in no other organ."""
    near = case.is_near(peak, organs)
    return case.organ_at(peak) in ("", "body") if near is None and case.masks is not None else near is not False


def _with_neighbours(organs: tuple[str, ...]) -> tuple[str, ...]:
    """Organs and those that masks show in their stead: no mask divides the mediastinum or draws a coronary artery."""
    return (*organs, *(near for organ in organs for near in _SHOWN_BY.get(organ, ())))


def _verdict(grounding: SentenceGrounding) -> Literal["present", "absent", "unclear"]:
    """What was concluded of a claim; of a bare probability what lies well away from one half."""
    if grounding.judgement is not None:
        return _VERDICTS[grounding.support]
    probability = grounding.probability
    if probability >= PRESENT_FROM:
        return "present"
    return "absent" if probability <= ABSENT_UNTIL else "unclear"


def _words(organ: str, peak: Point) -> str:
    place = f" in the {say_organs((organ,))}" if organ else ""
    return f"{place} at {say_point(peak)}"
