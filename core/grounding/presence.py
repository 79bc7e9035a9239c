"""Is it so? What a sentence claims, the chance that the scan bears it out, and what may be concluded from that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from core.grounding.calibration import Calibration, ErrorRate, FamilyRecord, PresenceScores, Support, support_of
from core.report.parsed import Mention


class Asked(NamedTuple):
    """What a sentence claims, as far as its presence can be asked for."""

    finding: str  # as `core.report` names it; "" = nothing that could be asked for
    is_denied: bool  # True = it says that the finding is not there
    why_not: str  # why nothing can be concluded; "" where it can


NOTHING_ASKED = Asked("", False, "it names no finding")


@runtime_checkable
class Calibrated(Protocol):
    """An engine whose chances were measured."""

    @property
    def calibration(self) -> Calibration:
        """How its scores become chances."""
        ...


@dataclass(frozen=True)
class Judgement:
    """What is concluded about one sentence."""

    support: Support
    probability: float
    """Chance in [0, 1] that the sentence is right; 0.5 where it cannot be told."""
    words: str
    """Why, for a reader, with the error rate of the conclusion."""
    error: ErrorRate | None = None
    """How often this conclusion was wrong; None where none was drawn."""


def asked_of(mentions: Sequence[Mention]) -> Asked:
    """What a sentence with these mentions claims: one finding that is there or is not."""
    findings = {mention.finding for mention in mentions}
    states = {mention.existence for mention in mentions}
    if not mentions:
        return NOTHING_ASKED
    if len(findings) > 1 or states == {"present", "absent"}:
        return Asked("", False, "it says several things")
    finding = findings.pop()
    if "uncertain" in states:
        return Asked(finding, False, "it is a suspicion")
    return Asked(finding, states == {"absent"}, "")


def judge(calibration: Calibration | None, asked: Asked, scores: PresenceScores, own_chance: float) -> Judgement:
    """Conclude from the scores of what a sentence claims (of the finding itself, for a denial too).

    own_chance: the engine's own probability that the sentence is right, kept where nothing was measured; an engine
    without any calibration is taken at its word.
    """
    family = None if calibration is None or asked.why_not else calibration.family(asked.finding)
    if calibration is None or family is None:
        return _without_conclusion(calibration, asked, own_chance)
    chance = calibration.chance(scores, family.offset)
    found = calibration.conclude(chance)
    right = 1 - chance if asked.is_denied else chance
    if found == "cannot tell":
        edges = {"below": calibration.no_support_below, "above": calibration.supported_above}
        told = " or ".join(f"{side} {_percent(edge)}" for side, edge in edges.items() if edge is not None)
        words = f"Cannot tell: the chance that it is there is {_percent(chance)}; a verdict is given {told}."
        return Judgement(found, right, words)
    is_seen = found == "supported"
    support: Support = "supported" if is_seen != asked.is_denied else "no support"
    error = family.invented if is_seen else family.missed
    return Judgement(support, right, _explain(calibration, family, asked, chance), error)


def _without_conclusion(calibration: Calibration | None, asked: Asked, own_chance: float) -> Judgement:
    """Where no error rate is known."""
    if calibration is None:
        words = "By the engine's own chance; how often it is wrong was not measured."
        return Judgement(support_of(own_chance), own_chance, words)
    if not calibration.is_measured:
        return Judgement("cannot tell", own_chance, "Cannot tell: how often this engine is wrong was not measured.")
    why = asked.why_not or f"the calibration does not cover {_lower(asked.finding)}"
    return Judgement("cannot tell", 0.5, f"Cannot tell: {why}.")


def explain_calibration(calibration: Calibration | None) -> str:
    """For a reader: on what the chances were measured, both thresholds, and how often each was wrong."""
    if calibration is None or not calibration.is_measured or not (calibration.missed and calibration.invented):
        return "How often this engine is wrong was not measured: it cannot tell whether a sentence is so."
    names = ", ".join(_lower(family.finding) for family in calibration.families)
    low, high = calibration.no_support_below, calibration.supported_above
    missed, invented = calibration.missed.words, calibration.invented.words
    below = f"said below {_percent(low)}, and was wrong in {missed} of findings that were there"
    above = f"said above {_percent(high)}, and was wrong in {invented} of findings that were not there"
    return (
        f"Chances were measured on {calibration.measured_on}. “No support” is "
        f"{'never said' if low is None else below}; “supported” is {'never said' if high is None else above}. "
        f"Covered: {names}. Of everything else it cannot tell."
    )


def _explain(calibration: Calibration, family: FamilyRecord, asked: Asked, chance: float) -> str:
    """The conclusion in words, and how often it was wrong."""
    name, is_seen = _lower(asked.finding), calibration.conclude(chance) == "supported"
    edge = calibration.supported_above if is_seen else calibration.no_support_below
    error, truth = (family.invented, "not there") if is_seen else (family.missed, "there")
    says = {
        (False, False): f"No support in this scan for {name}",
        (False, True): f"The scan supports {name}",
        (True, False): f"The scan supports that there is no {name}",
        (True, True): f"The scan speaks against this denial of {name}",
    }[asked.is_denied, is_seen]
    side = "above" if is_seen else "below"
    interval = f"95 % interval {100 * error.low:.0f} to {100 * error.high:.0f} %"
    return (
        f"{says}: the chance that it is there is {_percent(chance)}, {side} {_percent(edge)}. When that was tested on "
        f"{name} that was {truth}, it was wrong in {error.words}; {interval}."
    )


def _percent(chance: float | None) -> str:
    return "never" if chance is None else f"{100 * chance:.0f} %"


def _lower(finding: str) -> str:
    return finding[:1].lower() + finding[1:]
