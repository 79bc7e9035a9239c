"""A statement turned round or mirrored by the rules of `core.report.rephrase`, with its facts."""

import re

from core.report.parsed import Existence, Laterality
from core.report.rephrase import negate_sentence, swap_side
from core.synthesis.statement import Statement

OPPOSITE: dict[Existence, Existence] = {"present": "absent", "absent": "present", "uncertain": "absent"}
OTHER_SIDE: dict[Laterality, Laterality] = {"left": "right", "right": "left", "bilateral": "bilateral", "": ""}
_NUMBER = re.compile(r"\d+")


def deny(told: Statement) -> list[Statement]:
    """The sentence with the opposite meaning, every fact turned round; [] where the rule loses its side or its size."""
    text = negate_sentence(told.text)
    keeps_side = (swap_side(text) == text) == (swap_side(told.text) == told.text)
    if not keeps_side or _NUMBER.findall(text) != _NUMBER.findall(told.text):
        return []
    also = tuple(fact._replace(text=text, existence=OPPOSITE[fact.existence]) for fact in told.also)
    return [told._replace(text=text, existence=OPPOSITE[told.existence], also=also)]


def mirror(told: Statement) -> list[Statement]:
    """The sentence with its sides exchanged; [] where it names none."""
    text = swap_side(told.text)
    if text == told.text:
        return []
    facts = [
        fact._replace(
            text=text, laterality=OTHER_SIDE[fact.laterality], organs=tuple(mirror_name(name) for name in fact.organs)
        )
        for fact in told.facts
    ]
    return [facts[0]._replace(also=tuple(facts[1:]))]


def mirror_name(name: str) -> str:
    """The structure of the other side; a left lung has no middle lobe, so that becomes the upper one."""
    if name == "lung_middle_lobe_right":
        return "lung_upper_lobe_left"
    return name.replace("left", "right") if "left" in name else name.replace("right", "left")
