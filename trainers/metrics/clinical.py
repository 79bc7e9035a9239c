"""Findings that generated reports state, against those of the references (CheXbert's 14 conditions or any others)."""

from typing import NamedTuple

import numpy as np

from core.errors import ConfigError

POSITIVE = 1
"""CheXbert's code for "is there"; 0 blank, 2 negative and 3 uncertain count as not there."""
_RELEASED_EPSILON = 1e-6


class Agreement(NamedTuple):
    """Precision, recall and F1."""

    precision: float
    recall: float
    f1: float


class ClinicalScores(NamedTuple):
    """N reports, C conditions."""

    macro: Agreement  # plain mean over conditions
    micro: Agreement  # over all answers
    example: Agreement  # plain mean over reports
    reports: int


def score_conditions(reference: np.ndarray, generated: np.ndarray, *, as_released: bool = False) -> ClinicalScores:
    """Compare condition codes (N, C) integer of references and generated reports.

    By default a condition that neither has is left out of the macro mean, and a report without any on both sides agrees
    (1). as_released: both count 0, and 1e-6 in each denominator keeps perfect agreement below 1.
    """
    if reference.shape != generated.shape or reference.ndim != 2 or not reference.size:
        raise ConfigError(
            f"Conditions are {reference.shape} and {generated.shape}; expected both (reports, conditions)."
        )
    there, said = reference == POSITIVE, generated == POSITIVE
    counts = np.stack([there & said, said, there]).astype(float)  # (3, N, C)
    undefined = (0.0, 0.0) if as_released else (np.nan, 1.0)
    epsilon = _RELEASED_EPSILON if as_released else 0.0
    return ClinicalScores(
        _mean(counts.sum(axis=1), undefined[0], epsilon),
        _mean(counts.sum(axis=(1, 2))[:, None], undefined[1], epsilon),
        _mean(counts.sum(axis=2), undefined[1], epsilon),
        len(reference),
    )


def _mean(counts: np.ndarray, undefined: float, epsilon: float) -> Agreement:
    """(3, M) right, said, there -> the means over M; `undefined` is what stands for nothing said and nothing there."""
    right, said, there = counts
    wholes = (said, there, (said + there) / 2)
    parts = (right / np.where(whole + epsilon > 0, whole + epsilon, 1.0) for whole in wholes)
    shares = [np.where(said + there > 0, part, undefined) for part in parts]
    return Agreement(
        *(float(share[~np.isnan(share)].mean()) if not np.isnan(share).all() else np.nan for share in shares)
    )
