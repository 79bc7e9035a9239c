"""Families of free sentences: any noun at any place, in everyday patterns, with near opposites.

The words are random; what is learned is what "no", "left", "upper" and a number do to any sentence, and which words can
stand for each other. Patterns are plain data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from core.report.parsed import Existence, Laterality
from core.synthesis.statement import Statement
from trainers.text_frames import PLAIN_WORDS
from trainers.text_rules import OPPOSITE, OTHER_SIDE, deny, mirror
from trainers.text_words import Lexicon

PRESENT = (
    "{An} sits in the {p}.",
    "The {p} contains {an}.",
    "The {p} shows {an}.",
    "{A} {n}, {p}.",
    "{P}: {a} {n}.",
    "{P}: {a} {n}, {s}.",
    "{N} within the {p}, {a}.",
    "In the {p} lies {an}{s_of}.",
    "{N} involving the {p}.",
    "I see {an} at the {p}{s_of}.",
    "The {p} is affected by {a} {n}.",
    "The {p} has {an}{s_of}.",
    "{N} occupies part of the {p}.",
    "{N} next to the {p}{s_of}.",
    "{An} arises from the {p}.",
    "The {n} extends into the {p}.",
    "{N} persists in the {p}.",
    "There remains {n} in the {p}.",
    "{N} has appeared in the {p}.",
    "{P} with {a} {n}.",
    "{S} {n} in the {p}.",
    "{A} {n} of the {p}{s_of}.",
    "{P} {n}.",
    "{P} {n}, {s}.",
    "The {p} bears {an}.",
    "Presence of {n} in the {p}.",
    "{N} surrounds the {p}.",
    "{N} is still there in the {p}.",
    "{An} can be made out in the {p}{s_of}.",
    "The {p} demonstrates {a} {n}, {s}.",
    "{N} compresses the {p}.",
    "{N} tracks along the {p}.",
    "{P} full of {n}.",
    "Known {n} of the {p}.",
)
"""Something is there. Slots: noun n, adjective a, "an adjective noun" an, place p, size s; s_of is " of SIZE"."""
ABSENT = (
    "The {p} contains no {n}.",
    "The {p} is free from {n}.",
    "No {a} {n}, {p}.",
    "{P}: no {n}.",
    "The {p} lacks {an}.",
    "The {p} does not show {an}.",
    "{N} in the {p} is gone.",
    "{N} is missing from the {p}.",
    "The {p} is spared by {n}.",
    "Nothing like {n} in the {p}.",
    "{N} could not be found in the {p}.",
    "The {n} in the {p} has cleared.",
    "Without {n} in the {p}.",
    "{N} is excluded in the {p}.",
    "{N} no longer exists in the {p}.",
    "The {p} is without {n}.",
    "Neither {n} nor {n2} in the {p}.",
    "The {n} of the {p} has vanished.",
    "I see no {n} at the {p}.",
    "{N} does not involve the {p}.",
    "{P} clear of {n}.",
    "The {p} fails to show {an}.",
    "{N} of the {p} was removed.",
    "None of the {n} remains in the {p}.",
    "{P} has no {n}.",
    "{N} is absent from the {p}.",
    "Absent {n} in the {p}.",
    "{N} in the {p} was ruled out.",
)
"""It is not."""
UNCERTAIN = (
    "Perhaps {n} in the {p}.",
    "{N} in the {p} is conceivable.",
    "The {p} may contain {an}.",
    "{An} in the {p} is possible.",
    "It is unclear whether there is {n} in the {p}.",
    "{N} of the {p} is suspected.",
    "{P}: {n}?",
    "The {p} possibly shows {n}.",
)
"""It may be."""
PROPERTY = (
    "The {p} is {a}.",
    "{P} {a}.",
    "{A} {p}.",
    "The {p} looks {a}.",
    "The {p} appears {a}.",
    "{P}: {a}.",
    "The {p} remains {a}.",
    "The {p} has become {a}.",
    "I find the {p} {a}.",
)
"""A place is of some kind."""
NOT_PROPERTY = (
    "The {p} is not {a}.",
    "{P} not {a}.",
    "The {p} does not look {a}.",
    "The {p} does not appear {a}.",
    "{P}: not {a}.",
    "The {p} is no longer {a}.",
    "The {p} is neither {a} nor {a2}.",
)
"""It is not."""
DEED = (
    "The {n} {vs} the {p}.",
    "{An} {vs} the {p}.",
    "{N} {vs} the {p}.",
    "{N}, {s}, {vs} the {p}.",
    "A {n} that {vs} the {p}.",
)
"""A thing does something to a place."""
NOT_DEED = (
    "The {n} does not {v} the {p}.",
    "No {n} {vs} the {p}.",
    "{N} does not {v} the {p}.",
    "The {n} no longer {vs} the {p}.",
    "No {a} {n} {vs} the {p}.",
    "The {p}: no {n} {vs} it.",
)
"""It does not."""
STATE = (
    "The {p} {vs}.",
    "{P} {vs}.",
    "Here the {p} {vs}.",
    "The {p} still {vs}.",
    "The {p} {vs} as before.",
)
"""A place does something."""
NOT_STATE = (
    "The {p} does not {v}.",
    "{P} does not {v}.",
    "The {p} never {vs}.",
    "The {p} no longer {vs}.",
    "It is not so that the {p} {vs}.",
)
"""It does not."""
_SIDED = ("{side} {w}", "{side} {w}", "{w} on the {side}", "{side}-sided {w}", "{w} of the {side} side")
_ZONES: dict[str, tuple[str, ...]] = {
    "upper": ("{side} upper lobe", "{side} upper zone", "upper {side} lung", "{side} apex", "apex of the {side} lung",
              "{S}UL", "upper lobe of the {side} lung", "{side} lung apex", "{side} superior lobe"),
    "lower": ("{side} lower lobe", "{side} lower zone", "lower {side} lung", "{side} base", "base of the {side} lung",
              "{S}LL", "lower lobe of the {side} lung", "{side} lung base", "{side} inferior lobe"),
    "middle": ("middle lobe", "right middle lobe", "RML", "middle lobe of the right lung", "right middle zone"),
    "lung": ("{side} lung", "{side} hemithorax", "{side} chest", "lung on the {side}"),
    "pleura": ("{side} pleura", "{side} pleural cavity", "{side} chest cavity", "pleura on the {side}"),
    "both": ("both lungs", "both sides", "lungs", "left and right lung", "either lung"),
}  # fmt: skip
"""Zone of a lung -> ways to say it; {S} is the side's letter."""
SIZE_FACTORS = (0.3, 0.45, 2.2, 3.5)
MEDICAL_CHANCE = 0.6
"""How often a noun comes from reports."""
SYNONYM_CHANCE = 0.5
"""How often a paraphrase takes other words as well as another pattern."""


