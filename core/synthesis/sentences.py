"""Claims into words: one finding, one sentence, in several styles."""

from collections.abc import Mapping

import numpy as np

from core.synthesis.claims import KINDS, Claim, Kind
from core.synthesis.places import Place, choose_place, pick
from core.synthesis.remarks import write_remark
from core.synthesis.sizes import as_prefix, write_size
from core.synthesis.statement import Statement
from core.synthesis.templates import ABSENT, FLUID_MEASURING, MEASURING, PRESENT, STYLES, TAIL, UNCERTAIN, Style

__all__ = ["STYLES", "Statement", "Style", "capitalise", "noun_of", "size_words", "with_article", "write_sentence"]

_TEMPLATES = {"present": PRESENT, "absent": ABSENT, "uncertain": UNCERTAIN}
_SIZE_SLOTS = ("{measuring}", "{tail}", "{sized}", "{Sized}", "{size}")
_PLACE_SLOTS = ("{place}", "{at}", "{At}", "{Label}", "{by}", "{By}", "{a_by}", "{A_by}")
_UNCOUNTED = frozenset(
    "fluid adenopathy lymphadenopathy air atherosclerosis calcification walls opacification glass density".split()
)
_PLURAL_HEADS = frozenset(("bronchi", "septa"))
_GRADE_CHANCE = 0.7

HEADINGS: dict[str, tuple[str, ...]] = {
    "lobe": ("LUNGS", "Lungs", "Lungs and airways", "Lung parenchyma", "LUNGS/AIRWAYS"),
    "pleura": ("PLEURA", "Pleura", "Pleural spaces", "PLEURAL SPACE"),
    "heart": ("HEART", "Heart", "Cardiac", "Heart and pericardium"),
    "aorta": ("AORTA", "Vessels", "Thoracic aorta"),
    "mediastinum": ("MEDIASTINUM", "Mediastinum", "Mediastinum and hila"),
    "esophagus": ("ESOPHAGUS", "Esophagus", "Mediastinum"),
    "liver": ("LIVER", "Liver", "Upper abdomen"),
}
"""Place or organ of a kind -> its heading in a structured report."""


def write_sentence(
    claim: Claim,
    style: Style,
    rng: np.random.Generator,
    kinds: Mapping[str, Kind] = KINDS,
    is_vague: bool = True,
) -> Statement:
    """Put a claim into one sentence that ends in a full stop; `kinds` says what its kind is called.

    Some sentences tell less of the place than the claim does, unless `is_vague` is off.
    """
    kind = kinds[claim.kind]
    template = pick(_TEMPLATES[claim.existence][style], rng)
    place = choose_place(claim, kind, rng, is_vague)
    text = _fill(template, (claim, kind, place), rng)
    if claim.existence == "present":
        text = f"{text[:-1]}{write_remark(claim.kind, rng)}."
    says_size = claim.existence != "absent" and any(slot in template for slot in _SIZE_SLOTS)
    says_place = kind.place == "organ" or any(slot in template for slot in _PLACE_SLOTS)
    return Statement(
        text,
        kind.finding,
        claim.existence,
        place.organs if says_place else (),
        place.laterality if says_place else "",
        claim.size_mm if says_size else None,
        claim.kind,
    )


def _fill(template: str, told: tuple[Claim, Kind, Place], rng: np.random.Generator) -> str:
    claim, kind, place = told
    noun, grade = noun_of(kind, rng), _grade(claim, kind, rng)
    size = write_size(claim, rng) if claim.existence != "absent" else ""
    words = _noun_words((noun, grade), kind, place) | _agreement(noun, "is was has")
    many = pick(kind.plurals, rng)
    words |= {"many": many, "Many": capitalise(many)} | _agreement(many, "are were have")
    words |= _place_words(place) | size_words(size, kind, rng)
    heading = pick(_headings(kind), rng)
    filled = template.format(**words, heading=f"{heading}: ", Heading=f"{heading}: ").replace(" ()", "")
    return capitalise(filled)


