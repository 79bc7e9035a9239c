import pytest

from core.errors import ConfigError
from trainers.metrics.answers import (
    measure_hit,
    measure_size_error,
    normalise_answer,
    read_answer,
    read_sizes,
    score_presence,
    score_sizes,
    score_texts,
)


def test_parts_of_answers_as_published(golden):
    told = golden["vqa_helpers"]
    for text, sizes in told["parse_size"].items():
        assert read_sizes(text, as_released=True) == golden.same(sizes), text
    for row in told["l1_size"]:
        assert measure_size_error(row["pred"], row["gt"], as_released=True) == golden.same(row["value"])
    for row in told["hitscore"]:
        assert measure_hit(row["pred"], row["gt"], as_released=True) == golden.same(row["value"])
    for text, plain in told["normalize"].items():
        assert normalise_answer(text, as_released=True) == plain
    for kind in ("presence", "location", "abnormality"):
        for text, answer in told[f"parse_{kind}"].items():
            assert read_answer(text, kind, as_released=True) == answer, text


def _texts(golden, kind):
    return [list(column) for column in zip(*golden["vqa_rows"][kind], strict=True)]


@pytest.mark.parametrize("kind", ["abnormality", "location", "disorder"])
def test_texts_score_as_published(golden, kind):
    scores, told = score_texts(kind, *_texts(golden, kind), as_released=True), golden["vqa"][kind]
    assert list(scores.bleu) == golden.same(told["bleu"])
    assert scores.rouge_l == golden.same(told["rouge_l"])
    assert scores.hit == golden.same(told["hit"])
    if "hit_per_item" in told:
        assert list(scores.hits) == golden.same(told["hit_per_item"])


def test_presence_and_size_score_as_published(golden):
    presence = score_presence(*_texts(golden, "presence"), as_released=True)
    assert presence == golden.same(golden["vqa"]["presence"]["accuracy"])
    told, sizes = golden["vqa"]["size"], score_sizes(*_texts(golden, "size"), as_released=True)
    assert sizes.mean_mm == golden.same(told["mean_l1"])
    assert sizes.rmse_mm == golden.same(told["rmse"])
    assert list(sizes.errors_mm) == golden.same(told["per_item"])


@pytest.mark.parametrize(
    ("text", "plain", "released"),
    [
        ("1.2 x 0.8 cm", [12, 8], [1.2, 8]),
        ("<Size> 2x3x4 cm.", [20, 30, 40], [2, 3, 40]),
        ("16 mm", [16], [16]),
        ("7", [7], [7]),
        ("3 cm by 12", [30, 120], [30, 12]),
        ("not measurable", [], [0]),
    ],
)
def test_a_unit_holds_for_the_numbers_before_it(text, plain, released):
    assert read_sizes(text) == pytest.approx(plain)
    assert read_sizes(text, as_released=True) == pytest.approx(released)


def test_axes_are_compared_in_order_of_size():
    assert measure_size_error("4x6 mm", "6x4 mm") == 0
    assert measure_size_error("4x6 mm", "6x4 mm", as_released=True) == 2
    assert measure_size_error("4x6 mm", "9 mm") == 3
    sizes = score_sizes(["none seen", "5 mm"], ["4 mm", "2 mm"])
    assert (sizes.errors_mm, sizes.silent) == ((4, 3), 1)
    assert sizes.rmse_mm == pytest.approx(12.5**0.5)


def test_decimal_points_are_deleted_only_as_released():
    assert normalise_answer("Nodule, 3.5 mm.") == "nodule 3.5 mm"
    assert normalise_answer("Nodule, 3.5 mm.", as_released=True) == "nodule 35 mm"


def test_findings_are_parts_in_any_order():
    assert measure_hit("nodule, effusion", "effusion, nodule") == 1
    assert measure_hit("nodule, effusion", "effusion, nodule", as_released=True) == 0
    assert measure_hit("lung/left lung", "lung/left lung/left upper lobe") == pytest.approx(2 / 3)
    assert measure_hit("pleura/pleura", "pleura") == 1
    assert measure_hit("pleura/pleura", "pleura", as_released=True) == 0.5
    assert measure_hit("", "heart") == 0


def test_unreadable_answers_are_wrong():
    assert score_presence(["<Presence> Yes", "no."], ["<Presence> Yes.", "<Presence> No."]) == 1
    assert score_presence(["<Presence> Yes", "no."], ["<Presence> Yes.", "<Presence> No."], as_released=True) == 0
    assert score_presence([""], [""]) == 0
    assert score_presence([""], [""], as_released=True) == 1


def test_disorders_lose_their_tag():
    text = " <Disorder> Emphysema, band."
    assert read_answer(text, "disorder") == "Emphysema, band."
    assert read_answer(text, "disorder", as_released=True) == text
    scores = score_texts("disorder", ["<Disorder> Band, emphysema."], [text])
    assert scores.hit == 1
    assert scores.bleu[0] == pytest.approx(1)


def test_each_question_needs_an_answer():
    with pytest.raises(ConfigError, match="1 answers to 2"):
        score_presence(["yes"], ["yes", "no"])
