"""From answers whose truth is known to a calibration: chances, thresholds that keep an error rate, what they cost.

Chances are a logistic regression on the scores at the peak with one offset per finding, as if each were there as often
as not: the chance of a claim against its denial. Three weights, none below zero (stronger support may not count against
a finding), and offsets pulled to zero: a few hundred answers carry no more. Thresholds are the ends of one-sided
bounds of Clopper and Pearson (Biometrika 26, 1934) on answers that the chances were not fitted on; the error rates are
counted on answers that neither chances nor thresholds have seen.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from core.errors import ConfigError
from core.grounding.calibration import Calibration, ErrorRate, FamilyRecord, PresenceScores

SCORES = PresenceScores._fields


class Answer(NamedTuple):
    """One question "is it there?" about one study."""

    patient: str
    study: int
    finding: str  # as `core.report` reads it from the sentence
    is_there: bool
    score: float
    margin: float
    contrast: float


@dataclass(frozen=True)
class FitConfig:
    """What is promised, and what a finding must show to be covered."""

    missed_limit: float = 0.05
    """Most of the findings that are there may be called "no support"."""
    invented_limit: float = 0.05
    """Most of the findings that are not there may be called "supported"."""
    confidence: float = 0.95
    """Of the bounds by which thresholds are set."""
    least_answers: int = 20
    """Answers of each truth that a finding needs."""
    least_auroc: float = 0.75
    """How well the chances must tell presence from absence of one finding."""
    folds: int = 5
    """Parts in turn left out; whole patients while there are several, else whole studies."""
    offset_penalty: float = 1.0
    """How strongly the offsets of findings are pulled to zero: as one answer each."""

    def __post_init__(self) -> None:
        for name in ("missed_limit", "invented_limit", "confidence", "least_auroc"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a fraction between 0 and 1.")
        if self.least_answers < 1 or self.folds < 2 or self.offset_penalty <= 0:
            raise ConfigError("Expected at least one answer, two folds, and a penalty above 0.")


class Chances(NamedTuple):
    """The fitted regression."""

    weights: tuple[float, float, float]  # of SCORES
    bias: float
    offsets: Mapping[str, float]  # finding -> log-odds

    def of(self, answers: Sequence[Answer]) -> np.ndarray:
        """Chance (N,) that each finding is there."""
        logits = _scores(answers) @ np.array(self.weights) + self.bias
        return _sigmoid(logits + np.array([self.offsets.get(one.finding, 0.0) for one in answers]))


class Thresholds(NamedTuple):
    """Where conclusions begin; None = never."""

    no_support_below: float | None
    supported_above: float | None


class Fit(NamedTuple):
    """Everything that is decided from one set of answers."""

    chances: Chances
    thresholds: Thresholds
    aurocs: Mapping[str, float]  # covered finding -> on answers its chances were not fitted on


class Count(NamedTuple):
    """How often one conclusion was wrong."""

    wrong: int
    asked: int


def fit_calibration(answers: Sequence[Answer], config: FitConfig, measured_on: str) -> Calibration:
    """Chances and thresholds from all answers, error rates by leaving patients (or studies) out.

    A threshold whose measured rate is above its limit, or hardly known, is dropped; so is a finding whose own rate is
    clearly above.
    Where nothing is left the calibration is zeros: the engine then says "cannot tell". ConfigError for too few answers.
    """
    if len({one.is_there for one in answers}) < 2 or len(set(_groups(answers))) < 2:
        raise ConfigError(f"{len(answers)} answers; expected both truths, from at least two patients or studies.")
    fit = decide(answers, config)
    told = count_errors(answers, config, fit)
    kept = [name for name in fit.aurocs if _is_kept(told, name, config)]
    missed, invented = (_sum(told[name][which] for name in kept) for which in (0, 1))
    edges = fit.thresholds
    low = edges.no_support_below if _holds(missed, config.missed_limit) else None
    high = edges.supported_above if _holds(invented, config.invented_limit) else None
    if not kept or (low is None and high is None):
        return Calibration(0.0, 0.0, 0.0)
    records = tuple(
        FamilyRecord(
            name,
            round(float(fit.chances.offsets[name]), 6),
            round(fit.aurocs[name], 4),
            error_rate(told[name][0], config.missed_limit),
            error_rate(told[name][1], config.invented_limit),
        )
        for name in kept
    )
    score, margin, contrast = (round(weight, 6) for weight in fit.chances.weights)
    rates = (error_rate(missed, config.missed_limit), error_rate(invented, config.invented_limit))
    return Calibration(
        *(score, margin, round(fit.chances.bias, 6), contrast), low, high, *rates, records, measured_on=measured_on
    )


def decide(answers: Sequence[Answer], config: FitConfig) -> Fit:
    """Which findings are covered, their chances and the thresholds, all from `answers`."""
    names = [name for name in sorted({one.finding for one in answers}) if _is_frequent(answers, name, config)]
    some = [one for one in answers if one.finding in names]
    aurocs = _aurocs(some, unseen_chances(some, config)) if names else {}
    good = {name: value for name, value in aurocs.items() if value >= config.least_auroc}
    some = [one for one in some if one.finding in good]
    if not some:
        return Fit(Chances((0.0, 0.0, 0.0), 0.0, {}), Thresholds(None, None), {})
    unseen = unseen_chances(some, config)
    aurocs = _aurocs(some, unseen)
    return Fit(fit_chances(some, config), set_thresholds(unseen, _truth(some), config), aurocs)


def fit_chances(answers: Sequence[Answer], config: FitConfig) -> Chances:
    """Maximum likelihood with weights of at least 0 and penalised offsets, both truths counting the same."""
    names = sorted({one.finding for one in answers})
    scores, truth = _scores(answers), _truth(answers)
    middle, scale = scores.mean(axis=0), np.maximum(scores.std(axis=0), 1e-6)
    which = np.array([[one.finding == name for name in names] for one in answers], np.float64)
    design = np.concatenate([(scores - middle) / scale, np.ones((len(answers), 1)), which], axis=1)
    shares = balanced_weights(answers)
    penalty = np.array([1e-3] * 3 + [1e-6] + [config.offset_penalty] * len(names))

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        logits = design @ values
        wrong = (shares * np.logaddexp(0, np.where(truth, -logits, logits))).sum()
        slope = design.T @ (shares * (_sigmoid(logits) - truth))
        return float(wrong + (penalty * values**2).sum() / 2), slope + penalty * values

    bounds = [(0.0, None)] * 3 + [(None, None)] * (1 + len(names))
    found = minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = found[:3] / scale
    bias = float(found[3] - weights @ middle)
    score, margin, contrast = (float(weight) for weight in weights)
    return Chances((score, margin, contrast), bias, dict(zip(names, found[4:].tolist(), strict=True)))


def balanced_weights(answers: Sequence[Answer]) -> np.ndarray:
    """Weights (N,) that let each finding be there as often as not: how often it was painted is no patient's odds."""
    counts = Counter((one.finding, one.is_there) for one in answers)
    both = Counter(one.finding for one in answers)
    return np.array([both[one.finding] / (2 * counts[one.finding, one.is_there]) for one in answers])


