"""Prognosis in intervals of time: hazards, their likelihood, concordance (ASAP spec 6.2)."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from trainers.metrics.classification import mean_of_defined, score_areas

EPSILON = 1e-8
"""Added to a likelihood before its logarithm, as released."""


class PrognosisScores(NamedTuple):
    """How well risks rank patients."""

    c_index: float  # Harrell's; NaN without a pair to compare
    auroc: tuple[float, ...]  # "has happened by the end of interval j", per interval
    auroc_mean: float


def find_first_events(flags: Tensor) -> tuple[Tensor, Tensor]:
    """Cumulative flags (N, H) 0 or 1 -> interval (N,) int64 of the first one, and event (N,) float32 0 or 1.

    Without an event the time is the last interval: these tables know no earlier end of watching.
    """
    happened = flags > 0
    event = happened.any(dim=1)
    first = happened.float().argmax(dim=1)
    return torch.where(event, first, flags.shape[1] - 1), event.float()


def survive(logits: Tensor) -> Tensor:
    """Probability of being event-free at the end of each interval: hazard logits (N, H) -> (N, H).

    S_j = prod_{r <= j} (1 - h_r), h = sigmoid(logit).
    """
    return (-logits).sigmoid().cumprod(dim=1)


def hazard_nll(logits: Tensor, interval: Tensor, event: Tensor) -> Tensor:
    """Negative log-likelihood per patient (N,): h_j S_{j-1} with an event in interval j, S_j when watching ended there.

    Gensheimer and Narasimhan 2019 (PeerJ 7:e6257), with `EPSILON` inside the logarithm. Differentiable.
    """
    survival = survive(logits)
    at = interval.long()[:, None]
    before = torch.cat([torch.ones_like(survival[:, :1]), survival[:, :-1]], dim=1).gather(1, at)
    happened = logits.sigmoid().gather(1, at) * before
    likelihood = torch.where(event[:, None] > 0, happened, survival.gather(1, at))
    return -(likelihood + EPSILON).log()[:, 0]


def prognosis_loss(logits: Tensor, flags: Tensor) -> Tensor:
    """ASAP's loss on INSPECT, a scalar: 2 NLL + BCE of the same logits to the cumulative flags, both (N, H).

    The logits serve as hazards in the first term and as cumulative risks in the second, as published.
    """
    interval, event = find_first_events(flags)
    likelihood = hazard_nll(logits, interval, event).mean()
    return 2 * likelihood + F.binary_cross_entropy_with_logits(logits, flags.float())


def concordance(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    """Share of comparable pairs in which the one with the earlier event has the higher risk (Harrell 1982).

    time, event (0 or 1), risk: (N,). A pair is comparable when the earlier one had an event; at equal times, when only
    one had: that one is the earlier. Equal risks count one half. NaN without a pair.
    """
    if not len(time) == len(event) == len(risk):
        raise ConfigError(f"{len(time)} times, {len(event)} events and {len(risk)} risks; expected one of each.")
    pairs, won = 0, 0.0
    for moment, score in zip(time[event > 0], risk[event > 0], strict=True):
        later = risk[(time > moment) | ((time == moment) & (event == 0))]
        pairs += len(later)
        won += float((score > later).sum()) + 0.5 * float((score == later).sum())
    return won / pairs if pairs else np.nan


def score_prognosis(logits: Tensor, flags: Tensor, *, as_released: bool = False) -> PrognosisScores:
    """C-index and areas of hazard logits (N, H) against cumulative flags (N, H).

    By default the risk is the expected share of time lost, sum_j (1 - S_j), and interval j is ranked by 1 - S_j.
    as_released: the risk is the sum of the logits and interval j is ranked by its own hazard.
    """
    interval, event = find_first_events(flags)
    happened = logits.sigmoid() if as_released else 1 - survive(logits.double())
    risk = logits.sum(dim=1) if as_released else happened.sum(dim=1)
    areas = score_areas(happened, flags)
    c_index = concordance(interval.numpy(), event.numpy(), risk.numpy())
    return PrognosisScores(c_index, tuple(areas.tolist()), mean_of_defined(areas))