def _headings(kind: Kind) -> tuple[str, ...]:
    return HEADINGS.get(kind.place) or HEADINGS.get(kind.organs[0] if kind.organs else "", ("Other findings", "OTHER"))


def _noun_words(named: tuple[str, str], kind: Kind, place: Place) -> dict[str, str]:
    """The noun alone and with its place in front (behind, where there is no such form)."""
    noun, grade = named
    thing = f"{grade} {noun}".strip()
    by = f"{grade} {place.before} {noun}".strip().replace("  ", " ") if place.before else f"{thing}{_blank(place)}"
    words = {"thing": thing, "a_thing": with_article(thing, kind), "by": by, "a_by": with_article(by, kind, noun)}
    return words | {capitalise(slot): capitalise(text) for slot, text in words.items()}


def _place_words(place: Place) -> dict[str, str]:
    at = f"{place.phrase}, " if place.phrase else ""
    label = bare_place(place.phrase)
    return {"place": _blank(place), "at": at, "At": capitalise(at), "Label": f"{label}: " if label else ""}


def size_words(size: str, kind: Kind, rng: np.random.Generator) -> dict[str, str]:
    """The slots of `templates` that hold a size; all empty for ""."""
    if not size:
        return dict.fromkeys(("measuring", "tail", "sized", "Sized", "size"), "")
    patterns = FLUID_MEASURING if kind.place == "pleura" else MEASURING
    prefix = as_prefix(size, rng)
    words = {"measuring": pick(patterns, rng).format(size), "tail": pick(TAIL, rng).format(size)}
    return words | {"sized": prefix, "Sized": prefix, "size": size}


def _agreement(noun: str, verbs: str) -> dict[str, str]:
    """The verb forms of a template that agree with a noun."""
    plural = {"is": "are", "was": "were", "has": "have", "are": "are", "were": "were", "have": "have"}
    singular = {"is": "is", "was": "was", "has": "has", "are": "is", "were": "was", "have": "has"}
    return {verb: (plural if is_plural(noun) else singular)[verb] for verb in verbs.split()}


def is_plural(noun: str) -> bool:
    """Whether a noun phrase takes "are": judged by the word before "of", "in" or "with"."""
    head = noun
    for joint in (" of ", " in ", " with ", " around ", " through "):
        head = head.split(joint)[0]
    head = head.split()[-1]
    return head in _PLURAL_HEADS or (head.endswith("s") and not head.endswith(("ss", "is", "us")))


def noun_of(kind: Kind, rng: np.random.Generator) -> str:
    """One of the kind's names, the plainest more often."""
    return kind.nouns[0] if rng.random() < 0.12 else pick(kind.nouns, rng)


def _grade(claim: Claim, kind: Kind, rng: np.random.Generator) -> str:
    if claim.grade is None or not kind.grades or claim.existence == "absent" or rng.random() >= _GRADE_CHANCE:
        return ""
    return kind.grades[min(claim.grade, len(kind.grades) - 1)]


def _blank(place: Place) -> str:
    return f" {place.phrase}" if place.phrase else ""


def bare_place(phrase: str) -> str:
    """ "in the left lower lobe" -> "Left lower lobe", for telegraphic lines."""
    words = phrase
    for opening in ("in ", "on ", "at ", "within ", "involving ", "along ", "the "):
        words = words.removeprefix(opening)
    return capitalise(words)


def with_article(phrase: str, kind: Kind, noun: str = "") -> str:
    """ "a" or "an" in front of a countable noun phrase; `noun` is the noun in it, where words follow it."""
    named = noun or phrase
    head = named.split(" of ")[0].split(" in ")[0].split(" with ")[0].split()[-1]
    if not kind.is_countable or head in _UNCOUNTED or is_plural(named):
        return f"an {phrase}" if phrase.startswith("area ") else phrase
    starts_with_vowel = phrase[0] in "aeiou" or phrase[:2].isupper()  # "an RUL nodule"
    return f"an {phrase}" if starts_with_vowel else f"a {phrase}"


def capitalise(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
