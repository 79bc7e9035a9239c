"""Which structures a sentence names, and on which side."""

import re
from typing import NamedTuple

from core.report.organ_terms import ORGAN_TERMS
from core.report.parsed import Laterality
from core.report.words import Span, TermFinder, Token


class OrganMention(NamedTuple):
    """One organ named in a sentence."""

    names: tuple[str, ...]  # of `core.structures`
    side: Laterality  # as the words say, "" when they do not
    start: int  # first token
    end: int  # token after the last
    kind: str  # "lobe", "segment", "lung" or "other"


SIDES: dict[str, Laterality] = {
    "left": "left",
    "lt": "left",
    "right": "right",
    "rt": "right",
    "both": "bilateral",
    "bilateral": "bilateral",
    "bilaterally": "bilateral",
    "either": "bilateral",
    "bibasal": "bilateral",
    "biapical": "bilateral",
    "bibasilar": "bilateral",
}
_FINDER = TermFinder(ORGAN_TERMS)
_STOPS = frozenset(", ; : ( ) . and or with in at is are was were of".split())
_STOPS_AFTER = frozenset(", ; : ( ) . and or with is are was were".split())
_ORDINALS = {
    word: number
    for number, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split(), start=1
    )
}
_VERTEBRA = re.compile(r"\b(?:(T|Th|D)(1[0-2]|[1-9])|(L)([1-5])|(C)([1-7]))\b", re.IGNORECASE)
_SPINE_WORDS = frozenset(
    """vertebra vertebral vertebrae corpus corpuscle spine disc disk endplate plate spinal level compression deformity
    fracture""".split()
)
_LOBES = frozenset("upper middle lower".split())
_JOINTS = _LOBES | {"and", "or", ",", "/", "-", "&"}
_ABDOMEN = frozenset("liver hepatic kidney renal spleen splenic bladder thyroid".split())


def find_organs(sentence: str, tokens: list[Token]) -> list[OrganMention]:
    """Organs named in a sentence, in order. A lobe or segment without a side takes the only side of the sentence."""
    words = [token.word for token in tokens]
    spans = sorted([*_FINDER.find(words), *_elliptic_lobes(words)], key=lambda span: span.start)
    mentions = [_mention(words, span) for span in spans if span.key != "-" and not _is_misled(words, span)]
    mentions = _without_segments_of_named_lobes(words, mentions)
    return sorted([*mentions, *_vertebrae(sentence, tokens, words)], key=lambda mention: mention.start)


def names_with_side(template: str, side: Laterality) -> tuple[str, ...]:
    """Structure names from a space-separated template; an unknown side gives both."""
    sides = (side,) if side in ("left", "right") else ("left", "right")
    names = [part.replace("{side}", s) for part in template.split() for s in (sides if "{side}" in part else ("",))]
    return tuple(dict.fromkeys(names))


def single_side(sides: set[Laterality]) -> Laterality:
    """The side that several say together: left and right make bilateral."""
    known = sides - {""}
    if not known:
        return ""
    return known.pop() if len(known) == 1 else "bilateral"


def side_words(words: list[str], start: int, end: int) -> set[Laterality]:
    """Sides named between two tokens."""
    return {SIDES[word] for word in words[start:end] if word in SIDES}


def _elliptic_lobes(words: list[str]) -> list[Span]:
    """ "right upper and left lower lobes": the upper lobe is meant too."""
    return [
        Span("lung_middle_lobe_right" if word == "middle" else f"lung_{word}_lobe_{{side}}", i, i + 1)
        for i, word in enumerate(words)
        if word in _LOBES and words[i + 1 : i + 2] and words[i + 1] in _JOINTS and "lobe" in words[i + 2 : i + 7]
    ]


def _is_misled(words: list[str], span: Span) -> bool:
    """A lobe or segment of the liver or thyroid is none of the lung."""
    is_part = "_lobe_" in span.key
    return is_part and "lung" not in words and not _ABDOMEN.isdisjoint(words)


def _mention(words: list[str], span: Span) -> OrganMention:
    side: Laterality = ""
    if span.key == "ribs":
        return _rib(words, span)
    if "{side}" in span.key:
        side = _side_of(words, span)
    elif span.key.endswith(("_left", "_right")):
        side = "left" if span.key.endswith("_left") else "right"
    elif span.key in ("airway", "thyroid_gland"):  # paired parts of one structure
        side = single_side(side_words(words, span.start, span.end)) or side_before(words, span.start)
    return OrganMention(names_with_side(span.key, side), side, span.start, span.end, _kind(words, span))


