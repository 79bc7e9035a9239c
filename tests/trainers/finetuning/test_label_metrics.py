"""Label metrics against scikit-learn, on scores with ties and labels of one kind."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from trainers.finetuning.label_metrics import auroc, average_precision, choose_thresholds, measure_labels, report_labels
from trainers.finetuning.lists import LabelTable
from trainers.metrics.intervals import IntervalConfig


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 4)) < [0.5, 0.2, 0.05, 0]).astype(np.uint8)
    scores = np.round(np.clip(0.3 * labels + rng.random((60, 4)) * 0.7, 0, 1), 1)  # many ties
    return scores, LabelTable(tuple(map(str, range(60))), tuple("abcd"), labels)


def test_areas_and_precisions_are_scikit_learn_s(drawn):
    scores, table = drawn
    for place in range(3):
        one = (table.labels[:, place], scores[:, place])
        assert auroc(scores, table.labels)[place] == pytest.approx(roc_auc_score(*one))
        assert average_precision(scores, table.labels)[place] == pytest.approx(average_precision_score(*one))
    assert np.isnan(auroc(scores, table.labels)[3])
    assert np.isnan(average_precision(scores, table.labels)[3])


def test_f1_at_one_half_is_scikit_learn_s(drawn):
    scores, table = drawn
    told = measure_labels(scores, table, np.full(4, 0.5))
    for average in ("micro", "macro"):
        expected = f1_score(table.labels, scores >= 0.5, average=average, zero_division=0)
        assert told[f"f1_{average}"] == pytest.approx(expected)


def test_chosen_thresholds_give_the_best_f1_there_is(drawn):
    scores, table = drawn
    chosen = choose_thresholds(scores, table.labels)
    for place in range(3):
        options = [f1_score(table.labels[:, place], scores[:, place] >= limit) for limit in np.unique(scores)]
        assert f1_score(table.labels[:, place], scores[:, place] >= chosen[place]) == pytest.approx(max(options))
    assert chosen[3] == 0.5


def test_reports_hold_no_nan_and_patients_widen_intervals(drawn):
    scores, table = drawn
    config = IntervalConfig(draws=200)
    doubled = LabelTable(table.ids * 2, table.classes, np.concatenate([table.labels] * 2))
    alone = report_labels(scores, table, table.ids, np.full(4, 0.5), config)
    twice = report_labels(np.concatenate([scores] * 2), doubled, doubled.ids, np.full(4, 0.5), config)
    assert alone["values"]["auroc/d"] == {"value": None, "interval": [None, None]}
    assert "auroc/d" in alone["undefined"]
    low, high = alone["values"]["auroc_macro"]["interval"]
    # every study twice, as the same patient: nothing is learned, so the interval must not shrink
    other_low, other_high = twice["values"]["auroc_macro"]["interval"]
    assert other_high - other_low == pytest.approx(high - low, rel=0.25)
