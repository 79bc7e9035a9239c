"""Sentences for the text encoder: families of one claim in other words, with its near opposites, and their likeness."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from core.report.paraphrase import paraphrase_sentence
from core.report.parsed import Existence, Laterality
from core.report.rephrase import negate_sentence, swap_side
from core.structures import LOBES
from core.synthesis.claims import KINDS, Claim, Kind, Place, mirror_claim, negate_claim, side_of_organs
from core.synthesis.compounds import write_compound
from core.synthesis.normality import NORMALITY
from core.synthesis.reports import draw_claim
from core.synthesis.sentences import STYLES, write_sentence
from core.synthesis.statement import Statement
from trainers.text_kinds import MORE_KINDS, MORE_NORMALITY, TEXT_KINDS

NORMAL_TEXTS: dict[str, tuple[str, ...]] = {**NORMALITY, **MORE_NORMALITY}
"""Structure or region -> sentences that call it normal."""
TARGETS = (*TEXT_KINDS, *(f"normal {name}" for name in NORMAL_TEXTS))
"""What a sentence can be about; made-up findings are none of them."""
EXISTENCES: tuple[Existence, ...] = ("present", "absent", "uncertain")
SIDES = ("left", "right", "bilateral")
ORGANS = tuple(
    sorted(
        {name for kind in TEXT_KINDS.values() for name in kind.organs} | set(NORMAL_TEXTS) | {"lung_left", "lung_right"}
    )
)
OPPOSITE: dict[Existence, Existence] = {"present": "absent", "absent": "present", "uncertain": "absent"}
FAMILY_SHARES = {"known": 0.42, "more": 0.24, "words": 0.14, "several": 0.12, "normal": 0.08}
"""Share of each sort of family."""
SIZE_FACTORS = (0.35, 0.5, 2.0, 3.0)
"""Sizes of another class, relative to the claim's."""


class Likeness(NamedTuple):
    """How like two facts are as they differ in one respect; 1 = the same."""

    existence: tuple[tuple[float, ...], ...] = ((1.0, 0.05, 0.55), (0.05, 1.0, 0.3), (0.55, 0.3, 1.0))
    """Present, absent, uncertain, in rows and columns."""
    other_side: float = 0.2
    one_of_both_sides: float = 0.5
    side_unsaid: float = 0.78
    other_lobe: float = 0.4
    lobe_unsaid: float = 0.85
    size_unsaid: float = 0.92
    per_log_size: float = 1.2
    """Fall per natural logarithm of the ratio of two sizes, to no less than `least_size`."""
    least_size: float = 0.4
    same_finding: float = 0.8
    """Two kinds of one finding, as two sorts of nodule."""
    other_finding: float = 0.0
    shared: float = 0.08
    """What findings of the same existence, or at the same place, have in common."""


LIKENESS = Likeness()


def draw_family(words: Sequence[str], rng: np.random.Generator) -> list[Statement]:
    """Two or three sentences that say the same, and some that differ from them in one respect."""
    sort = str(rng.choice(list(FAMILY_SHARES), p=list(FAMILY_SHARES.values())))
    if sort == "normal":
        return _normal_family(rng)
    if sort == "several":
        return _compound_family(rng)
    if sort == "words":
        kinds: Mapping[str, Kind] = {"words": _made_up_kind(words, rng)}
    else:
        kinds = KINDS if sort == "known" else MORE_KINDS
    name = str(rng.choice(list(kinds)))
    existence = str(rng.choice(EXISTENCES, p=[0.62, 0.24, 0.14]))
    family = _claim_family(draw_claim(name, rng, existence, kinds), kinds, rng)
    if sort == "words":  # a made-up finding is like no other, even one of the same words
        key = f"{kinds['words'].finding} {rng.integers(1 << 30)}"
        family = [told._replace(kind=key, finding=key) for told in family]
    return family


