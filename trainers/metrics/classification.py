"""Scores of classifiers with several yes-or-no labels, or with one class out of several."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.metrics import confusion_matrix, f1_score, precision_score, roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from core.findings import CT_RATE_LABELS

RADCHEST_LABELS: tuple[str, ...] = tuple(
    "Calcification" if label == "Arterial wall calcification" else label
    for label in CT_RATE_LABELS
    if label not in ("Coronary artery wall calcification", "Mosaic attenuation pattern")
)
"""The 16 columns of Rad-ChestCT's label lists, in CT-RATE's words and order (ASAP spec 6.1)."""


class LabelScores(NamedTuple):
    """N studies with C yes-or-no labels each."""

    accuracy: float  # share of the N * C answers that are right at probability 0.5
    micro_f1: float  # over all answers
    macro_f1: float  # plain mean of the labels' F1
    micro_precision: float
    auroc: tuple[float, ...]  # per label; NaN where all studies say the same
    auroc_mean: float  # plain mean of those that are defined
    loss: float  # binary cross-entropy


class ClassScores(NamedTuple):
    """N studies of one class out of C each."""

    accuracy: float
    micro_f1: float  # the same as accuracy where every study has one class
    macro_f1: float  # plain mean over the classes that occur
    micro_precision: float
    loss: float  # cross-entropy
    confusion: np.ndarray  # (C, C) int64, [truth, answer]


def score_labels(
    logits: Tensor, labels: Tensor, *, as_released: bool = False, batches_of: int | None = None
) -> LabelScores:
    """Scores at probability 0.5 and areas under the curve of logits (N, C), labels (N, C) 0 or 1 (ASAP spec 6.1).

    as_released: as ASAP's evaluation prints them: a single column counts as two classes (micro F1 and precision are
    then the accuracy, macro F1 averages yes and no), and probabilities keep the logits' precision (float16 ties).
    batches_of: the loss as the published loop averages it, over batches of this size, a short last one at full weight.
    """
    _require_same(logits, labels)
    losses = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none").mean(dim=1)
    probability = (logits if as_released else logits.double()).sigmoid()
    return score_answers(probability, probability > 0.5, labels, as_released)._replace(
        loss=mean_loss(losses, batches_of)
    )


def score_answers(scores: Tensor, said: Tensor, labels: Tensor, as_released: bool = False) -> LabelScores:
    """Scores of answers `said` (N, C) bool, ranked by `scores` (N, C), against labels (N, C); the loss is NaN."""
    truth, answers = labels.numpy().astype(int), said.numpy().astype(int)
    areas = score_areas(scores, labels)
    return LabelScores(
        accuracy=float((truth == answers).mean()),
        micro_f1=_score_columns(f1_score, truth, answers, "micro", as_released),
        macro_f1=_score_columns(f1_score, truth, answers, "macro", as_released),
        micro_precision=_score_columns(precision_score, truth, answers, "micro", as_released),
        auroc=tuple(areas.tolist()),
        auroc_mean=mean_of_defined(areas),
        loss=np.nan,
    )


def _score_columns(score, truth: np.ndarray, answers: np.ndarray, average: str, as_released: bool) -> float:  # type: ignore[no-untyped-def]
    """scikit-learn takes one column for two classes; as one label only its "yes" counts."""
    if truth.shape[1] == 1:
        truth, answers = truth[:, 0], answers[:, 0]
        average = average if as_released else "binary"
    return float(score(truth, answers, average=average, zero_division=0))


def score_classes(logits: Tensor, classes: Tensor, batches_of: int | None = None) -> ClassScores:
    """Scores of the likeliest class: logits (N, C), classes (N,) or (N, 1) from 0; batches_of as in `score_labels`."""
    truth = classes.flatten().long()
    if len(truth) != len(logits):
        raise ConfigError(f"{len(logits)} rows of logits but {len(truth)} classes; give one class to each study.")
    answers = logits.argmax(dim=1)
    same = (truth.numpy(), answers.numpy())
    return ClassScores(
        accuracy=float((truth == answers).float().mean()),
        micro_f1=float(f1_score(*same, average="micro", zero_division=0)),
        macro_f1=float(f1_score(*same, average="macro", zero_division=0)),
        micro_precision=float(precision_score(*same, average="micro", zero_division=0)),
        loss=mean_loss(F.cross_entropy(logits.float(), truth, reduction="none"), batches_of),
        confusion=confusion_matrix(*same, labels=range(logits.shape[1])),
    )


def score_areas(scores: Tensor, labels: Tensor) -> np.ndarray:
    """Area under the ROC curve per column: scores (N, C), labels (N, C) 0 or 1 -> (C,), NaN for a label of one kind."""
    _require_same(scores, labels)
    columns = zip(scores.double().numpy().T, labels.numpy().T, strict=True)
    return np.array([roc_auc_score(label, score) if len(set(label)) == 2 else np.nan for score, label in columns])


def score_area(scores: np.ndarray, truth: np.ndarray) -> float:
    """The same for one label, ten times as fast, for the many draws of a bootstrap: scores (N,), truth (N,) bool.

    Mann and Whitney's count of pairs in the right order, equal ones half (1947). NaN where all are of one kind.
    """
    there = int(truth.sum())
    pairs = there * (len(truth) - there)
    if not pairs:
        return np.nan
    return float((rankdata(scores)[truth].sum() - there * (there + 1) / 2) / pairs)


def mean_of_defined(numbers: np.ndarray) -> float:
    """Mean over what is not NaN; NaN without any."""
    defined = numbers[~np.isnan(numbers)]
    return float(defined.mean()) if defined.size else np.nan


def mean_loss(losses: Tensor, batches_of: int | None = None) -> float:
    """Mean over studies (N,), or as released: the mean of the means over batches of one size."""
    if batches_of is None:
        return float(losses.mean())
    return float(torch.stack([batch.mean() for batch in losses.split(batches_of)]).mean())


def _require_same(scores: Tensor, labels: Tensor) -> None:
    if scores.shape != labels.shape or scores.ndim != 2:
        raise ConfigError(
            f"Scores are {tuple(scores.shape)}, labels {tuple(labels.shape)}; expected both as (studies, labels)."
        )


class TransferScores(NamedTuple):
    """CT-RATE's 18 answers on Rad-ChestCT's 16 labels."""

    scores: LabelScores
    asked: tuple[str, ...]  # the CT-RATE finding behind each label; two joined by " or "
    candidates: tuple[float, ...]  # area of each of the 17 usable answers, calcification asked of both kinds


def score_transfer(
    logits: Tensor, labels: Tensor, names: Sequence[str] = CT_RATE_LABELS, *, as_released: bool = False
) -> TransferScores:
    """Score logits (N, 18), columns `names`, on Rad-ChestCT's labels (N, 16), columns `RADCHEST_LABELS`.

    Rad-ChestCT tells no kind of calcification: it is there where either kind is, so the larger logit answers.
    as_released: the kind with the larger area on these very labels answers (ASAP spec 6.1), a choice made on test data.
    """
    kinds = [name for name in names if name.endswith("calcification")]
    usable = [name for name in names if name in RADCHEST_LABELS or name in kinds]
    columns = [RADCHEST_LABELS.index("Calcification" if name in kinds else name) for name in usable]
    asked = logits[:, [names.index(name) for name in usable]]
    probability = (asked if as_released else asked.double()).sigmoid()
    areas = score_areas(probability, labels[:, columns])
    first, second = (usable.index(kind) for kind in kinds)
    left = first if as_released and not areas[first] > areas[second] else second
    keep = [number for number in range(len(usable)) if number != left]
    told = [usable[number] for number in keep]
    if not as_released:
        probability[:, first] = probability[:, [first, second]].amax(dim=1)
        told[first] = " or ".join(kinds)
    chosen = probability[:, keep]
    scores = score_answers(chosen, chosen > 0.5, labels[:, [columns[number] for number in keep]], as_released)
    return TransferScores(scores, tuple(told), tuple(areas.tolist()))


def find_twin_columns(labels: Tensor, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of labels that no study of (N, C) tells apart: a list that has some was probably made wrongly.

    In ASAP's test_list_origin.csv of Rad-ChestCT the two effusions are such a pair.
    """
    pairs = combinations(range(len(names)), 2)
    return tuple((names[a], names[b]) for a, b in pairs if bool((labels[:, a] == labels[:, b]).all()))
