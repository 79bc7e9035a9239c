"""What the grounding engine says of a sentence, in words and as evidence."""

from typing import Literal, NamedTuple

from core.errors import EngineError
from core.vqa.evidence import CaseEvidence, Evidence, Point
from core.vqa.wording import say_organs, say_point

PRESENT_FROM = 0.65
ABSENT_UNTIL = 0.35
"""Probabilities between the two decide nothing."""


class Support(NamedTuple):
    """The heat map's word on one sentence."""

    verdict: Literal["present", "absent", "unclear", "none"]  # "none" = no engine
    probability: float
    evidence: Evidence
    words: str  # for the answer, "" without an engine


def support_of(case: CaseEvidence, sentence: str) -> Support:
    """Ground a claim in the open CT."""
    if case.ground is None:
        return Support("none", 0.0, Evidence(""), "")
    try:
        grounding = case.ground(sentence)
    except EngineError as error:
        return Support("none", 0.0, Evidence(""), f" The heat map is missing: {error}")
    x, y, z = (float(value) for value in grounding.peak_ras_mm)
    organ = case.organ_at((x, y, z)) or max(grounding.organs, key=lambda name: grounding.organs[name], default="")
    evidence = Evidence("heat map", organ, (x, y, z))
    return Support(_verdict(grounding.probability), grounding.probability, evidence, _words(organ, (x, y, z)))


def _verdict(probability: float) -> Literal["present", "absent", "unclear"]:
    if probability >= PRESENT_FROM:
        return "present"
    return "absent" if probability <= ABSENT_UNTIL else "unclear"


def _words(organ: str, peak: Point) -> str:
    place = f" in the {say_organs((organ,))}" if organ else ""
    return f"{place} at {say_point(peak)}"
