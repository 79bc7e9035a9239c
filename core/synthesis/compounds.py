"""Several claims in one sentence."""

from collections.abc import Mapping, Sequence

import numpy as np

from core.synthesis.claims import KINDS, Claim, Kind
from core.synthesis.places import NOWHERE, Place, choose_place, pick
from core.synthesis.sentences import capitalise, is_plural, size_words, with_article
from core.synthesis.sizes import write_size
from core.synthesis.statement import Statement
from core.synthesis.templates import PRESENT_AND_ABSENT, THREE_ABSENT, TOGETHER_ABSENT, TOGETHER_PRESENT


def write_compound(claims: Sequence[Claim], rng: np.random.Generator, kinds: Mapping[str, Kind] = KINDS) -> Statement:
    """One sentence with two or three claims: all denied, two present, or one present and then one denied.

    Denials that name a place of their own lose it: the sentence denies them everywhere.
    """
    if all(claim.existence == "absent" for claim in claims):
        return _write_denials(claims, rng, kinds)
    template = pick(TOGETHER_PRESENT if claims[1].existence == "present" else PRESENT_AND_ABSENT, rng)
    words: dict[str, str] = {}
    facts = []
    for claim, mark in zip(claims, ("", "2"), strict=True):
        kind = kinds[claim.kind]
        is_denied = claim.existence == "absent"
        place = NOWHERE if is_denied else choose_place(claim, kind, rng)
        size = "" if is_denied else write_size(claim, rng)
        noun = pick(kind.plurals, rng) if is_denied else with_article(_single(kind, rng), kind)
        words |= {"second" if mark else "first": noun, f"place{mark}": f" {place.phrase}" if place.phrase else ""}
        words[f"measuring{mark}"] = size_words(size, kind, rng)["measuring"]
        facts.append(_fact(claim, kind, place, claim.size_mm if f"{{measuring{mark}}}" in template and size else None))
    text = capitalise(template.format(**words, First=capitalise(words["first"])))
    return _joined(text, facts)


def _write_denials(claims: Sequence[Claim], rng: np.random.Generator, kinds: Mapping[str, Kind]) -> Statement:
    template = pick(TOGETHER_ABSENT if len(claims) == 2 else THREE_ABSENT, rng)
    is_singular = "is no {" in template
    nouns = [_single(kinds[c.kind], rng) if is_singular else pick(kinds[c.kind].plurals, rng) for c in claims]
    words = dict(zip(("first", "second", "third"), nouns, strict=False))
    text = capitalise(template.format(**words, First=capitalise(nouns[0]), place=""))
    return _joined(text, [_fact(claim, kinds[claim.kind], NOWHERE, None) for claim in claims])


def _single(kind: Kind, rng: np.random.Generator) -> str:
    return pick(tuple(noun for noun in kind.nouns if not is_plural(noun)) or kind.nouns, rng)


def _fact(claim: Claim, kind: Kind, place: Place, size_mm: float | None) -> Statement:
    organs = claim.organs if kind.place == "organ" else place.organs
    return Statement("", kind.finding, claim.existence, organs, place.laterality, size_mm, claim.kind)


def _joined(text: str, facts: Sequence[Statement]) -> Statement:
    first, *rest = (fact._replace(text=text) for fact in facts)
    return first._replace(also=tuple(rest))