@dataclass(frozen=True)
class FreeClaim:
    """What a free sentence says."""

    sort: Literal["thing", "property", "deed", "state"]
    existence: Existence
    noun: str
    adjective: str
    zone: str
    """Key of the zones, or a random word."""
    side: Laterality
    size_mm: float | None
    verb: str


class _Told(NamedTuple):
    """A claim's key for likeness, the same for the whole family."""

    key: str
    lexicon: Lexicon


def draw_free_family(lexicon: Lexicon, words: Sequence[str], rng: np.random.Generator) -> list[Statement]:
    """Two to four sentences of one claim, and near opposites by pattern and by rule."""
    claim = _draw_claim(lexicon, words, rng)
    told = _Told(f"free {rng.integers(1 << 40)}", lexicon)
    first = _write(claim, told, rng)
    same = [first, *(_write(claim, told, rng, SYNONYM_CHANCE) for _ in range(int(rng.integers(1, 4))))]
    rivals = [*deny(first), *mirror(first), _write(replace(claim, existence=OPPOSITE[claim.existence]), told, rng)]
    if claim.side in ("left", "right"):
        rivals.append(_write(_mirrored(claim), told, rng))
    rivals += _near_misses(claim, told, lexicon, rng)
    chosen = rng.permutation(len(rivals))[: int(rng.integers(3, 6))]
    return [*same, *(rivals[at] for at in chosen)]


def _near_misses(claim: FreeClaim, told: _Told, lexicon: Lexicon, rng: np.random.Generator) -> list[Statement]:
    """Another zone, another size, in doubt, the opposite adjective."""
    found = []
    if claim.zone in ("upper", "lower"):
        found.append(_write(replace(claim, zone="lower" if claim.zone == "upper" else "upper"), told, rng))
    if claim.size_mm is not None and claim.existence == "present":
        factor = float(rng.choice(SIZE_FACTORS))
        found.append(_write(replace(claim, size_mm=max(1.0, round(claim.size_mm * factor))), told, rng, sized=True))
    if claim.existence == "present" and claim.sort == "thing":
        found.append(_write(replace(claim, existence="uncertain"), told, rng))
    others = [other for one, other in lexicon.opposites if one == claim.adjective]
    if claim.sort == "property" and others:
        opposite = _write(replace(claim, adjective=others[int(rng.integers(len(others)))]), told, rng)
        found += [opposite._replace(existence=OPPOSITE[claim.existence])] * 2
    return found


def _draw_claim(lexicon: Lexicon, words: Sequence[str], rng: np.random.Generator) -> FreeClaim:
    sorts: tuple[Literal["thing", "property", "deed", "state"], ...] = (
        "thing",
        "thing",
        "thing",
        "thing",
        "property",
        "property",
        "deed",
        "state",
    )
    sort = sorts[int(rng.integers(len(sorts)))]
    zone = str(rng.choice([*_ZONES, "other", "other"], p=[0.18, 0.18, 0.06, 0.1, 0.06, 0.06, 0.18, 0.18]))
    side: Laterality = "left" if rng.random() < 0.5 else "right"
    if zone in ("middle", "both"):
        side = "right" if zone == "middle" else "bilateral"
    elif zone == "other":
        zone = _draw_noun(lexicon, words, rng)
        side = side if rng.random() < 0.6 else ""
    existence: Existence = "present" if rng.random() < 0.62 else "absent"
    if sort == "property" and rng.random() < 0.5:
        adjective = lexicon.opposites[int(rng.integers(len(lexicon.opposites)))][0]
    else:
        adjective = _any(lexicon.words("adj"), rng)
    size = float(rng.integers(3, 90)) if rng.random() < 0.5 else None
    verb = _any(lexicon.words("verb"), rng)
    return FreeClaim(sort, existence, _draw_noun(lexicon, words, rng), adjective, zone, side, size, verb)


