"""Claims into words: one finding, one sentence, in several styles, all written for this project."""

from typing import Literal, NamedTuple

import numpy as np

from core.report.parsed import Existence, Laterality
from core.structures import spoken_name
from core.synthesis.claims import KINDS, Claim, Kind

Style = Literal["prose", "brief", "formal"]
STYLES: tuple[Style, ...] = ("prose", "brief", "formal")


class Statement(NamedTuple):
    """One generated sentence and what it claims."""

    text: str
    finding: str
    """As `core.report` names it; "" for a statement of normality."""
    existence: Existence
    organs: tuple[str, ...]
    laterality: Laterality
    size_mm: float | None
    kind: str
    """Key of `claims.KINDS`, or "normal"."""


_PRESENT: dict[Style, tuple[str, ...]] = {
    "prose": (
        "There is {a_thing}{in_place}{measuring}.",
        "{A_thing} is seen{in_place}{measuring}.",
        "We see {a_thing}{in_place}{measuring}.",
        "{In_place}there is {a_thing}{measuring}.",
        "{A_thing}{measuring} lies{in_place}.",
        "The scan shows {a_thing}{in_place}{measuring}.",
    ),
    "brief": (
        "{Thing}{in_place}{size_tail}.",
        "{Size_first}{thing}{in_place}.",
        "{Place_colon}{thing}{size_tail}.",
        "{Thing} present{in_place}{size_tail}.",
    ),
    "formal": (
        "{A_thing} is identified{in_place}{measuring}.",
        "{A_thing} is noted{in_place}{measuring}.",
        "{In_place}{a_thing} is demonstrated{measuring}.",
        "Findings include {a_thing}{in_place}{measuring}.",
        "Evidence of {thing}{in_place}{size_tail}.",
    ),
}
_ABSENT: dict[Style, tuple[str, ...]] = {
    "prose": (
        "There is no {thing}{in_place}.",
        "No {many}{in_place}.",
        "We see no {many}{in_place}.",
        "There are no signs of {thing}{in_place}.",
        "The scan shows no {many}{in_place}.",
    ),
    "brief": ("No {many}{in_place}.", "No {thing}.", "Negative for {thing}.", "{Thing}{in_place}: none."),
    "formal": (
        "No {many} is identified{in_place}.",
        "There is no evidence of {thing}{in_place}.",
        "{In_place}no {many} can be demonstrated.",
        "No convincing {thing}{in_place}.",
        "{Thing} is not present{in_place}.",
    ),
}
_UNCERTAIN: dict[Style, tuple[str, ...]] = {
    "prose": (
        "There may be {a_thing}{in_place}{measuring}.",
        "Possible {thing}{in_place}{size_tail}.",
        "{A_thing}{in_place} cannot be excluded.",
    ),
    "brief": ("Possible {thing}{in_place}{size_tail}.", "Suspected {thing}{in_place}.", "Query {thing}{in_place}."),
    "formal": (
        "Findings{in_place} are suspicious for {thing}.",
        "{A_thing} is suspected{in_place}{measuring}.",
        "Appearances{in_place} might represent {thing}.",
        "{A_thing}{in_place} is questionable.",
    ),
}
_TEMPLATES = {"present": _PRESENT, "absent": _ABSENT, "uncertain": _UNCERTAIN}
_SIDE_LUNGS = {"left": "left lung", "right": "right lung", "bilateral": "both lungs"}


def write_sentence(claim: Claim, style: Style, rng: np.random.Generator) -> Statement:
    """Put a claim into one sentence that ends in a full stop."""
    kind = KINDS[claim.kind]
    templates = _TEMPLATES[claim.existence][style]
    template = templates[rng.integers(len(templates))]
    text = _fill(template, claim, kind, rng)
    size = claim.size_mm if _tells_size(template) else None
    return Statement(text, kind.finding, claim.existence, claim.organs, claim.laterality, size, claim.kind)


def _tells_size(template: str) -> bool:
    return any(slot in template for slot in ("{measuring}", "{size_tail}", "{Size_first}"))


