"""How like sentences are in what they say: existence, side, lobe, size and finding, as numbers in [0, 1]."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from core.report.parsed import Existence
from core.structures import LOBES
from core.synthesis.statement import Statement

EXISTENCES: tuple[Existence, ...] = ("present", "absent", "uncertain")
SIDES = ("left", "right", "bilateral")


class Likeness(NamedTuple):
    """How like two facts are as they differ in one respect; 1 = the same."""

    existence: tuple[tuple[float, ...], ...] = ((1.0, 0.05, 0.55), (0.05, 1.0, 0.3), (0.55, 0.3, 1.0))
    """Present, absent, uncertain, in rows and columns."""
    other_side: float = 0.2
    one_of_both_sides: float = 0.5
    side_unsaid: float = 0.78
    other_lobe: float = 0.3
    lobe_unsaid: float = 0.85
    size_unsaid: float = 0.92
    per_log_size: float = 1.5
    """Fall per natural logarithm of the ratio of two sizes, to no less than `least_size`."""
    least_size: float = 0.3
    same_finding: float = 0.8
    """Two kinds of one finding, as two sorts of nodule."""
    other_finding: float = 0.0
    shared: float = 0.08
    """What findings of the same existence, or at the same place, have in common."""


LIKENESS = Likeness()


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
