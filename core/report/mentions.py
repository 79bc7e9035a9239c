"""What one sentence states: findings with existence, organs, side and sizes."""

from typing import NamedTuple

from core.report.lexicon import FINDING_TERMS
from core.report.negation import Statement, split_clauses
from core.report.organs import OrganMention, find_organs, names_with_side, side_words, single_side
from core.report.parsed import Laterality, Mention
from core.report.placement import OWN_PLACE, Found, Placement
from core.report.places import BY_ORGAN, ORGAN_FAMILIES, USUAL_ORGANS
from core.report.sizes import find_sizes
from core.report.words import BREAKS, Span, TermFinder, Token, split_tokens

_FINDER = TermFinder(FINDING_TERMS, breaks=BREAKS - {"not"})  # "the heart is not enlarged" is one term
MOST_FINDINGS = 60
"""Findings read from one sentence; placing more costs time and is no prose."""
_ATTRIBUTES = frozenset(
    "nodule node granuloma granulomas lesion lymph cyst mass density nodular calculus stone".split()
)
_UNLINKED = frozenset(", ; and or as with without no not but".split())
"""Words between a measurement and a finding behind it that is not the one that was measured."""
_SEQUELAE = frozenset("sequela sequelae sequel pleuroparenchymal".split())


class SentenceReading(NamedTuple):
    """The statements of one sentence."""

    mentions: tuple[Mention, ...]
    organs: tuple[str, ...]
    laterality: Laterality


def read_sentence(text: str) -> SentenceReading:
    """Findings, organs and side of one sentence."""
    tokens = split_tokens(text)
    words = [token.word for token in tokens]
    organs = find_organs(text, tokens)
    found = _findings(words)
    sizes = _sizes_per_finding(text, tokens, found)
    placement = Placement(words, organs, found)
    mentions = [m for position in range(len(found)) for m in _to_mentions(placement, position, sizes[position])]
    names = tuple(dict.fromkeys(name for organ in organs for name in organ.names))
    sides = {organ.side for organ in organs} | side_words(placement.free_words, 0, len(words))
    return SentenceReading(_merged(mentions), names, single_side(sides))


def _is_property(words: list[str], span: Span) -> bool:
    """Words that describe another finding: "calcified nodule", "density increase consistent with sequelae"."""
    if span.key == "*calcification":
        return not _ATTRIBUTES.isdisjoint(words[span.end : span.end + 3])
    return span.key == "*density" and not _SEQUELAE.isdisjoint(words[max(0, span.start - 6) : span.end + 5])


def _findings(words: list[str]) -> list[Found]:
    found = []
    statements = [Statement(words, clause) for clause in split_clauses(words)]
    for span in _FINDER.find(words)[:MOST_FINDINGS]:
        if _is_property(words, span):
            continue
        statement = next(s for s in statements if s.start <= span.start < s.end)
        for key in span.key.split(" + "):
            one = Span(key, span.start, span.end)
            found.append(Found(one, (statement.start, statement.end), statement.existence_of(one)))
    return found


def _to_mentions(placement: Placement, position: int, sizes_mm: tuple[float, ...]) -> list[Mention]:
    item = placement.found[position]
    placed, inside = placement.organs_of(position), placement.inside(item)
    side = placement.side_of(position, placed)
    finding = _resolved(item.span.key, [*placed, *inside])
    return [
        Mention(name, item.existence, _organ_names(name, placed, inside, side), side, sizes_mm)
        for name in _with_vessels(finding, [*placed, *inside])
    ]


def _resolved(key: str, organs: list[OrganMention]) -> str:
    """The finding a term means; generic words depend on the organ beside them."""
    if not key.startswith("*"):
        return key
    names = [name for organ in organs for name in organ.names]
    for family, finding in BY_ORGAN[key[1:]]:
        if not family or any(name.startswith(ORGAN_FAMILIES[family]) for name in names):
            return finding
    return key[1:]