def _draw_noun(lexicon: Lexicon, words: Sequence[str], rng: np.random.Generator) -> str:
    if rng.random() < MEDICAL_CHANCE:
        return _any(PLAIN_WORDS, rng)
    return _any(lexicon.words("noun"), rng) if rng.random() < 0.7 else _any(words, rng)


def _mirrored(claim: FreeClaim) -> FreeClaim:
    """The claim on the other side; a left lung has no middle lobe, so that becomes the upper one."""
    return replace(claim, side=OTHER_SIDE[claim.side], zone="upper" if claim.zone == "middle" else claim.zone)


def _write(
    claim: FreeClaim, told: _Told, rng: np.random.Generator, synonyms: float = 0.0, sized: bool = False
) -> Statement:
    patterns = _patterns(claim)
    if sized or (claim.size_mm is not None and claim.existence == "present" and rng.random() < 0.5):
        patterns = tuple(p for p in patterns if "{s" in p.lower()) or patterns
    elif claim.size_mm is None:
        patterns = tuple(p for p in patterns if "{s}" not in p.lower())
    pattern = _any(patterns, rng)
    noun, adjective, verb = claim.noun, claim.adjective, claim.verb
    if rng.random() < synonyms:
        noun, adjective = _swapped(noun, "noun", told.lexicon, rng), _swapped(adjective, "adj", told.lexicon, rng)
        verb = _swapped(verb, "verb", told.lexicon, rng)
    place, size = _place(claim, told.lexicon, rng, synonyms), _size(claim.size_mm, rng)
    other = _any(PLAIN_WORDS, rng)
    an = f"{'an' if adjective[0] in 'aeiou' else 'a'} {adjective} {noun}"
    slots = {"n": noun, "a": adjective, "an": an, "p": place, "s": size, "n2": other, "a2": other}
    slots |= {"v": verb, "vs": _third_person(verb)}
    slots |= {slot.capitalize(): _capital(word) for slot, word in slots.items()}
    text = _capital(pattern.format(**slots, s_of=f" of {size}" if size else ""))
    says_size = bool(size) and "{s" in pattern.lower()
    organs = _organs(claim)
    return Statement(
        text, told.key, claim.existence, organs, claim.side, claim.size_mm if says_size else None, told.key
    )


def _patterns(claim: FreeClaim) -> tuple[str, ...]:
    if claim.sort != "thing":
        tables = {"property": (PROPERTY, NOT_PROPERTY), "deed": (DEED, NOT_DEED), "state": (STATE, NOT_STATE)}
        return tables[claim.sort][claim.existence == "absent"]
    return {"present": PRESENT, "absent": ABSENT, "uncertain": UNCERTAIN}[claim.existence]


def _place(claim: FreeClaim, lexicon: Lexicon, rng: np.random.Generator, synonyms: float) -> str:
    side = claim.side or ""
    if claim.zone in _ZONES:
        return _any(_ZONES[claim.zone], rng).format(side=side, S=side[:1].upper())
    word = _swapped(claim.zone, "noun", lexicon, rng) if rng.random() < synonyms else claim.zone
    return _any(_SIDED, rng).format(side=side, w=word) if side else word


def _organs(claim: FreeClaim) -> tuple[str, ...]:
    """The lobe that a zone is, for likeness."""
    if claim.zone in ("upper", "lower"):
        return (f"lung_{claim.zone}_lobe_{claim.side}",)
    return ("lung_middle_lobe_right",) if claim.zone == "middle" else ()


def _size(size_mm: float | None, rng: np.random.Generator) -> str:
    if size_mm is None:
        return ""
    whole = max(1, round(size_mm))
    if rng.random() < 0.45:
        return f"{whole / 10:.1f} cm" if whole % 10 or rng.random() < 0.5 else f"{whole // 10} cm"
    if rng.random() < 0.2:
        return f"{whole} x {max(1, round(whole * rng.uniform(0.6, 0.95)))} mm"
    return f"{whole} mm"


def _third_person(verb: str) -> str:
    """ "cover" -> "covers", "carry on" -> "carries on"."""
    first, *rest = verb.split(" ")
    if first.endswith(("s", "x", "ch", "sh", "o")):
        first += "es"
    elif first.endswith("y") and first[-2:-1] not in tuple("aeiou"):
        first = first[:-1] + "ies"
    else:
        first += "s"
    return " ".join([first, *rest])


def _swapped(word: str, part: str, lexicon: Lexicon, rng: np.random.Generator) -> str:
    others = lexicon.synonyms[part].get(word, ())
    return _any(others, rng) if others else word


def _any(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
