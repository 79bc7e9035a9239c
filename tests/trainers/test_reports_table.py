import csv

import pytest

from core.errors import ConfigError
from core.findings import CT_RATE_LABELS
from core.retrieval.table import read_table
from trainers.reports import ReportsConfig, write_reports


def test_the_table_is_read_by_the_index_and_repeats_with_its_seed(tmp_path):
    first, second, other = (tmp_path / name for name in ("a.csv", "b.csv", "c.csv"))
    write_reports(ReportsConfig(first, 12, 3))
    write_reports(ReportsConfig(second, 12, 3))
    write_reports(ReportsConfig(other, 12, 4))
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    table = read_table(first)
    assert len(table.rows) == 12
    assert table.skipped == ()
    with first.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {value for row in rows for label in CT_RATE_LABELS for value in row[label]} <= {"0", "1"}


def test_no_report_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="expected 1"):
        ReportsConfig(tmp_path / "a.csv", 0)