def _with_vessels(finding: str, organs: list[OrganMention]) -> list[str]:
    """Calcified plaque lies in every vessel the sentence names: the coronary arteries, the others, or both."""
    vessels = ("Coronary artery wall calcification", "Arterial wall calcification")
    if finding not in vessels:
        return [finding]
    names = [name for organ in organs for name in organ.names]
    has_coronary = "coronary_arteries" in names
    has_other = any(name.startswith(ORGAN_FAMILIES["artery"]) for name in names)
    if not has_coronary and not has_other:
        return ["pleural calcification" if any(name.startswith("pleura") for name in names) else finding]
    return [vessel for vessel, is_named in zip(vessels, (has_coronary, has_other), strict=True) if is_named]


def _organ_names(
    finding: str, placed: list[OrganMention], inside: list[OrganMention], side: Laterality
) -> tuple[str, ...]:
    usual = tuple(name for part in USUAL_ORGANS.get(finding, ()) for name in names_with_side(part, side))
    said = [name for name in _without_covered(placed) if _is_vessel_of(finding, name)]
    if finding in OWN_PLACE:
        said = [*usual, *said]
    return tuple(dict.fromkeys(said or usual or [name for organ in inside for name in organ.names]))


def _is_vessel_of(finding: str, name: str) -> bool:
    """Whether plaque said of several vessels at once lies in this one; other findings lie where they are said to."""
    if finding == "Coronary artery wall calcification":
        return name in ("coronary_arteries", "heart")
    return finding != "Arterial wall calcification" or name not in ("coronary_arteries", "heart")


def _without_covered(organs: list[OrganMention]) -> list[str]:
    """Names of organs, without "right lung" where a lobe of it is named, nor the spine beside one vertebra."""
    lobed = {organ.side for organ in organs if organ.kind in ("lobe", "segment") and organ.side}
    names = [name for organ in organs if organ.kind != "lung" or organ.side not in lobed for name in organ.names]
    wholes = {"spine": "vertebrae_", "ribs": "rib_"}
    covered = {whole for whole, part in wholes.items() if any(name.startswith(part) for name in names)}
    return [name for name in names if name not in covered]


def _sizes_per_finding(text: str, tokens: list[Token], found: list[Found]) -> list[tuple[float, ...]]:
    """Each measurement goes to the nearest finding of its clause, else to the last finding before it."""
    sizes: list[tuple[float, ...]] = [()] * len(found)
    words = [token.word for token in tokens]
    for size in find_sizes(text):
        place = next(i for i, token in enumerate(tokens) if token.end > size.start)
        owner = _owner(place, words, found)
        if owner is not None:
            sizes[owner] += size.diameters_mm
    return sizes


def _owner(place: int, words: list[str], found: list[Found]) -> int | None:
    mates = [i for i, item in enumerate(found) if item.clause[0] <= place < item.clause[1]]
    if not mates:
        mates = [i for i, item in enumerate(found) if item.span.end <= place][-1:]
    before = [i for i in mates if found[i].span.end <= place]
    ahead = [
        i for i in mates if found[i].span.start > place and _UNLINKED.isdisjoint(words[place : found[i].span.start])
    ]
    near = [*before, *ahead] or mates
    return min(near, key=lambda i: _distance(place, found[i].span), default=None)


def _distance(place: int, span: Span) -> int:
    return span.start - place if span.start > place else place - span.end + 1


def _merged(mentions: list[Mention]) -> tuple[Mention, ...]:
    """One mention per finding, existence and side; organs and sizes joined in order."""
    merged: dict[tuple[str, str, str], Mention] = {}
    for mention in mentions:
        key = (mention.finding, mention.existence, mention.laterality)
        old = merged.get(key)
        if old:
            organs = tuple(dict.fromkeys([*old.organs, *mention.organs]))
            mention = Mention(*key[:1], mention.existence, organs, mention.laterality, old.sizes_mm + mention.sizes_mm)
        merged[key] = mention
    return tuple(merged.values())
