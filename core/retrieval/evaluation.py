"""How well an index finds what it should."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from core.errors import ConfigError
from core.grounding.engine import GroundingEngine
from core.progress import Progress, silent
from core.retrieval.index import ReportIndex
from core.retrieval.table import known_label


class KnownItem(NamedTuple):
    """A query with its right answer."""

    text: str  # for example the impression of a report whose findings are indexed
    study_id: str


class RetrievalScore(NamedTuple):
    """Known-item search over Q queries."""

    recall: dict[int, float]  # k -> share of queries whose study is among the first k
    median_rank: float  # 1 = first; counted as worse than all when it is not among the deepest k
    queries: int


def score_known_items(
    index: ReportIndex,
    engine: GroundingEngine,
    items: Sequence[KnownItem],
    depths: tuple[int, ...] = (1, 5, 10),
    progress: Progress = silent,
) -> RetrievalScore:
    """Recall@k of text -> report; 1/len(index) is chance at k = 1. Raises ConfigError without queries."""
    if not items or not depths:
        raise ConfigError("Retrieval needs at least one query and one depth to be scored.")
    deepest = max(depths)
    ranks = []
    for done, item in enumerate(items):
        progress(done / len(items), f"query {done + 1} of {len(items)}")
        found = [hit.study_id for hit in index.search_text(item.text, engine, deepest).hits]
        ranks.append(found.index(item.study_id) + 1 if item.study_id in found else len(index))
    recall = {k: float(np.mean([rank <= k for rank in ranks])) for k in depths}
    return RetrievalScore(recall, float(np.median(ranks)), len(items))


def score_label_precision(index: ReportIndex, engine: GroundingEngine, label: str, text: str, count: int = 10) -> float:
    """Share of the first `count` reports for `text` that have a CT-RATE label (chance: `count_matching` / all)."""
    name = known_label(label)
    hits = index.search_text(text, engine, count).hits
    return float(np.mean([hit.labels[name] for hit in hits])) if hits else 0.0
