"""Tables of zero-shot probabilities against labels, as fVLM and ViSD-Boost print them, and without their defects."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score

from core.errors import ConfigError
from trainers.metrics.classification import mean_of_defined

Protocol = Literal["plain", "fvlm", "visd"]
"""fvlm, visd: thresholds are tuned on the labels that are scored ("oracle"), F1 is weighted over both classes. Columns
of one disease: fvlm keeps the last, visd the best of each number. A probability that is missing: fvlm takes 0, visd
leaves the volume out. plain: thresholds are given, F1 is of the finding, columns of one disease are joined by their
largest probability before scoring, a volume without any is left out (fVLM spec 8, ViSD-Boost spec 5)."""

THRESHOLDS = np.linspace(0, 1, 100)
"""What is tried."""
USUAL_THRESHOLD = 0.5


class Column(NamedTuple):
    """Probabilities of one question."""

    organ: str
    disease: str
    probabilities: np.ndarray  # (N,) float64, NaN = could not be asked


class ZeroShotScores(NamedTuple):
    """One disease, or the plain mean over several."""

    auc: float
    acc: float
    spec: float
    sens: float
    f1: float
    prec: float


def read_probabilities(text: str) -> tuple[list[str], list[Column]]:
    """A table with `file_name` and columns "organ_disease_negative_positive" -> volumes, columns. Blank = NaN."""
    rows = list(csv.reader(io.StringIO(text)))
    if len(rows) < 2 or any(heading.count("_") < 1 for heading in rows[0][1:]):
        raise ConfigError("Expected a table of file_name and columns such as lung_Emphysema_Not Emphysema._Emphysema.")
    columns = []
    for number, heading in enumerate(rows[0][1:], start=1):
        organ, disease = heading.split("_")[:2]
        values = np.array([float(row[number]) if row[number].strip() else np.nan for row in rows[1:]])
        columns.append(Column(organ, disease, values))
    return [row[0] for row in rows[1:]], columns


def read_labels(text: str, volumes: Sequence[str]) -> dict[str, np.ndarray]:
    """A label table (`VolumeName`, then 0 or 1 a disease) -> disease -> (N,) int64 in the order of `volumes`."""
    rows = {row["VolumeName"]: row for row in csv.DictReader(io.StringIO(text))}
    unknown = [volume for volume in volumes if volume not in rows]
    if unknown:
        raise ConfigError(f"{len(unknown)} volumes have no labels, such as {unknown[0]}; add them to the label table.")
    names = [name for name in next(iter(rows.values())) if name != "VolumeName"]
    return {name: np.array([int(float(rows[volume][name])) for volume in volumes]) for name in names}


def find_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The one of `THRESHOLDS` nearest to the ROC curve's perfect corner; the largest of several.

    probabilities (N,), labels (N,) 0 or 1; "yes" is above the threshold. Raises ConfigError for labels of one kind.
    """
    if len(set(labels.tolist())) != 2:
        raise ConfigError(f"A threshold needs volumes with and without the finding; all {len(labels)} say the same.")
    said = probabilities > THRESHOLDS[:, None]
    missed = 1 - said[:, labels == 1].mean(axis=1)
    false = said[:, labels == 0].mean(axis=1)
    distances = np.array([math.sqrt(a**2 + b**2) for a, b in zip(missed, false, strict=True)])
    return float(THRESHOLDS[len(distances) - 1 - int(distances[::-1].argmin())])


def tune_thresholds(columns: Sequence[Column], labels: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Disease -> its threshold on these volumes, which should not be those that are scored afterwards."""
    joined = [(column, labels[column.disease]) for column in _join_columns(columns)]
    kept = [(column, truth, ~np.isnan(column.probabilities)) for column, truth in joined]
    return {column.disease: find_threshold(column.probabilities[there], truth[there]) for column, truth, there in kept}


def score_zero_shot(
    columns: Sequence[Column],
    labels: Mapping[str, np.ndarray],
    protocol: Protocol = "plain",
    thresholds: Mapping[str, float] | None = None,
) -> dict[str, ZeroShotScores]:
    """Disease -> scores. thresholds: of the plain protocol, by disease, 0.5 where it says nothing."""
    unknown = {column.disease for column in columns} - set(labels)
    if unknown:
        raise ConfigError(f"No labels for {sorted(unknown)}; the label table has {sorted(labels)[:3]} and others.")
    given = thresholds or {}
    scores: dict[str, ZeroShotScores] = {}
    for column in _join_columns(columns) if protocol == "plain" else columns:
        values, truth = _fill_missing(column.probabilities, labels[column.disease], protocol)
        cut = given.get(column.disease, USUAL_THRESHOLD) if protocol == "plain" else find_threshold(values, truth)
        one = score_answers_at(cut, values, truth, weighted=protocol != "plain")
        earlier = scores.get(column.disease)
        scores[column.disease] = _keep_best(earlier, one) if earlier and protocol == "visd" else one
    return scores


def _join_columns(columns: Sequence[Column]) -> list[Column]:
    """One column a disease: the largest probability over the organs that could be asked, NaN without any."""
    by_disease: dict[str, list[Column]] = {}
    for column in columns:
        by_disease.setdefault(column.disease, []).append(column)
    return [
        Column("+".join(one.organ for one in same), disease, np.fmax.reduce([one.probabilities for one in same]))
        for disease, same in by_disease.items()
    ]


def _fill_missing(values: np.ndarray, truth: np.ndarray, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    if protocol == "fvlm":
        return np.nan_to_num(values, nan=0.0), truth
    there = ~np.isnan(values)
    return values[there], truth[there]


def _keep_best(first: ZeroShotScores, second: ZeroShotScores) -> ZeroShotScores:
    return ZeroShotScores(*(max(pair) for pair in zip(first, second, strict=True)))


def score_answers_at(
    threshold: float, probabilities: np.ndarray, labels: np.ndarray, *, weighted: bool = False
) -> ZeroShotScores:
    """Scores of "above the threshold": (N,), (N,) 0 or 1. NaN where there is nothing to divide by.

    weighted: F1 is the mean over "yes" and "no", weighted by how often they occur; rare findings then hardly count.
    """
    said, there = probabilities > threshold, labels == 1
    both, neither = int((said & there).sum()), int((~said & ~there).sum())
    return ZeroShotScores(
        auc=float(roc_auc_score(labels, probabilities)) if len(set(labels.tolist())) == 2 else np.nan,
        acc=_share(both + neither, len(labels)),
        spec=_share(neither, int((~there).sum())),
        sens=_share(both, int(there.sum())),
        f1=float(f1_score(there, said, average="weighted" if weighted else "binary", zero_division=0)),
        prec=both / int(said.sum()) if said.any() else 0.0,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else np.nan


def average_scores(scores: Mapping[str, ZeroShotScores]) -> ZeroShotScores:
    """Plain mean over diseases, each number over those that have it.

    Say which diseases beside it: fVLM and ViSD-Boost average 16 of CT-RATE's 18, and such means cannot be compared.
    """
    if not scores:
        raise ConfigError("There is no disease to average over.")
    return ZeroShotScores(*(mean_of_defined(np.array(values)) for values in zip(*scores.values(), strict=True)))
