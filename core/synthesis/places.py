"""Where a finding is, in words: lobes, zones within them, sides, pleural spaces, organs; with or without a lobe."""

from typing import NamedTuple

import numpy as np

from core.report.parsed import Laterality
from core.structures import side_of
from core.synthesis.claims import Claim, Kind, side_of_organs

ZONES: dict[str, tuple[str, ...]] = {
    "apical": ("apical", "apical"),
    "basal": ("basal", "basilar"),
    "anterior": ("anterior", "ventral"),
    "posterior": ("posterior", "dorsal"),
    "lateral": ("lateral",),
    "medial": ("medial", "paramediastinal"),
    "peripheral": ("peripheral", "outer"),
    "subpleural": ("subpleural", "juxtapleural"),
    "perihilar": ("perihilar", "central"),
    "lingular": ("lingular",),
}
"""Zone of a lobe -> adjectives for it."""

NO_PLACE_CHANCE = 0.1
"""How often a sentence about the lungs keeps to itself where."""
SIDE_ONLY_CHANCE = 0.12
"""How often it tells the lung and not the lobe."""
ZONE_CHANCE = 0.45
"""How often it tells the zone of a lobe where one is known."""


class Place(NamedTuple):
    """A location in the two forms that sentences need, and what it names."""

    phrase: str  # with its preposition: "in the left lower lobe"; "" = nowhere said
    before: str  # in front of the noun: "left lower lobe"; "" where that cannot be said so
    organs: tuple[str, ...]  # structures that the words name
    laterality: Laterality


NOWHERE = Place("", "", (), "")
_IN = ("in", "in", "in", "within", "involving", "at")
_SHORT = {
    "lung_upper_lobe_left": "LUL",
    "lung_lower_lobe_left": "LLL",
    "lung_upper_lobe_right": "RUL",
    "lung_middle_lobe_right": "RML",
    "lung_lower_lobe_right": "RLL",
}


def choose_place(claim: Claim, kind: Kind, rng: np.random.Generator, is_vague: bool = True) -> Place:
    """One way to say where the claim's finding is; never more than is true, at times less where `is_vague`."""
    said = rng.random() if is_vague else 1.0
    if kind.place == "pleura":
        return _pleural(claim.laterality, said, rng)
    if kind.place == "lobe":
        return _pulmonary(claim, said, rng)
    return _paired(claim, kind, said, rng) if kind.place == "paired" else _organ(claim, kind, rng)


def _pulmonary(claim: Claim, said: float, rng: np.random.Generator) -> Place:
    lobes = tuple(name for name in claim.organs if "lobe" in name)
    if said < NO_PLACE_CHANCE or not (lobes or claim.laterality):
        return NOWHERE
    if not lobes or len(lobes) > 2 or said < NO_PLACE_CHANCE + SIDE_ONLY_CHANCE:
        return _lung(claim.laterality, rng)
    if len(lobes) == 2:
        return _two_lobes(lobes, rng)
    zone = claim.zones[rng.integers(len(claim.zones))] if claim.zones and rng.random() < ZONE_CHANCE else ""
    return _in_zone(lobes[0], zone, rng) if zone else _one_lobe(lobes[0], rng)


def _lung(side: Laterality, rng: np.random.Generator) -> Place:
    if side == "bilateral":
        phrase = pick(
            ("in both lungs", "bilaterally", "in the lungs bilaterally", "on both sides", "in either lung"), rng
        )
        before = pick(("bilateral", "bilateral", "bilateral pulmonary"), rng)
        return Place(phrase, before, ("lung_left", "lung_right"), side)
    words = ("in the {} lung", "in the {} lung", "within the {} lung", "on the {} side", "in the {} hemithorax")
    before = pick(("{} lung", "{}-sided", "{} pulmonary"), rng)
    return Place(pick(words, rng).format(side), before.format(side), (f"lung_{side}",), side)


def _one_lobe(name: str, rng: np.random.Generator) -> Place:
    side, level = side_of(name), name.split("_")[1]
    plain = f"{side} {level} lobe"
    options = [f"the {plain}"] * 4 + [f"the {level} lobe of the {side} lung", f"the {side} lung {level} lobe"]
    options += [f"the {_SHORT[name]}", f"the {level} lobe on the {side}"]
    if level == "middle":
        options += ["the middle lobe", "the RML"]
    where = pick(_IN, rng)
    before = pick((plain, plain, _SHORT[name], f"{side} {level} lobar" if level != "middle" else plain), rng)
    return Place(f"{where} {pick(tuple(options), rng)}", before, (name,), _side(name))


def _in_zone(name: str, zone: str, rng: np.random.Generator) -> Place:
    """A lobe with the part of it: "in the posterior basal left lower lobe", "at the right lung apex"."""
    side, level = side_of(name), name.split("_")[1]
    word = pick(ZONES[zone], rng)
    plain = f"{side} {level} lobe"
    options = [
        f"in the {word} {plain}",
        f"in the {word} part of the {plain}",
        f"in the {word} aspect of the {plain}",
        f"in the {plain}, {word} location",
        f"in the {side} lung {level} lobe {word} segment" if zone in _SEGMENTAL else f"in the {word} {plain}",
        f"in the {word} segment of the {plain}" if zone in _SEGMENTAL else f"in a {word} location of the {plain}",
    ]
    options += [template.format(side=side) for template in _SPECIAL.get((zone, level), ())]
    phrase = pick(tuple(options), rng).replace("in a outer", "in an outer")
    return Place(phrase, f"{word} {plain}" if zone != "lingular" else "lingular", (name,), _side(name))


