"""Opposites of sentences: they must read as the opposite, and swapping sides twice gives the sentence back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ReportError
from core.report.parse import negate_sentence, parse_report, swap_side


@pytest.mark.parametrize(
    ("sentence", "opposite"),
    [
        ("There is a nodule in the left lower lobe.", "There is no nodule in the left lower lobe."),
        ("The heart is normal.", "The heart is abnormal."),
        ("The heart is enlarged.", "The heart is not enlarged."),
        ("The lungs are clear.", "The lungs are not clear."),
        ("Pleural effusion is observed.", "Pleural effusion is not observed."),
        ("There are nodules in both lungs.", "There are no nodules in both lungs."),
        ("There is cardiomegaly.", "There is no cardiomegaly."),
        ("Emphysematous changes in both lungs.", "No emphysematous changes in both lungs."),
        ("The left lung shows consolidation.", "The left lung does not show consolidation."),
    ],
)
def test_both_ways(sentence, opposite):
    assert negate_sentence(sentence) == opposite
    assert negate_sentence(opposite) == sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "There are several nodules in the right lung.",
        "Small right pleural effusion.",
        "A 5 mm nodule is seen in the right upper lobe.",
        "No mass was detected.",
        "No evidence of pneumonia.",
        "There is a nodule and an effusion.",
        "LAD calcification.",
        "Without pneumothorax.",
        "The lungs are free of consolidation.",
        "There is no atelectasis.",
        "Nodules were not seen.",
        "Cardiomegaly",
        "Thoracic kyphosis is increased.",
        "Findings were evaluated as pneumonia.",
        "There are nodules not larger than 5 mm in the left lung.",
        "Catheter revision is recommended.",
        "Increase in heart size.",
    ],
)
def test_the_opposite_reads_as_the_opposite(sentence):
    def states(text):
        return {m.existence for s in parse_report(text).sentences for m in s.mentions}

    flipped = {"present": "absent", "absent": "present"}
    assert states(negate_sentence(sentence)) == {flipped[state] for state in states(sentence)}


@given(st.text(min_size=1, max_size=80))
@settings(max_examples=60, deadline=None)
def test_the_opposite_always_differs(text):
    if any(char.isalpha() for char in text):
        assert negate_sentence(text) != text.strip()
    else:
        with pytest.raises(ReportError):
            negate_sentence(text)


@pytest.mark.parametrize(
    ("sentence", "mirrored"),
    [
        ("Nodule in the left lower lobe.", "Nodule in the right lower lobe."),
        ("Right effusion, LEFT nodule.", "Left effusion, RIGHT nodule."),
        ("Nodule in the right middle lobe.", "Nodule in the left lingula."),
        ("RUL nodule.", "LUL nodule."),
        ("Both lungs are bright.", "Both lungs are bright."),
        ("Heart is normal.", "Heart is normal."),
    ],
)
def test_swap_side(sentence, mirrored):
    assert swap_side(sentence) == mirrored
    assert swap_side(mirrored) == sentence
