"""Where a sentence says to look: the organs that it names, each with its side, and whether it points at anything."""

import re
from typing import NamedTuple

from core.report.mentions import read_sentence
from core.report.organs import OrganMention, find_organs, names_with_side, side_before, side_words, single_side
from core.report.parsed import Laterality, Mention
from core.report.placement import is_only_near
from core.report.places import USUAL_ORGANS
from core.report.words import split_tokens
from core.structures import side_of

HILUM = "hilum"
"""Where vessels and bronchi enter a lung: no structure of its own, so it is told apart here."""

SAID_BY_FINDING: dict[str, tuple[str, ...]] = {
    "Pleural effusion": ("pleura_{side}",),
    "pneumothorax": ("pleura_{side}",),
    "empyema": ("pleura_{side}",),
    "Pericardial effusion": ("pericardium",),
    "Coronary artery wall calcification": ("coronary_arteries",),
    "Hiatal hernia": ("esophagus", "stomach"),
    "Cardiomegaly": ("heart",),
    "splenomegaly": ("spleen",),
}
"""Finding whose name says where it is -> where, "{side}" filled with the side that the sentence gives it, or both."""

_HALVED = frozenset(
    "mediastinum airway breast thyroid_gland body subcutaneous_fat skeletal_muscle ribs bones pulmonary_artery "
    "pulmonary_vein hilum".split()
)
"""Structures without a side of their own of which a sentence can mean one half."""

_WHOLES = {"spine": "vertebrae_", "ribs": "rib_"}
_SIDE_AFTER = re.compile(r"^(?:(?!is |are |was |were |and |with |but )\w+ ){0,3}(?:on|of) (?:the )?(left|right)\b")
_NORMAL = re.compile(
    r"\b(?:normal\w*|unremarkable|natural|clear|patent|preserved|intact|within (?:the )?(?:normal|expected)|no|not|"
    r"without|nor|neither|free|absent|negative|midline|symmetric\w*|homogeneous|measur\w+|diameters?|volumes?)\b",
    re.IGNORECASE,
)


class NamedPlace(NamedTuple):
    """One organ that a sentence names."""

    organ: str  # a structure or union of `core.structures`, or `HILUM`
    side: Laterality  # "left" or "right" = that half of it alone; "" = all of it


class SentencePlaces(NamedTuple):
    """Where a sentence says to look."""

    places: tuple[NamedPlace, ...]  # empty = it names no organ
    side: Laterality  # of the sentence as a whole; counts where it names no organ
    is_spot: bool  # True = it points at something; False = it calls organs normal, or denies a finding


def named_places(text: str) -> SentencePlaces:
    """The organs of one sentence, the smallest that it names: a lobe and not its lung as well.

    Organs that are only near ("adjacent to the aorta") are left out where others are named. "No effusion" names the
    pleura, for an effusion is nowhere else (`SAID_BY_FINDING`); "no nodule" names nothing.
    """
    tokens = split_tokens(text)
    words = [token.word for token in tokens]
    reading = read_sentence(text)
    organs = [organ for organ in find_organs(text, tokens) if organ.names]
    placed = {name for mention in reading.mentions for name in mention.organs}
    firm = [organ for organ in organs if placed & set(organ.names) or not is_only_near(words, organ)] or organs
    kept = [organ for organ in firm if not _is_said_better(organ, firm, reading.mentions)]
    places = [place for organ in kept for place in _places_of(words, organ)]
    places += _from_findings(reading.mentions, places)
    return SentencePlaces(_without_wholes(places), reading.laterality, _is_spot(text, reading.mentions))


def _is_said_better(organ: OrganMention, others: list[OrganMention], mentions: tuple[Mention, ...]) -> bool:
    """Whether another word says more closely where: a lobe beside its lung, a lung beside its bronchi or pleura."""
    lobed = {other.side for other in others if other.kind in ("lobe", "segment")}
    aired = lobed | {other.side for other in others if other.kind == "lung" and _is_lung(other)}
    if organ.kind == "lung" and _is_lung(organ):
        return bool(lobed) and (organ.side in lobed or not organ.side or lobed == {""})
    if organ.names == ("airway",):
        return bool(aired)
    if organ.names[0].startswith("pleura"):
        return bool(aired) and not any(_usual_start(mention).startswith("pleura") for mention in mentions)
    return False


def _is_lung(organ: OrganMention) -> bool:
    return organ.names[0].startswith("lung_")


def _usual_start(mention: Mention) -> str:
    """The first structure in which a finding usually lies, "" for one that can be anywhere."""
    return next(iter(USUAL_ORGANS.get(mention.finding, ("",))))


def _places_of(words: list[str], organ: OrganMention) -> list[NamedPlace]:
    names = (HILUM,) if organ.names[0] == "mediastinum" and len(organ.names) > 1 else organ.names
    inside = single_side(side_words(words, organ.start, organ.end))
    side = organ.side or inside or side_before(words, organ.start) or _side_after(words, organ.end)
    one = side if side in ("left", "right") else ""
    return [NamedPlace(name, one if name in _HALVED else _side_in(name)) for name in names]


def _side_after(words: list[str], end: int) -> Laterality:
    """ "axillary nodes on the left": the side said of an organ within the next words."""
    found = _SIDE_AFTER.match(" ".join(words[end : end + 6]))
    return "" if found is None else "left" if found.group(1) == "left" else "right"


def _from_findings(mentions: tuple[Mention, ...], named: list[NamedPlace]) -> list[NamedPlace]:
    """Organs that a finding's own name says, where the sentence has no other word for them; lungs beside bronchi."""
    places: list[NamedPlace] = []
    for mention in mentions:
        own, usual = SAID_BY_FINDING.get(mention.finding, ()), USUAL_ORGANS.get(mention.finding, ())
        if own and not any(place.organ.startswith(own[0].split("_{")[0]) for place in named):
            places += _sided(own, mention.laterality)
        elif usual[:1] == ("airway",) and any(place.organ == "airway" for place in named):
            places += _sided(usual[1:], mention.laterality)
    return places


def _sided(templates: tuple[str, ...], side: Laterality) -> list[NamedPlace]:
    names = names_with_side(" ".join(templates), side)
    return [NamedPlace(name, _side_in(name)) for name in names]


def _side_in(name: str) -> Laterality:
    """The side that a structure's name carries."""
    side = side_of(name)
    return "left" if side == "left" else "right" if side == "right" else ""


def _without_wholes(places: list[NamedPlace]) -> tuple[NamedPlace, ...]:
    """Each place once, without the spine beside one vertebra or the ribs beside one rib."""
    covered = {whole for whole, part in _WHOLES.items() if any(place.organ.startswith(part) for place in places)}
    return tuple(dict.fromkeys(place for place in places if place.organ not in covered))


def _is_spot(text: str, mentions: tuple[Mention, ...]) -> bool:
    """Whether a sentence points at something: a finding that is or may be there, or what it does not call normal."""
    if mentions:
        return any(mention.existence != "absent" for mention in mentions)
    return _NORMAL.search(text) is None
