"""Sentences for the text encoder: families of one claim in other words, with its near opposites, and their likeness."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from core.report.paraphrase import paraphrase_sentence
from core.structures import LOBES
from core.synthesis.claims import KINDS, Claim, Kind, Place, mirror_claim, negate_claim, side_of_organs
from core.synthesis.compounds import write_compound
from core.synthesis.normality import NORMALITY
from core.synthesis.places import choose_place
from core.synthesis.reports import draw_claim
from core.synthesis.sentences import STYLES, capitalise, size_words, with_article, write_sentence
from core.synthesis.sizes import write_size
from core.synthesis.statement import Statement
from trainers.text_free import draw_free_family
from trainers.text_kinds import MORE_KINDS, MORE_NORMALITY, TEXT_KINDS
from trainers.text_likeness import EXISTENCES
from trainers.text_rules import deny, mirror
from trainers.text_words import Lexicon

NORMAL_TEXTS: dict[str, tuple[str, ...]] = {**NORMALITY, **MORE_NORMALITY}
"""Structure or region -> sentences that call it normal."""
TARGETS = (*TEXT_KINDS, *(f"normal {name}" for name in NORMAL_TEXTS))
"""What a sentence can be about; made-up findings are none of them."""
ORGANS = tuple(
    sorted(
        {name for kind in TEXT_KINDS.values() for name in kind.organs} | set(NORMAL_TEXTS) | {"lung_left", "lung_right"}
    )
)
FAMILY_SHARES = {"known": 0.24, "more": 0.14, "words": 0.05, "several": 0.11, "places": 0.05, "normal": 0.07}
FAMILY_SHARES["free"] = 1.0 - sum(FAMILY_SHARES.values())
"""Share of each sort of family; without a lexicon made-up findings stand in for free sentences."""
SIZE_FACTORS = (0.35, 0.5, 2.0, 3.0)
"""Sizes of another class, relative to the claim's."""


class Words(NamedTuple):
    """Words that sentences are filled with."""

    common: Sequence[str]  # of the source's vocabulary
    lexicon: Lexicon | None  # of WordNet


def draw_family(words: Words, rng: np.random.Generator) -> list[Statement]:
    """Two or three sentences that say the same, and some that differ from them in one respect."""
    sort = str(rng.choice(list(FAMILY_SHARES), p=list(FAMILY_SHARES.values())))
    if sort in ("several", "places", "normal"):
        return {"several": _compound_family, "places": _places_family, "normal": _normal_family}[sort](rng)
    if sort == "free" and words.lexicon is not None:
        return draw_free_family(words.lexicon, words.common, rng)
    if sort in ("words", "free"):
        return _made_up_family(words, rng)
    return _kind_family(KINDS if sort == "known" else MORE_KINDS, rng)


def _kind_family(kinds: Mapping[str, Kind], rng: np.random.Generator) -> list[Statement]:
    existence = str(rng.choice(EXISTENCES, p=[0.62, 0.24, 0.14]))
    return _claim_family(draw_claim(str(rng.choice(list(kinds))), rng, existence, kinds), kinds, rng)


def _made_up_family(words: Words, rng: np.random.Generator) -> list[Statement]:
    """A finding of random words; it is like no other, even one of the same words."""
    kind = _made_up_kind(words.common, rng)
    key = f"{kind.finding} {rng.integers(1 << 30)}"
    return [told._replace(kind=key, finding=key) for told in _kind_family({"words": kind}, rng)]


def _claim_family(claim: Claim, kinds: Mapping[str, Kind], rng: np.random.Generator) -> list[Statement]:
    first = _write(claim, kinds, rng)
    same = [first, *(_write(claim, kinds, rng) for _ in range(int(rng.integers(1, 3))))]
    if rng.random() < 0.5:
        same.append(first._replace(text=paraphrase_sentence(first.text, rng.random(4).tolist())))
    rivals = [*deny(first), _write(negate_claim(claim), kinds, rng)]
    if first.laterality in ("left", "right"):
        rivals += [*mirror(same[int(rng.integers(len(same)))]), _write(mirror_claim(claim), kinds, rng)]
    rivals += _near_misses(claim, kinds, rng)
    chosen = rng.permutation(len(rivals))[: int(rng.integers(3, 6))]
    return [*same, *(rivals[at] for at in chosen)]


def _near_misses(claim: Claim, kinds: Mapping[str, Kind], rng: np.random.Generator) -> list[Statement]:
    """The claim with another size, in another lobe, in doubt."""
    told = []
    if claim.size_mm is not None and claim.existence != "absent":
        factor = float(rng.choice(SIZE_FACTORS))
        sizes = {name: value * factor for name in ("size_mm", "second_mm", "third_mm")
                 if (value := getattr(claim, name)) is not None}  # fmt: skip
        told.append(_write(replace(claim, **sizes), kinds, rng))
    if len(claim.organs) == 1 and claim.organs[0] in LOBES:
        others = [name for name in LOBES if name != claim.organs[0]]
        organs = (others[rng.integers(len(others))],)
        told.append(_write(replace(claim, organs=organs, laterality=side_of_organs(organs), zones=()), kinds, rng))
    if claim.existence == "present":
        told.append(_write(replace(claim, existence="uncertain"), kinds, rng))
    return told


def _write(claim: Claim, kinds: Mapping[str, Kind], rng: np.random.Generator) -> Statement:
    return write_sentence(claim, STYLES[rng.integers(len(STYLES))], rng, kinds)


