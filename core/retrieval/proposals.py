"""Which reports could be the best answers to a query, with a bound on how well each can score."""

from typing import NamedTuple

import numpy as np

from core.retrieval.neighbours import Nearest, Neighbours, cosines_between
from core.retrieval.postings import Postings
from core.retrieval.query import Query

POOL = 2048
"""Reports kept for their sentences, before they are compared as a whole: 1024 lost 1% of the true ten best."""
HOLDERS = 64_000
"""Reports looked at per sentence of a query: common phrases stand in tens of thousands of them."""


class Proposals(NamedTuple):
    """Reports worth scoring, the most promising first."""

    rows: np.ndarray  # (C,) int64, distinct
    bounds: np.ndarray  # (C,) float32: no score of the report is higher, but for sentences that the search missed


class Bounds(NamedTuple):
    """What the nearest sentences say of R reports: the mean best cosine of report r is at most floor + gains[r]."""

    floor: float
    gains: np.ndarray  # (R,) float32, 0 where a report holds none of the nearest sentences


def propose_reports(
    query: Query, nearest: Nearest, reports: Neighbours, reports_of: Postings, allowed: np.ndarray, width: int
) -> Proposals:
    """Reports among `allowed` (R,) for a query whose nearest sentences (Q, K) are known.

    Those whose sentences are near, and the `width` nearest as a whole; where very many hold the same near sentences,
    the nearest of them as a whole.
    """
    bounds = bound_by_sentences(nearest, reports_of, len(allowed))
    whole = reports.nearest(query.whole[None], width, allowed).rows[0]
    holders = _best_holders(query, np.where(allowed, bounds.gains, 0), reports)
    rows = np.union1d(holders, whole[whole >= 0])
    cosines = cosines_between(reports.vectors[rows], query.whole[None])[:, 0]
    highest = query.sentence_weight * (bounds.floor + bounds.gains[rows]) + (1 - query.sentence_weight) * cosines
    order = np.argsort(-highest, kind="stable")
    return Proposals(rows[order], highest[order])


def bound_by_sentences(nearest: Nearest, reports_of: Postings, reports: int) -> Bounds:
    """Bounds on the mean, over a query's sentences, of the best cosine in each of `reports` reports."""
    gains, floors = np.zeros(reports, np.float32), []
    for cosines, sentences in zip(nearest.cosines, nearest.rows, strict=True):
        found = sentences >= 0
        rows, values, floor = _spread(cosines[found], sentences[found], reports_of)
        best = np.zeros(reports, np.float32)
        best[rows] = values - floor
        gains += best
        floors.append(floor)
    return Bounds(float(np.mean(floors)), gains / len(floors))


def _spread(cosines: np.ndarray, sentences: np.ndarray, reports_of: Postings) -> tuple[np.ndarray, np.ndarray, float]:
    """Of near sentences (K,), best first: their reports and cosines (n,), best last, and what others do not exceed."""
    if not len(sentences):
        return np.zeros(0, np.int64), np.zeros(0, np.float32), 1.0
    counts = reports_of.starts[sentences + 1] - reports_of.starts[sentences]
    kept = max(1, int(np.searchsorted(np.cumsum(counts), HOLDERS, side="right")))
    floor = float(cosines[min(kept, len(cosines) - 1)])
    rows, _ = reports_of.of_many(sentences[:kept][::-1])
    return rows, np.repeat(cosines[:kept][::-1], counts[:kept][::-1]), floor


def _best_holders(query: Query, gains: np.ndarray, reports: Neighbours) -> np.ndarray:
    """Up to `POOL` reports with the highest `gains` (R,); of equals at the end the nearest to the query as a whole."""
    holders = np.flatnonzero(gains)
    if len(holders) <= POOL:
        return holders
    last = np.partition(gains[holders], len(holders) - POOL)[len(holders) - POOL]
    better = holders[gains[holders] > last]
    equals = reports.nearest(query.whole[None], POOL - len(better), gains == last).rows[0]
    return np.concatenate([better, equals[equals >= 0]])