def _kind(words: list[str], span: Span) -> str:
    if "_lobe_" in span.key:
        text = words[span.start : span.end]
        return "lobe" if not {"lobe", "lingula", "lingular", "fissure", *_LOBES}.isdisjoint(text) else "segment"
    return "lung" if span.key == "lung_{side}" else "other"


def _side_of(words: list[str], span: Span) -> Laterality:
    """The side from the words before, after ("of the left lung"), or the only side of the sentence."""
    side = side_before(words, span.start)
    if side:
        return side
    for i in range(span.end, min(span.end + 8, len(words))):
        if words[i] in SIDES:
            return _joined_side(words, i)
        if words[i] in _STOPS_AFTER:
            break
    everywhere = side_words(words, 0, len(words))
    return everywhere.pop() if len(everywhere) == 1 else _nearest_side(words, span)


def side_before(words: list[str], start: int) -> Laterality:
    """The side named within the five tokens before token `start`, nothing standing between."""
    for i in range(start - 1, max(start - 6, -1), -1):
        if words[i] in SIDES:
            return _joined_side(words, i)
        if words[i] in _STOPS:
            break
    return ""


def _joined_side(words: list[str], i: int) -> Laterality:
    """The side at token i, with "right and left" read as both."""
    sides = {SIDES[words[i]]}
    for step in (-2, 2):
        j = i + step
        if 0 <= j < len(words) and words[j] in SIDES and words[i + step // 2] in ("and", "or", "/", "-", "&"):
            sides.add(SIDES[words[j]])
    return single_side(sides)


def _nearest_side(words: list[str], span: Span) -> Laterality:
    """With several sides in the sentence: the closest one before, joined by a list."""
    for i in range(span.start - 1, -1, -1):
        if words[i] in SIDES:
            return _joined_side(words, i)
        if words[i] in (";", "is", "are", "was", "were", "but"):
            break
    return ""


def _without_segments_of_named_lobes(words: list[str], mentions: list[OrganMention]) -> list[OrganMention]:
    """Drop "anterior segment" beside "lower lobe": the lobe says where it is."""
    kept = []
    for i, mention in enumerate(mentions):
        neighbours = mentions[max(0, i - 2) : i + 3]
        if mention.kind == "segment" and any(_describes(words, mention, other) for other in neighbours):
            continue
        kept.append(mention)
    return kept


def _describes(words: list[str], segment: OrganMention, lobe: OrganMention) -> bool:
    if lobe.kind != "lobe" or (segment.side and lobe.side and segment.side != lobe.side):
        return False
    between = words[min(segment.end, lobe.end) : max(segment.start, lobe.start)]
    return len(between) <= 8 and not {",", ";", "and"} & set(between)


def _rib(words: list[str], span: Span) -> OrganMention:
    """ "left 9th rib", "third rib on the right", "rib 9"."""
    side = _side_of(words, span)
    numbers = _rib_numbers(words, span)
    sides = (side,) if side in ("left", "right") else ("left", "right")
    names = tuple(f"rib_{s}_{number}" for number in numbers for s in sides) or ("ribs",)
    return OrganMention(names, side, span.start, span.end, "other")


def _rib_numbers(words: list[str], span: Span) -> list[int]:
    around = [*words[max(0, span.start - 12) : span.start], *words[span.end : span.end + 1]]
    numbers = []
    for i, word in enumerate(around):
        is_ordinal = word.isdigit() and around[i + 1 : i + 2] and around[i + 1] in ("th", "st", "nd", "rd", ".")
        is_plain = word.isdigit() and i == len(around) - 1
        number = int(word) if is_ordinal or is_plain else _ORDINALS.get(word, 0)
        if 1 <= number <= 12:
            numbers.append(number)
    return numbers


def _vertebrae(sentence: str, tokens: list[Token], words: list[str]) -> list[OrganMention]:
    """ "T7 vertebra", "L1-L2 disc": only where the sentence speaks of the spine (T2 is also an MR weighting)."""
    if _SPINE_WORDS.isdisjoint(words):
        return []
    mentions = []
    for match in _VERTEBRA.finditer(sentence):
        letter, number = (group for group in match.groups() if group)
        name = f"vertebrae_{'T' if letter[0] in 'TtDd' else letter.upper()}{number}"
        start = next(i for i, token in enumerate(tokens) if token.end > match.start())
        mentions.append(OrganMention((name,), "", start, start + 1, "other"))
    return mentions