def _compound_family(rng: np.random.Generator) -> list[Statement]:
    """Two or three facts in one sentence; the rivals deny, affirm or mirror part of it."""
    names = rng.choice(list(TEXT_KINDS), 3, replace=False).tolist()
    states = (("present", "present"), ("present", "absent"), ("absent",) * int(rng.integers(2, 4)))[rng.integers(3)]
    claims = [draw_claim(name, rng, state, TEXT_KINDS) for name, state in zip(names, states, strict=False)]
    same = [write_compound(claims, rng, TEXT_KINDS) for _ in range(2)]
    same.append(same[0]._replace(text=paraphrase_sentence(same[0].text, rng.random(4).tolist())))
    rivals = mirror(same[0])
    rivals.append(write_compound([mirror_claim(claim) for claim in claims], rng, TEXT_KINDS))
    if states[-1] == "present":
        rivals.append(write_compound([claims[0], negate_claim(claims[1])], rng, TEXT_KINDS))
    if states == ("present", "absent"):
        rivals.append(write_compound([claims[0], replace(claims[1], existence="present")], rng, TEXT_KINDS))
        rivals.append(write_compound([negate_claim(claims[0]), claims[1]], rng, TEXT_KINDS))
    return [*same, *rivals]


_TWO_PLACES = (
    "{Thing}{place}{measuring} and another one{place2}{measuring2}.",
    "There is {a_thing}{place}{measuring} and {a_thing}{place2}{measuring2}.",
    "{Many}{place}{measuring} and{place2}{measuring2}.",
    "{Many} were observed{place}{measuring} and{place2}{measuring2}.",
    "{Label}{thing}{measuring}; {label2}{thing}{measuring2}.",
    "One {thing} lies{place}{measuring}, the other{place2}{measuring2}.",
)


def _places_family(rng: np.random.Generator) -> list[Statement]:
    """One kind of finding on the left and on the right; the rivals exchange the sides, or deny it."""
    name = str(rng.choice([name for name, kind in TEXT_KINDS.items() if kind.place in ("lobe", "pleura")]))
    claims = [draw_claim(name, rng, kinds=TEXT_KINDS) for _ in range(2)]
    claims = [_on_side(claim, side) for claim, side in zip(claims, rng.permutation(["left", "right"]), strict=True)]
    turned = [mirror_claim(claim) for claim in claims]
    same = [_write_places(claims, rng), _write_places(claims[::-1], rng)]
    return [*same, *mirror(same[0]), _write_places(turned, rng), *deny(same[0])]


def _on_side(claim: Claim, side: str) -> Claim:
    """The claim in one place of one side."""
    organs = tuple(name for name in TEXT_KINDS[claim.kind].organs if name.endswith(f"_{side}"))
    own = next((name for name in claim.organs if name in organs), organs[0])
    return replace(claim, organs=(own,), laterality=side_of_organs([own]), zones=())


def _write_places(claims: Sequence[Claim], rng: np.random.Generator) -> Statement:
    """Both claims, which are of one kind, in one sentence."""
    kind = TEXT_KINDS[claims[0].kind]
    noun, facts = kind.nouns[int(rng.integers(len(kind.nouns)))], []
    a_thing, many = with_article(noun, kind), kind.plurals[int(rng.integers(len(kind.plurals)))]
    words = {"thing": noun, "Thing": capitalise(noun), "a_thing": a_thing, "Many": capitalise(many)}
    for claim, mark in zip(claims, ("", "2"), strict=True):
        place, size = choose_place(claim, kind, rng, is_vague=False), write_size(claim, rng)
        label = place.phrase.split(" ", 1)[-1]
        words |= {f"place{mark}": f" {place.phrase}", f"measuring{mark}": size_words(size, kind, rng)["measuring"]}
        words |= {f"label{mark}": f"{label}: ", "Label" if not mark else "Label2": f"{capitalise(label)}: "}
        facts.append(Statement("", kind.finding, "present", place.organs, place.laterality, claim.size_mm, claim.kind))
    text = capitalise(_TWO_PLACES[int(rng.integers(len(_TWO_PLACES)))].format(**words))
    return facts[0]._replace(text=text, also=(facts[1]._replace(text=text),))


def _normal_family(rng: np.random.Generator) -> list[Statement]:
    """Ways to call a structure normal, and their denials."""
    name = str(rng.choice(list(NORMAL_TEXTS)))
    texts = rng.permutation(list(NORMAL_TEXTS[name]))[: int(rng.integers(2, 4))].tolist()
    told = [Statement(text, "", "absent", (name,), "", None, "normal") for text in texts]
    told.append(told[0]._replace(text=paraphrase_sentence(texts[0], rng.random(4).tolist())))
    return [*told, *deny(told[0]), *deny(told[1])]


PLACES: tuple[Place, ...] = ("lobe", "pleura", "paired", "organ")
_MADE_UP_PLACES = ("", "in the {word}", "of the {word}", "near the {word}", "at the level of the {word}")


def _made_up_kind(words: Sequence[str], rng: np.random.Generator) -> Kind:
    """A finding of random words, so that denial and side are learned for words that no table holds."""
    noun = " ".join(words[int(at)] for at in rng.integers(0, len(words), int(rng.integers(1, 3))))
    place = PLACES[rng.integers(len(PLACES))]
    word = words[int(rng.integers(len(words)))]
    phrases = tuple(phrase.format(word=word) for phrase in _MADE_UP_PLACES)
    if place == "paired":
        phrases = (f"in the {{side}} {word}", "on the {side}", f"of the {{side}} {word}")
    organs = {"lobe": LOBES, "pleura": ("pleura_left", "pleura_right"), "paired": ("lung_left", "lung_right")}
    sizes = (5.0, 60.0) if rng.random() < 0.5 else None
    return Kind(noun, (noun, f"{noun} finding", noun), (noun, f"{noun} findings"), place, organs.get(place, ()), sizes,
                (), bool(rng.random() < 0.5), phrases)  # fmt: skip
