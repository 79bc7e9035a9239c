"""How scores become chances, what may be concluded from them, and how often that was wrong where the truth is known."""

import math
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from core.errors import ConfigError

Support = Literal["supported", "no support", "cannot tell"]


UNDECIDED = 0.05
"""Of an engine that only names a chance: this close to one half decides nothing."""


def support_of(probability: float) -> Support:
    """A bare chance in [0, 1] in words; within `UNDECIDED` of one half it "cannot tell"."""
    if abs(probability - 0.5) < UNDECIDED:
        return "cannot tell"
    return "supported" if probability > 0.5 else "no support"


class PresenceScores(NamedTuple):
    """What the presence of a finding is read from, at the best voxel of where its sentence says it is."""

    score: float  # cosine between the claim and the patch
    margin: float  # that, less the cosine of the claim's denial
    contrast: float  # that, less the mean over the region, in standard deviations of the region


@dataclass(frozen=True)
class ErrorRate:
    """How often one conclusion was wrong on data that it was not fitted on."""

    wrong: int
    """Times it was wrong."""
    asked: int
    """Times it could have been."""
    limit: float
    """The rate that was to be kept."""
    low: float
    """Lower end of the rate's 95 % interval."""
    high: float
    """Upper end."""

    def __post_init__(self) -> None:
        if not 0 <= self.wrong <= self.asked or self.asked == 0:
            raise ConfigError(f"an error rate of {self.wrong} wrong of {self.asked}; expected 0 to all of at least one")
        if not 0 <= self.low <= self.wrong / self.asked <= self.high <= 1 or not 0 < self.limit < 1:
            raise ConfigError(
                f"an error rate of {self.wrong} of {self.asked} with interval {self.low} to {self.high} and limit "
                f"{self.limit}; expected fractions, the rate inside its interval"
            )

    @property
    def rate(self) -> float:
        """The measured fraction."""
        return self.wrong / self.asked

    @property
    def words(self) -> str:
        """For a reader: "3 % (12 of 400)"."""
        return f"{100 * self.rate:.0f} % ({self.wrong} of {self.asked})"


@dataclass(frozen=True)
class FamilyRecord:
    """One finding that conclusions may be drawn about."""

    finding: str
    """As `core.report` names it."""
    offset: float
    """Log-odds added for it."""
    auroc: float
    """How well its chances tell presence from absence, on data that they were not fitted on."""
    missed: ErrorRate
    """Findings that were there and called "no support"."""
    invented: ErrorRate
    """Findings that were not there and called "supported"."""


@dataclass(frozen=True)
class Calibration:
    """Chance that a finding is there = sigmoid(weights . scores + bias + the finding's offset), and two thresholds.

    Without thresholds nothing is concluded ("cannot tell"), and the chance is the engine's own, as it is.
    """

    score_weight: float = 0.0
    """Per unit of cosine at the peak."""
    margin_weight: float = 10.0
    """Per unit of cosine above the sentence's negation."""
    bias: float = 0.0
    """Log-odds where all scores are zero."""
    contrast_weight: float = 0.0
    """Per standard deviation above the region's mean."""
    no_support_below: float | None = None
    """Chances below this are "no support in this scan"; None = that is never concluded."""
    supported_above: float | None = None
    """Chances above this are "supported"; None = that is never concluded."""
    missed: ErrorRate | None = None
    """Over all `families`: findings that were there and called "no support"."""
    invented: ErrorRate | None = None
    """Over all `families`: findings that were not there and called "supported"."""
    families: tuple[FamilyRecord, ...] = ()
    """The findings that conclusions may be drawn about; of all others it "cannot tell"."""
    measured_on: str = ""
    """Patients, studies, seed and how they were split, in words."""
    weights_sha256: str = ""
    """Of the model.safetensors that it was measured with; "" = not said."""

    def __post_init__(self) -> None:
        self._refuse_numbers()
        if not self.is_measured:
            return
        named = [family.finding for family in self.families]
        if not named or len(set(named)) < len(named):
            raise ConfigError(
                "thresholds, and families that are missing or named twice; expected each covered one once"
            )
        if self.missed is None or self.invented is None or not self.measured_on:
            raise ConfigError("thresholds without missed, invented and measured_on; expected the measured error rates")

    def _refuse_numbers(self) -> None:
        """Numbers that no fit gives."""
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{part.name} is {value}; expected a finite number")
        low, high = self.no_support_below, self.supported_above
        if any(edge is not None and not 0 <= edge <= 1 for edge in (low, high)):
            raise ConfigError(f"thresholds {low} and {high}; expected chances from 0 to 1")
        if low is not None and high is not None and low > high:
            raise ConfigError(f"no_support_below is {low}, above supported_above {high}; expected it at or below")
        if self.is_measured and min(self.score_weight, self.margin_weight, self.contrast_weight) < 0:
            raise ConfigError("a weight below zero; expected stronger support to count for a finding")

    @property
    def is_measured(self) -> bool:
        """Whether anything may be concluded."""
        return self.no_support_below is not None or self.supported_above is not None

    def family(self, finding: str) -> FamilyRecord | None:
        """The record of a finding; None where nothing may be concluded about it."""
        return next((one for one in self.families if one.finding == finding), None)

    def probability(self, score: float, negated_score: float) -> float:
        """Chance in [0, 1] from a cosine and that of the negation alone."""
        return self.chance(PresenceScores(score, score - negated_score, 0.0))

    def chance(self, scores: PresenceScores, offset: float = 0.0) -> float:
        """Chance in [0, 1] that a finding is there."""
        logit = self.score_weight * scores.score + self.margin_weight * scores.margin
        logit += self.contrast_weight * scores.contrast + self.bias + offset
        return 1 / (1 + math.exp(-min(max(logit, -50.0), 50.0)))

    def conclude(self, chance: float) -> Support:
        """What may be concluded from the chance of a finding that is covered."""
        if self.no_support_below is not None and chance < self.no_support_below:
            return "no support"
        if self.supported_above is not None and chance > self.supported_above:
            return "supported"
        return "cannot tell"
