"""The 18 labels on real reports: only the half the rules were developed on, so the other half stays unseen."""

import pytest

from benchmarks.labels18 import f1, measure, read_rows


def test_f1_by_hand():
    assert f1(3, 1, 1) == 0.75
    assert f1(0, 0, 0) == 1.0
    assert f1(0, 2, 1) == 0.0


@pytest.mark.real_ct
def test_micro_f1_on_the_development_half(shared):
    rows = read_rows(shared / "data" / "reports" / "chest_ct_reports_18_labels.csv", "even")
    assert measure(rows)["micro_f1"] >= 0.93
