"""From judged sentences to figures: per finding and over all, with intervals that draw patients."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainers.grounding.judging import WAYS, Answer, SentenceRow
from trainers.metrics.classification import mean_of_defined, score_area
from trainers.metrics.intervals import IntervalConfig, bootstrap_many

MEASURES = {
    "pointing": "hit",
    "chance": "chance",
    "wrong_side": "wrong_side",
    "dice_best": "dice_best",
    "dice_fixed": "dice_fixed",
    "voxel_auroc": "voxel_auroc",
    "voxel_auroc_in_organ": "voxel_auroc_in_organ",
    "heat_in_organ": "heat_in_organ",
}
"""Figure -> what of a `Reading` it is the mean of, over the sentences for which that is defined."""
PRESENCE = ("probability", "score", "margin")
Figures = dict[str, Any]


def summarise(rows: Sequence[SentenceRow], config: IntervalConfig) -> Figures:
    """Figures over all sentences and per finding, ready for JSON; None = not defined."""
    findings = sorted({row.finding for row in rows})
    return {
        "overall": _figures(rows, config),
        "per_finding": {name: _figures([row for row in rows if row.finding == name], config) for name in findings},
    }


def _figures(rows: Sequence[SentenceRow], config: IntervalConfig) -> Figures:
    table = {
        f"{way} {name}": np.array([getattr(getattr(row, way), field) for row in rows])
        for way in WAYS
        for name, field in MEASURES.items()
    }

    def measure(chosen: np.ndarray) -> dict[str, float]:
        return {name: mean_of_defined(values[chosen]) for name, values in table.items()}

    patients = [row.patient for row in rows]
    told = with_intervals(measure, patients, config) if rows else {}
    counts = {name: int(np.isfinite(values).sum()) for name, values in table.items()}
    return {
        "sentences": len(rows),
        "patients": len(set(patients)),
        **{
            way: {name: told[f"{way} {name}"] | {"n": counts[f"{way} {name}"]} for name in MEASURES if rows}
            for way in WAYS
        },
    }


def with_intervals(measure: Any, patients: Sequence[str], config: IntervalConfig) -> dict[str, Figures]:
    """Each number of `measure` with the ends of its interval; the ends are None with fewer than two patients."""
    values = measure(np.arange(len(patients)))
    ends = bootstrap_many(measure, patients, config) if len(set(patients)) > 1 else {}
    return {
        name: {"value": _or_none(value)} | dict(zip(("low", "high"), ends.get(name, [None, None]), strict=True))
        for name, value in values.items()
    }


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def summarise_presence(answers: Sequence[Answer], config: IntervalConfig) -> Figures:
    """Areas under the ROC curve of true against false sentences, by probability, score and margin.

    Per finding: sentences about this finding, true of some cases and false of others. mean_over_findings: over the
    findings for which that is defined. overall: all sentences in one pot, so that how common a finding is counts too.
    """
    truth = np.array([answer.is_there for answer in answers], bool)
    values = {name: np.array([getattr(answer, name) for answer in answers]) for name in PRESENCE}
    members = _members(answers)

    def measure(chosen: np.ndarray) -> dict[str, float]:
        found = {}
        for name, scores in values.items():
            found[f"overall {name}"] = score_area(scores[chosen], truth[chosen])
            areas = [_area_of(chosen[member[chosen]], scores, truth) for member in members.values()]
            found |= {f"{finding} {name}": area for finding, area in zip(members, areas, strict=True)}
            found[f"mean_over_findings {name}"] = mean_of_defined(np.array(areas))
        return found

    told = with_intervals(measure, [answer.patient for answer in answers], config) if answers else {}
    count = {"overall": np.ones(len(answers), bool), **members}
    findings = {finding: _told(told, finding, truth[member]) for finding, member in members.items()}
    defined = sum(one["true"] > 0 and one["false"] > 0 for one in findings.values())
    return {
        "overall": _told(told, "overall", truth[count["overall"]]),
        "mean_over_findings": {
            "findings": defined,
            **{name: told.get(f"mean_over_findings {name}") for name in PRESENCE},
        },
        "per_finding": findings,
    }


def _members(answers: Sequence[Answer]) -> dict[str, np.ndarray]:
    """Finding -> (N,) bool, which answers are about it."""
    names = np.array([answer.finding for answer in answers])
    return {str(name): names == name for name in sorted(set(names.tolist()))}


def _area_of(rows: np.ndarray, scores: np.ndarray, truth: np.ndarray) -> float:
    return score_area(scores[rows], truth[rows])


def _told(told: Mapping[str, Figures], finding: str, truth: np.ndarray) -> Figures:
    counts = {"true": int(truth.sum()), "false": int((~truth).sum())}
    return counts | {name: told.get(f"{finding} {name}") for name in PRESENCE}