def _fill(template: str, claim: Claim, kind: Kind, rng: np.random.Generator) -> str:
    thing = _thing(claim, kind, rng)
    place = _place(claim, kind, rng)
    size = _size(claim, rng)
    many = kind.plurals[rng.integers(len(kind.plurals))]
    filled = template.format(
        thing=thing,
        Thing=_capital(thing),
        a_thing=_with_article(thing, kind),
        A_thing=_capital(_with_article(thing, kind)),
        many=many,
        in_place=f" {place}" if place else "",
        In_place=f"{_capital(place)}, " if place else "",
        Place_colon=f"{_bare_place(place)}: " if place else "",
        measuring=_measuring(size, rng),
        size_tail=f", {size}" if size else "",
        Size_first=f"{size} " if size else "",
    )
    return _capital(filled)


def _thing(claim: Claim, kind: Kind, rng: np.random.Generator) -> str:
    """The noun with its grade and, for the pleura, sometimes its side."""
    noun = kind.nouns[rng.integers(len(kind.nouns))]
    if claim.grade is not None and kind.grades and claim.existence != "absent" and rng.random() < 0.8:
        noun = f"{kind.grades[min(claim.grade, len(kind.grades) - 1)]} {noun}"
    return noun


def _place(claim: Claim, kind: Kind, rng: np.random.Generator) -> str:
    """Where, with its preposition: "in the left lower lobe", "on the right"; "" when the noun says it all."""
    if kind.place == "pleura":
        return _pleural_place(claim.laterality, rng)
    if kind.place == "lobe":
        return _lung_place(claim, rng)
    return _organ_place(claim, rng)


def _pleural_place(side: Laterality, rng: np.random.Generator) -> str:
    if side == "":
        return ""
    if side == "bilateral":
        return _pick(("on both sides", "bilaterally", "in both pleural spaces"), rng)
    words = (f"on the {side}", f"on the {side} side", f"in the {side} pleural space", f"in the {side} hemithorax")
    return _pick(words, rng)


def _lung_place(claim: Claim, rng: np.random.Generator) -> str:
    lobes = [name for name in claim.organs if "lobe" in name]
    if not lobes:
        side = _SIDE_LUNGS.get(claim.laterality, "")
        return f"in {side}" if side == "both lungs" else f"in the {side}" if side else ""
    if len(lobes) > 2:
        return (
            f"in {_SIDE_LUNGS['bilateral']}" if claim.laterality == "bilateral" else f"in the {claim.laterality} lung"
        )
    return "in the " + " and the ".join(_lobe_words(name, rng) for name in lobes)


def _lobe_words(name: str, rng: np.random.Generator) -> str:
    """lung_lower_lobe_left -> "left lower lobe" or "lower lobe of the left lung"."""
    plain = spoken_name(name)
    side, level, _ = plain.split()
    options = (plain, plain, plain, f"{level} lobe of the {side} lung")
    if name == "lung_middle_lobe_right":
        options = ("right middle lobe", "right middle lobe", "middle lobe of the right lung", "middle lobe")
    return _pick(options, rng)


def _organ_place(claim: Claim, rng: np.random.Generator) -> str:
    places = {
        "lymph node": ("in the mediastinum", "in the paratracheal region", "near the carina"),
        "liver cyst": ("in the liver", "in the liver parenchyma"),
        "pacemaker lead": ("in the heart", "projecting over the right heart"),
        "aortic calcification": ("", "along the thoracic aorta", "in the aortic wall"),
    }
    return _pick(places.get(claim.kind, ("",)), rng)


def _bare_place(place: str) -> str:
    """ "in the left lower lobe" -> "Left lower lobe", for telegraphic lines."""
    words = place.removeprefix("in ").removeprefix("on ").removeprefix("the ")
    return _capital(words)


def _size(claim: Claim, rng: np.random.Generator) -> str:
    """ "12 mm", "1.2 cm", "12 x 9 mm"; "" when the claim has none."""
    if claim.size_mm is None:
        return ""
    long_mm = max(1, round(claim.size_mm))
    if claim.second_mm is not None and rng.random() < 0.4:
        return f"{long_mm} x {max(1, round(claim.second_mm))} mm"
    if long_mm >= 10 and rng.random() < 0.3:
        return f"{long_mm / 10:.1f} cm"
    return f"{long_mm} mm"


def _measuring(size: str, rng: np.random.Generator) -> str:
    if not size:
        return ""
    return _pick(
        (f", measuring {size}", f" measuring {size}", f" of {size}", f", {size} in diameter", f" ({size})"), rng
    )


def _with_article(thing: str, kind: Kind) -> str:
    if not kind.is_countable or thing.split()[-1] in ("fluid", "adenopathy"):
        return thing
    return f"an {thing}" if thing[0] in "aeiou" else f"a {thing}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]
