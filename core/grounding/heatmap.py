"""Where one sentence lives: scores on a grid, their peak, their share per organ."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from core.grounding.constraint import UNCONSTRAINED, Constraint
from core.volume import Grid

Support = Literal["supported", "no support", "cannot tell"]

UNDECIDED = 0.05
"""Probabilities nearer than this to one half decide nothing; an engine without a presence read-out says 0.5."""


@dataclass(frozen=True, eq=False)
class HeatMap:
    """One sentence's heat."""

    heat: np.ndarray
    """(X, Y, Z) float32 in [0, 1] on `grid`, 0 where the sentence may not light up: what is drawn and exported."""
    raw: np.ndarray
    """(X, Y, Z) float32 cosine between sentence and patch, before any read-out."""
    grid: Grid
    """The engine's own (coarse) grid; `core.resample.resample` brings it to any other."""
    anywhere: np.ndarray
    """(X, Y, Z) float32 in [0, 1]: raw heat, the same read-out kept to nothing; 0 where the engine saw nothing."""


@dataclass(frozen=True, eq=False)
class SentenceGrounding:
    """What a grounding run says of one sentence."""

    index: int
    """Counts from 1."""
    text: str
    map: HeatMap
    peak_ras_mm: tuple[float, float, float]
    score: float
    """Read-out at the peak; comparable between sentences of one run."""
    negated_score: float
    """The same for the sentence's negation; `score - negated_score` is the negation margin."""
    probability: float
    """Chance in [0, 1] that the sentence is right about this CT, as far as the engine can tell."""
    organs: dict[str, float] = field(default_factory=dict)
    """Structure -> share of the heat inside it; sums to at most 1."""
    constraint: Constraint = UNCONSTRAINED
    """What the heat was kept to, and why."""
    is_spot: bool = True
    """The sentence points at something; False = it calls organs normal or denies a finding, and they are lit whole."""
    raw_peak_ras_mm: tuple[float, float, float] | None = None
    """Where the raw heat is hottest; None where there is no heat."""

    @property
    def is_lit_whole(self) -> bool:
        """Whether the organs it names are lit as a whole, and no place in them is pointed at."""
        return not self.is_spot and self.constraint.kind in ("organ", "stand-in")

    @property
    def margin(self) -> float:
        """Score above the sentence's own negation."""
        return self.score - self.negated_score

    @property
    def support(self) -> Support:
        """Whether the scan bears the sentence out; probabilities near one half decide nothing."""
        return support_of(self.probability)


def support_of(probability: float) -> Support:
    """A chance in [0, 1] in words; within `UNDECIDED` of one half it "cannot tell"."""
    if abs(probability - 0.5) < UNDECIDED:
        return "cannot tell"
    return "supported" if probability > 0.5 else "no support"