def _claim_family(claim: Claim, kinds: Mapping[str, Kind], rng: np.random.Generator) -> list[Statement]:
    first = _write(claim, kinds, rng)
    same = [first, *(_write(claim, kinds, rng) for _ in range(int(rng.integers(1, 3))))]
    if rng.random() < 0.5:
        same.append(first._replace(text=paraphrase_sentence(first.text, rng.random(4).tolist())))
    rivals = [_denied_by_rule(first), _write(negate_claim(claim), kinds, rng)]
    if first.laterality in ("left", "right"):
        rivals += [_mirrored_by_rule(same[rng.integers(len(same))]), _write(mirror_claim(claim), kinds, rng)]
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


def _denied_by_rule(told: Statement) -> Statement:
    return told._replace(text=negate_sentence(told.text), existence=OPPOSITE[told.existence])


_MIRRORED: dict[Laterality, Laterality] = {"left": "right", "right": "left", "bilateral": "bilateral", "": ""}


def _mirrored_by_rule(told: Statement) -> Statement:
    """The sentence with its sides exchanged; itself where it names none."""
    organs = tuple(_mirror_name(name) for name in told.organs)
    side = _MIRRORED[told.laterality]
    also = tuple(_mirrored_by_rule(fact) for fact in told.also)
    return told._replace(text=swap_side(told.text), organs=organs, laterality=side, also=also)


def _mirror_name(name: str) -> str:
    if name == "lung_middle_lobe_right":
        return "lung_upper_lobe_left"
    return name.replace("left", "right") if "left" in name else name.replace("right", "left")


def _compound_family(rng: np.random.Generator) -> list[Statement]:
    """Two or three facts in one sentence; the rivals deny, affirm or mirror part of it."""
    names = rng.choice(list(TEXT_KINDS), 3, replace=False).tolist()
    states = (("present", "present"), ("present", "absent"), ("absent",) * int(rng.integers(2, 4)))[rng.integers(3)]
    claims = [draw_claim(name, rng, state, TEXT_KINDS) for name, state in zip(names, states, strict=False)]
    same = [write_compound(claims, rng, TEXT_KINDS) for _ in range(2)]
    same.append(same[0]._replace(text=paraphrase_sentence(same[0].text, rng.random(4).tolist())))
    rivals = [_mirrored_by_rule(same[0])] if swap_side(same[0].text) != same[0].text else []
    rivals.append(write_compound([mirror_claim(claim) for claim in claims], rng, TEXT_KINDS))
    if states[-1] == "present":
        rivals.append(write_compound([claims[0], negate_claim(claims[1])], rng, TEXT_KINDS))
    if states == ("present", "absent"):
        rivals.append(write_compound([claims[0], replace(claims[1], existence="present")], rng, TEXT_KINDS))
        rivals.append(write_compound([negate_claim(claims[0]), claims[1]], rng, TEXT_KINDS))
    return [*same, *rivals]


def _normal_family(rng: np.random.Generator) -> list[Statement]:
    """Ways to call a structure normal, and their denials."""
    name = str(rng.choice(list(NORMAL_TEXTS)))
    texts = rng.permutation(list(NORMAL_TEXTS[name]))[: int(rng.integers(2, 4))].tolist()
    told = [Statement(text, "", "absent", (name,), "", None, "normal") for text in texts]
    told.append(told[0]._replace(text=paraphrase_sentence(texts[0], rng.random(4).tolist())))
    return [*told, _denied_by_rule(told[0]), _denied_by_rule(told[1])]


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


class Facts(NamedTuple):
    """Facts of several sentences as numbers, one row per fact."""

    sentence: np.ndarray  # (F,) int64, number of its sentence
    target: np.ndarray  # (F,) int64, equal = the same kind
    finding: np.ndarray  # (F,) int64, equal = the same finding
    existence: np.ndarray  # (F,) int64, place in EXISTENCES
    side: np.ndarray  # (F,) int64, 0 = unsaid, else 1 + place in SIDES
    lobes: np.ndarray  # (F, 5) bool, those that are named
    log_size: np.ndarray  # (F,) float64, natural logarithm of mm, nan = unsaid


