"""How well labels are told: AUROC, average precision, F1, accuracy, per class and over classes (ASAP spec 6.1).

Scores (N, C) in [0, 1], labels (N, C) of 0 and 1. NaN where a number is not defined.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from trainers.finetuning.lists import LabelTable
from trainers.metrics.intervals import IntervalConfig, bootstrap_many

HALF = 0.5
"""The threshold of the released benchmark."""


def auroc(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each column, ties counted half: (C,); NaN with one kind of label only."""
    positive = labels.astype(bool)
    n_positive = positive.sum(axis=0)
    n_negative = len(labels) - n_positive
    ranks = (rankdata(scores, axis=0) * positive).sum(axis=0)
    pairs = (n_positive * n_negative).astype(float)
    return np.divide(
        ranks - n_positive * (n_positive + 1) / 2, pairs, out=np.full(labels.shape[1], np.nan), where=pairs > 0
    )


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sum over thresholds of precision times the gain in recall, equal scores taken together: (C,); NaN without any."""
    return np.array([_average_precision(scores[:, c], labels[:, c]) for c in range(labels.shape[1])])


def _average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    positives = labels.sum()
    if positives == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)  # of its score
    hits = np.cumsum(labels[order], dtype=float)[is_last]
    precision = hits / (np.flatnonzero(is_last) + 1)
    return float((precision * np.diff(hits, prepend=0)).sum() / positives)


def f1_scores(said: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """F1 of each column (C,), 0 where nothing is right, and of all cells together; said (N, C) bool."""
    true, wanted = (said & (labels == 1)).sum(axis=0), labels.sum(axis=0) + said.sum(axis=0)
    per_class = np.divide(2 * true, wanted, out=np.zeros(len(true)), where=wanted > 0)
    return per_class, float(2 * true.sum() / max(1, wanted.sum()))


def choose_thresholds(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The threshold of each column with the best F1 on validation, the lowest of equals; 0.5 without positives: (C,).

    A label is said where its score is at least the threshold.
    """
    chosen = np.full(labels.shape[1], HALF)
    for c in range(labels.shape[1]):
        positives = labels[:, c].sum()
        if positives:
            order = np.argsort(-scores[:, c], kind="stable")
            hits, said = np.cumsum(labels[order, c]), np.arange(1, len(order) + 1)
            f1 = np.where(np.append(np.diff(scores[order, c]) != 0, True), 2 * hits / (said + positives), -1)
            chosen[c] = scores[order[len(f1) - 1 - int(f1[::-1].argmax())], c]
    return chosen


def measure_labels(
    scores: np.ndarray, table: LabelTable, thresholds: np.ndarray, exclusive: bool = False
) -> dict[str, float]:
    """Every number by name, classes as `auroc/NAME`. Means over classes leave undefined ones out."""
    labels = table.labels
    areas, precisions = auroc(scores, labels), average_precision(scores, labels)
    told = {"auroc_macro": _mean(areas), "ap_macro": _mean(precisions)}
    if exclusive:
        best = np.eye(labels.shape[1], dtype=bool)[scores.argmax(axis=1)]
        per_class, micro = f1_scores(best, labels)
        told |= {"accuracy": float((best & (labels == 1)).any(axis=1).mean()), "f1_macro": float(per_class.mean())}
        told |= _named("f1", table.classes, per_class)
    else:
        for name, limit in (("", np.full(len(table.classes), HALF)), ("_chosen", thresholds)):
            said = scores >= limit
            per_class, micro = f1_scores(said, labels)
            told |= {f"f1_macro{name}": float(per_class.mean()), f"f1_micro{name}": micro}
            told[f"accuracy{name}"] = float((said == (labels == 1)).mean())
            told |= _named(f"f1{name}", table.classes, per_class)
    return told | _named("auroc", table.classes, areas) | _named("ap", table.classes, precisions)


def report_labels(
    scores: np.ndarray,
    table: LabelTable,
    patients: Sequence[str],
    thresholds: np.ndarray,
    config: IntervalConfig,
    exclusive: bool = False,
) -> dict[str, Any]:
    """Numbers with their intervals, as metrics.json has them."""

    def measure(rows: np.ndarray) -> dict[str, float]:
        return measure_labels(scores[rows], LabelTable((), table.classes, table.labels[rows]), thresholds, exclusive)

    whole = measure(np.arange(len(scores)))
    intervals = bootstrap_many(measure, patients, config)
    values = {
        name: {"value": None if np.isnan(value) else value, "interval": intervals.get(name)}
        for name, value in whole.items()
    }
    counts = dict(zip(table.classes, table.labels.sum(axis=0).tolist(), strict=True))
    told = dict(zip(table.classes, thresholds.tolist(), strict=True))
    return {
        "studies": len(scores),
        "patients": len(set(patients)),
        "positives": counts,
        "undefined": [name for name, value in whole.items() if np.isnan(value)],
        "chosen_thresholds": None if exclusive else told,
        "values": values,
    }


def _named(metric: str, classes: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return {f"{metric}/{name}": float(value) for name, value in zip(classes, values, strict=True)}


def _mean(values: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, as told above
        return float(np.nanmean(values))
