"""Where one sentence lives: scores on a grid, their peak, their share per organ."""

from dataclasses import dataclass, field

import numpy as np

from core.grounding.calibration import PresenceScores, Support, support_of
from core.grounding.constraint import UNCONSTRAINED, Constraint
from core.grounding.presence import Judgement
from core.volume import Grid

__all__ = ["HeatMap", "SentenceGrounding", "Support", "support_of"]


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
    presence: PresenceScores | None = None
    """What the presence of its finding was read from; None where there is no heat."""
    judgement: Judgement | None = None
    """What was concluded; None where nobody asked."""

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
        """Whether the scan bears the sentence out, as far as the error rate of that is known."""
        return support_of(self.probability) if self.judgement is None else self.judgement.support