def unseen_chances(answers: Sequence[Answer], config: FitConfig) -> np.ndarray:
    """Chance (N,) of each answer by a fit to the other patients (or studies)."""
    chances = np.zeros(len(answers))
    for left_out in _folds(answers, config.folds):
        rest = [one for one, is_out in zip(answers, left_out, strict=True) if not is_out]
        tested = [one for one, is_out in zip(answers, left_out, strict=True) if is_out]
        chances[left_out] = fit_chances(rest, config).of(tested)
    return chances


def set_thresholds(chances: np.ndarray, truth: np.ndarray, config: FitConfig) -> Thresholds:
    """The widest thresholds whose error rates are below their limits, with `config.confidence` each.

    chances: (N,) in [0, 1]; truth: (N,) bool, True = there. Where both would overlap they meet in the middle.
    """
    low = _edge(np.sort(chances[truth]), config.missed_limit, config.confidence)
    high = _edge(np.sort(1 - chances[~truth]), config.invented_limit, config.confidence)
    high = None if high is None else 1 - high
    if low is not None and high is not None and low > high:
        low = high = (low + high) / 2
    return Thresholds(low, high)


def count_errors(answers: Sequence[Answer], config: FitConfig, fit: Fit) -> dict[str, tuple[Count, Count]]:
    """Covered finding -> (missed, invented), each part of the answers judged by what the others decide."""
    wrong = {name: [[0, 0], [0, 0]] for name in fit.aurocs}
    for left_out in _folds(answers, config.folds):
        least = int(np.ceil(config.least_answers * (1 - left_out.mean())))  # as many as of all answers
        rest = [one for one, is_out in zip(answers, left_out, strict=True) if not is_out]
        judge = decide(rest, replace(config, least_answers=least))
        tested = [one for one, is_out in zip(answers, left_out, strict=True) if is_out and one.finding in wrong]
        tested = [one for one in tested if one.finding in judge.aurocs]
        for one, chance in zip(tested, judge.chances.of(tested), strict=True):
            counts = wrong[one.finding][0 if one.is_there else 1]
            counts[0] += int(_is_wrong(chance, one.is_there, judge.thresholds))
            counts[1] += 1
    return {name: (Count(*counts[0]), Count(*counts[1])) for name, counts in wrong.items()}


