"""A chance of presence from an engine's scores, fitted to answers whose truth is known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from trainers.grounding.judging import Answer
from trainers.metrics.classification import score_area

LEAST_AUROC = 0.6
"""A fit that does worse on answers it has not seen is not worth a number."""
LEAST_ANSWERS = 10
"""Of each kind in each half."""


def calibrate(answers: Sequence[Answer]) -> dict[str, Any]:
    """Logistic fit of presence on score and margin: fitted on every other patient's answers, judged on the rest.

    A weight below zero would make stronger support count against a finding: such a fit is left out. Where no fit tells
    presence from absence (`LEAST_AUROC` on the rest), all weights are 0: the engine then says 0.5, "cannot tell".
    {} with too few answers of either kind.
    """
    features = np.array([[answer.score, answer.margin] for answer in answers])
    truth, fitted = np.array([answer.is_there for answer in answers], bool), _every_other_patient(answers)
    if min(int((kind & half).sum()) for kind in (truth, ~truth) for half in (fitted, ~fitted)) < LEAST_ANSWERS:
        return {}
    best, best_auroc = _weights({}, 0.0), LEAST_AUROC
    for columns in ([0, 1], [0], [1]):
        fit = LogisticRegression(C=100.0).fit(features[fitted][:, columns], truth[fitted])
        auroc = score_area(fit.decision_function(features[~fitted][:, columns]), truth[~fitted])
        if (fit.coef_ >= 0).all() and auroc > best_auroc:
            best = _weights(dict(zip(columns, fit.coef_[0].tolist(), strict=True)), float(fit.intercept_[0]))
            best_auroc = auroc
    return best | {"answers": len(answers)}


def _every_other_patient(answers: Sequence[Answer]) -> np.ndarray:
    """(N,) bool."""
    order = {patient: place for place, patient in enumerate(dict.fromkeys(answer.patient for answer in answers))}
    return np.array([order[answer.patient] % 2 == 0 for answer in answers], bool)


def _weights(weights: dict[int, float], bias: float) -> dict[str, Any]:
    """The numbers of `core.grounding.asap_engine.Calibration`."""
    return {
        "score_weight": round(weights.get(0, 0.0), 3),
        "margin_weight": round(weights.get(1, 0.0), 3),
        "bias": round(bias, 3),
    }
