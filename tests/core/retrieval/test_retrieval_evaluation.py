import pytest
from word_engine import ROWS

from core.errors import ConfigError
from core.retrieval.evaluation import KnownItem, score_known_items, score_label_precision


def test_known_items_are_ranked_and_counted(index, engine):
    items = [KnownItem(row.findings, row.study_id) for row in ROWS]
    score = score_known_items(index, engine, items, (1, 2))
    assert score.recall == {1: 1.0, 2: 1.0}
    assert score.median_rank == 1.0
    wrong = [KnownItem("A spiculated nodule in the right upper lobe.", "e")]
    assert score_known_items(index, engine, wrong, (1,)).recall == {1: 0.0}
    assert score_known_items(index, engine, wrong, (1,)).median_rank == len(ROWS)
    with pytest.raises(ConfigError, match="at least one query"):
        score_known_items(index, engine, [])


def test_label_precision_counts_labelled_hits(index, engine):
    query = "There is a large left pleural effusion."
    assert score_label_precision(index, engine, "Pleural effusion", query, count=2) == 1.0
    assert score_label_precision(index, engine, "pleural effusion", query, count=5) == pytest.approx(2 / 5)