def error_rate(count: Count, limit: float) -> ErrorRate:
    """A count as a rate with its 95 % interval."""
    low, high = interval(count.wrong, count.asked, 0.025)
    return ErrorRate(count.wrong, count.asked, limit, _floored(low), _raised(high))


def interval(wrong: int, asked: int, tail: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of a rate with `tail` left out on each side."""
    low = 0.0 if wrong == 0 else float(beta.ppf(tail, wrong, asked - wrong + 1))
    high = 1.0 if wrong == asked else float(beta.ppf(1 - tail, wrong + 1, asked - wrong))
    return low, high


def _edge(ascending: np.ndarray, limit: float, confidence: float) -> float | None:
    """The largest of the chances below which so few lie that the bound of their share is within `limit`."""
    below = np.arange(len(ascending))
    bounds = beta.ppf(confidence, below + 1, len(ascending) - below)  # of the share that `below` of them are
    allowed = np.flatnonzero(bounds <= limit)
    return float(ascending[allowed[-1]]) if len(allowed) else None


def _is_wrong(chance: float, is_there: bool, edges: Thresholds) -> bool:
    if is_there:
        return edges.no_support_below is not None and chance < edges.no_support_below
    return edges.supported_above is not None and chance > edges.supported_above


def _is_frequent(answers: Sequence[Answer], name: str, config: FitConfig) -> bool:
    there = [one.is_there for one in answers if one.finding == name]
    return min(sum(there), len(there) - sum(there)) >= config.least_answers


def _is_kept(told: Mapping[str, tuple[Count, Count]], name: str, config: FitConfig) -> bool:
    """Whether a finding was judged at all and is not clearly worse than promised."""
    limits = (config.missed_limit, config.invented_limit)
    pairs = list(zip(told[name], limits, strict=True))
    return all(count.asked and interval(count.wrong, count.asked, 0.025)[0] <= limit for count, limit in pairs)


def _holds(count: Count, limit: float) -> bool:
    """Whether a measured rate is within its limit, and known well enough: its interval ends below twice the limit."""
    if not count.asked:
        return False
    return count.wrong / count.asked <= limit and interval(count.wrong, count.asked, 0.025)[1] <= 2 * limit


def _sum(counts: Iterable[Count]) -> Count:
    counts = list(counts)
    return Count(sum(one.wrong for one in counts), sum(one.asked for one in counts))


def _aurocs(answers: Sequence[Answer], chances: np.ndarray) -> dict[str, float]:
    """Finding -> how well its chances tell presence from absence."""
    found = {}
    for name in sorted({one.finding for one in answers}):
        own = np.array([one.finding == name for one in answers])
        found[name] = float(roc_auc_score(_truth(answers)[own], chances[own]))
    return found


def _folds(answers: Sequence[Answer], folds: int) -> list[np.ndarray]:
    """Masks (N,) bool of the parts that are left out in turn: whole patients, or whole studies of a single one."""
    groups = _groups(answers)
    turn = {group: number % folds for number, group in enumerate(sorted(set(groups)))}
    part = np.array([turn[group] for group in groups])
    return [part == number for number in range(min(folds, len(turn)))]


def _groups(answers: Sequence[Answer]) -> list[tuple[str, int]]:
    """What is left out together with each answer."""
    is_by_patient = is_split_by_patient(answers)
    return [(one.patient, 0 if is_by_patient else one.study) for one in answers]


def is_split_by_patient(answers: Sequence[Answer]) -> bool:
    """Whether there are several patients, so that whole ones can be left out."""
    return len({one.patient for one in answers}) > 1


def _scores(answers: Sequence[Answer]) -> np.ndarray:
    return np.array([[one.score, one.margin, one.contrast] for one in answers], np.float64).reshape(-1, 3)


def _truth(answers: Sequence[Answer]) -> np.ndarray:
    return np.array([one.is_there for one in answers], bool)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -50, 50)))


def _floored(value: float) -> float:
    return float(np.floor(value * 1e4) / 1e4)


def _raised(value: float) -> float:
    return float(min(1.0, np.ceil(value * 1e4) / 1e4))
