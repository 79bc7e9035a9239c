"""Diameters in a sentence, in millimetres."""

import re
from typing import NamedTuple

MM_PER_UNIT = {"m": 1.0, "c": 10.0}
"""First letter of the unit -> millimetres ("mm", "millimetre"; "cm", "centimeter")."""

_NUMBER = r"\d{1,4}(?:[.,]\d{1,3})?"
_UNIT = r"(?:mm|cm|millimet(?:er|re)s?|centimet(?:er|re)s?)(?![\w²³^])"
_SIZE = re.compile(
    rf"(?<![\w.,]){_NUMBER}(?:\s?-?{_UNIT})?(?:\s{{0,2}}(?:x|×|\*|by|to|-|–)\s{{0,2}}{_NUMBER}(?:\s?-?{_UNIT})?){{0,3}}",
    re.IGNORECASE,
)
_PART = re.compile(rf"({_NUMBER})(?:\s?-?({_UNIT}))?", re.IGNORECASE)
_UNIT_AFTER = re.compile(rf"\s{{0,2}}-?({_UNIT})", re.IGNORECASE)
_NOT_A_LESION = re.compile(r"slice|section thickness|cross-?section|interval|collimation|reconstruct", re.IGNORECASE)


class Size(NamedTuple):
    """One measurement as written, "12 x 9 mm" -> (12.0, 9.0)."""

    diameters_mm: tuple[float, ...]
    start: int  # offset in the sentence


def find_sizes(sentence: str) -> list[Size]:
    """Diameters in mm with their offsets; areas, volumes and slice thicknesses are left out."""
    sizes = []
    for match in _SIZE.finditer(sentence):
        diameters = _diameters(sentence, match)
        if diameters and not _NOT_A_LESION.search(sentence[max(0, match.start() - 30) : match.start()]):
            sizes.append(Size(diameters, match.start()))
    return sizes


def _diameters(sentence: str, match: re.Match[str]) -> tuple[float, ...]:
    """Numbers of one measurement in mm; a number without unit takes the one to its right; () without any unit."""
    parts = [(float(number.replace(",", ".")), unit) for number, unit in _PART.findall(match.group())]
    after = _UNIT_AFTER.match(sentence, match.end())
    unit = after.group(1) if after else ""
    diameters: list[float] = []
    for number, own_unit in reversed(parts):
        unit = own_unit or unit
        if unit:
            diameters.insert(0, round(number * MM_PER_UNIT[unit[0].lower()], 3))
    return tuple(diameters)
