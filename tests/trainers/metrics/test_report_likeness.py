import math
import random

import pytest

from core.errors import ReportError
from trainers.metrics.report_text import measure_common, score_bleu, score_cider, score_reports, score_rouge


def test_reports_score_as_published(golden):
    rows = golden["report_rows"]
    scores = score_reports(rows["reference"], rows["generated"], as_released=True)
    assert set(scores) == set(golden["report"])
    for name, told in golden["report"].items():
        assert scores[name] == golden.same(told), name


def test_bleu_by_hand():
    """Three of four words, one of three pairs, no longer run; one word short of the reference: e^(1 - 5/4)."""
    brevity = math.exp(1 - 5 / 4)
    bleu = score_bleu([("the heart is big", "the lung and heart is")])
    assert bleu[0] == pytest.approx(brevity * 3 / 4)
    assert bleu[1] == pytest.approx(brevity * math.sqrt(3 / 4 / 3))
    assert bleu[2] == pytest.approx(0, abs=1e-4)
    assert score_bleu([("a a a", "a b")])[0] == pytest.approx(1 / 3)  # repeats count once


def test_bleu_is_of_the_corpus():
    """One of one word and none of three: one quarter, and not the mean of 1 and 0."""
    assert score_bleu([("a", "a"), ("x y z", "b c d")])[0] == pytest.approx(1 / 4)


def test_rouge_by_hand():
    """Common: "heart normal", of three words written and two wanted."""
    precision, recall = 2 / 3, 1.0
    assert score_rouge("heart is normal", "heart normal") == pytest.approx(
        2.44 * precision * recall / (recall + 1.44 * precision)
    )
    assert score_rouge("no", "yes") == 0


def test_double_blanks_are_words_only_as_released():
    """The empty word stands in the text alone."""
    assert score_rouge("a  b", "a b") == 1.0
    assert score_rouge("a  b", "a b", as_released=True) < 1.0
    assert (score_rouge("", ""), score_rouge("", "", as_released=True)) == (0.0, 1.0)


def test_common_subsequence_equals_the_table():
    rng = random.Random(0)
    for _ in range(50):
        first, second = (rng.choices("abcd", k=rng.randrange(0, 90)) for _ in range(2))
        table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
        for i, a in enumerate(first):
            for j, b in enumerate(second):
                table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
        assert measure_common(first, second) == table[-1][-1]


def test_cider_of_the_references_is_ten_and_of_others_nothing():
    same = [
        ("the lungs are clear today", "the lungs are clear today"),
        ("heart is big here now", "heart is big here now"),
    ]
    assert score_cider(same) == pytest.approx(10)
    assert score_cider([(same[1][0], same[0][1]), (same[0][0], same[1][1])]) == 0


def test_cider_clips_and_weighs_by_rarity():
    """Text "a" has one of the two words of "a b": cosine 1/sqrt(2) of words, 0 of pairs, and it is one pair short."""
    pairs = [("a", "a b"), ("c d", "c d")]
    first = 10 / 4 / math.sqrt(2) * math.exp(-1 / 72)
    second = 10 * 2 / 4  # no runs of three or four
    assert score_cider(pairs) == pytest.approx((first + second) / 2)


def test_meteor_is_not_claimed():
    texts = {"one": "a b c d e", "two": "f g h i j"}
    assert score_reports(texts, texts, as_released=True)["METEOR"] == 0
    assert "METEOR" not in score_reports(texts, texts)
    with pytest.raises(ReportError, match="two"):
        score_reports(texts, {"one": "a"})