_SEGMENTAL = frozenset(("apical", "anterior", "posterior", "lateral", "medial", "lingular"))
_SPECIAL: dict[tuple[str, str], tuple[str, ...]] = {
    ("apical", "upper"): ("at the {side} lung apex", "at the {side} apex", "in the {side} apical region"),
    ("basal", "lower"): ("at the {side} lung base", "at the {side} base", "in the basal segments of the {side} lung"),
    ("lingular", "upper"): ("in the lingula", "in the lingula of the left lung", "in the lingular segment"),
}
"""Zones that have a name of their own in one lobe."""


def _two_lobes(lobes: tuple[str, ...], rng: np.random.Generator) -> Place:
    sides, levels = [side_of(name) for name in lobes], [name.split("_")[1] for name in lobes]
    side = side_of_organs(lobes)
    plain = [f"{s} {level} lobe" for s, level in zip(sides, levels, strict=True)]
    options = [f"in the {plain[0]} and the {plain[1]}", f"in the {plain[0]} and {plain[1]}"]
    before = ""
    if sides[0] == sides[1]:
        options += [f"in the {sides[0]} {levels[0]} and {levels[1]} lobes"]
        options += [f"in the {levels[0]} and {levels[1]} lobes of the {sides[0]} lung"]
    elif levels[0] == levels[1]:
        options += [f"in both {levels[0]} lobes", f"in the {levels[0]} lobes bilaterally"]
        options += [f"in the {levels[0]} lobes of both lungs", f"in both lung {levels[0]} lobes"]
        before = f"bilateral {levels[0]} lobe"
    return Place(pick(tuple(options), rng), before, lobes, side)


def _pleural(side: Laterality, said: float, rng: np.random.Generator) -> Place:
    if side == "" or said < NO_PLACE_CHANCE:
        return NOWHERE
    if side == "bilateral":
        phrase = pick(("on both sides", "bilaterally", "in both pleural spaces", "in both hemithoraces"), rng)
        return Place(phrase, "bilateral", ("pleura_left", "pleura_right"), side)
    words = ("on the {}", "on the {} side", "in the {} pleural space", "in the {} hemithorax", "at the {} side")
    before = pick(("{}", "{}", "{}-sided"), rng)
    return Place(pick(words, rng).format(side), before.format(side), (f"pleura_{side}",), side)


_ORGAN_PLACES: dict[str, tuple[str, ...]] = {
    "lymph node": ("in the mediastinum", "in the mediastinum", "in the mediastinal fat"),
    "liver cyst": ("in the liver", "in the liver parenchyma", "within the liver", "in the hepatic parenchyma"),
    "pacemaker lead": (
        "in the heart",
        "projecting over the heart",
        "within the cardiac chambers",
        "ending in the heart",
    ),
    "aortic calcification": ("", "along the thoracic aorta", "in the aortic wall"),
    "hiatal hernia": ("", "", "at the gastroesophageal junction", "behind the heart"),
    "pericardial effusion": ("", "", "", "around the heart"),
}
"""Kind -> where it is besides what its noun says; an absent thing is not placed exactly."""


def _paired(claim: Claim, kind: Kind, said: float, rng: np.random.Generator) -> Place:
    """One of a pair of organs: "in the left kidney"; the words for both sides where it is bilateral."""
    side = claim.laterality
    if side == "" or said < NO_PLACE_CHANCE:
        return NOWHERE
    phrase = pick(kind.phrases, rng)
    if side == "bilateral":
        return Place(pick(("on both sides", "bilaterally"), rng), "bilateral", claim.organs, side)
    return Place(phrase.format(side=side), pick((side, f"{side}-sided", side), rng), claim.organs, side)


def _organ(claim: Claim, kind: Kind, rng: np.random.Generator) -> Place:
    phrases = kind.phrases or _ORGAN_PLACES.get(claim.kind, ("",))
    phrase = phrases[0] if claim.existence == "absent" else pick(phrases, rng)
    return Place(phrase, "", claim.organs, claim.laterality)


def _side(name: str) -> Laterality:
    return "left" if side_of(name) == "left" else "right"


def pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    """One of the options, all alike."""
    return options[rng.integers(len(options))]


def draw_zones(lobe: str, rng: np.random.Generator) -> tuple[str, ...]:
    """Zones that can be true together of a place in a lobe, without any CT behind it."""
    level = lobe.split("_")[1]
    along = {"upper": ("apical", "anterior", "posterior"), "middle": ("lateral", "medial"), "lower": ("basal",)}[level]
    if lobe == "lung_upper_lobe_left":
        along = (*along, "lingular")
    depth = ("peripheral", "subpleural", "perihilar", "posterior", "lateral", "anterior")
    first, second = pick(along, rng), pick(depth, rng)
    is_odd = {first, second} in ({"anterior", "posterior"}, {"lingular", "posterior"}, {"medial", "lateral"})
    return (first,) if is_odd or first == second else (first, second)