def facts_of(statements: Sequence[Statement]) -> Facts:
    """The facts of sentences in order."""
    told = [(number, fact) for number, statement in enumerate(statements) for fact in statement.facts]
    facts = [fact for _, fact in told]
    kinds, findings = _numbered([target_of(f) for f in facts]), _numbered([f.finding or target_of(f) for f in facts])
    sizes = np.array([np.nan if f.size_mm is None else np.log(max(f.size_mm, 1.0)) for f in facts])
    return Facts(
        np.array([number for number, _ in told]),
        kinds,
        findings,
        np.array([EXISTENCES.index(f.existence) for f in facts]),
        np.array([0 if f.laterality == "" else 1 + SIDES.index(f.laterality) for f in facts]),
        np.array([[name in f.organs for name in LOBES] for f in facts]),
        sizes,
    )


def target_of(fact: Statement) -> str:
    """What a fact is about: its kind, or the structure that it calls normal."""
    return f"normal {fact.organs[0]}" if fact.kind == "normal" else fact.kind


def _numbered(names: Sequence[str]) -> np.ndarray:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names])


def liken(statements: Sequence[Statement]) -> np.ndarray:
    """(S, S) float32 in [0, 1]: how like sentences are in what they say; 1 = the same facts.

    Facts are matched with the likest of the other sentence, both ways, and averaged.
    """
    facts = facts_of(statements)
    pairs = _liken_facts(facts)
    starts = np.flatnonzero(np.diff(facts.sentence, prepend=-1))
    best = np.maximum.reduceat(pairs, starts, axis=1)  # (F, S)
    counts = np.diff(starts, append=len(facts.sentence))
    mean: np.ndarray = np.add.reduceat(best, starts, axis=0) / counts[:, None]
    return ((mean + mean.T) / 2).astype(np.float32)


def _liken_facts(facts: Facts) -> np.ndarray:
    """(F, F) likeness of facts."""
    same_kind = facts.target[:, None] == facts.target
    same_finding = facts.finding[:, None] == facts.finding
    about = np.where(same_kind, 1.0, np.where(same_finding, LIKENESS.same_finding, LIKENESS.other_finding))
    existence = np.array(LIKENESS.existence)[facts.existence[:, None], facts.existence]
    place = _liken_sides(facts.side) * _liken_lobes(facts.lobes)
    shared = LIKENESS.shared * ((existence == 1) + 1.0 * ((place == 1) & (facts.side > 0)))
    return np.maximum(about * existence * place * _liken_sizes(facts.log_size), shared)


def _liken_sides(side: np.ndarray) -> np.ndarray:
    first, second = side[:, None], side[None, :]
    either_unsaid, either_both = (first == 0) | (second == 0), (first == 3) | (second == 3)
    differing = np.where(either_both, LIKENESS.one_of_both_sides, LIKENESS.other_side)
    return np.where(first == second, 1.0, np.where(either_unsaid, LIKENESS.side_unsaid, differing))


def _liken_lobes(lobes: np.ndarray) -> np.ndarray:
    both = (lobes[:, None] & lobes[None]).sum(axis=-1)
    either = (lobes[:, None] | lobes[None]).sum(axis=-1)
    told = np.asarray(lobes.any(axis=1))
    share = both / np.maximum(either, 1)
    differing = LIKENESS.other_lobe + (1 - LIKENESS.other_lobe) * share
    unsaid = np.where(told[:, None] == told, 1.0, LIKENESS.lobe_unsaid)
    return np.where(told[:, None] & told, differing, unsaid)


def _liken_sizes(log_size: np.ndarray) -> np.ndarray:
    gap = np.abs(log_size[:, None] - log_size)
    near = np.maximum(np.exp(-LIKENESS.per_log_size * np.nan_to_num(np.maximum(gap - 0.1, 0.0))), LIKENESS.least_size)
    told = ~np.isnan(log_size)
    return np.where(told[:, None] & told, near, np.where(told[:, None] == told, 1.0, LIKENESS.size_unsaid))
