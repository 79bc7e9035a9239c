"""The published rule from findings and impression to one text per organ."""

import pytest

from core.report.organ_statement import TEMPLATE, assemble_statement

NORMAL = TEMPLATE.format("lung")


@pytest.mark.parametrize(
    ("findings", "impression", "full", "spoken", "is_abnormal"),
    [
        ("", "", NORMAL, NORMAL, False),
        ("bases are clear", "", NORMAL + "bases are clear.", "bases are clear.", False),
        ("a 4 mm nodule.", "nodule", "nodule.a 4 mm nodule.", "nodule.a 4 mm nodule.", True),
        ("", 'a "nodule" (small)', "a nodule small.", "a nodule small.", True),
        ("", NORMAL, NORMAL, NORMAL, False),
    ],
)
def test_statements(findings, impression, full, spoken, is_abnormal):
    assert assemble_statement("lung", findings, impression) == (full, spoken, is_abnormal)
