import pytest
import torch

from core.errors import ConfigError
from trainers.metrics.retrieval import recall_at, split_report


def test_recall_as_published(golden):
    told = golden["retrieval"]
    image, report, sentence = (golden.tensors[f"ret.{what}"] for what in ("image", "report", "sentence"))
    own, of = range(len(image)), golden.tensors["ret.sentence_report"].tolist()
    assert (told["n"], told["sentences"]) == (len(image), len(sentence))
    for direction, found in {"volume_to_report": (image, report), "report_to_volume": (report, image)}.items():
        depths = [int(name[1:]) for name in told[direction]]
        recall = recall_at(*found, own, own, depths)
        assert list(recall.values()) == golden.near(list(told[direction].values()))
    directions = {"volume_to_sentence": (image, sentence, own, of), "sentence_to_volume": (sentence, image, of, own)}
    for name in (key for key in told if "sentence_r" in key or key.startswith("sentence_to")):
        direction, depth = name.rsplit("_r", 1)
        assert recall_at(*directions[direction], [int(depth)])[int(depth)] == golden.near(told[name])


def test_sentences_as_published(golden):
    for row in golden["retrieval_sentence_split"]:
        assert split_report(row["report"], as_released=True) == row["sentences"]


def test_reconstructions_of_one_study_are_right_answers_for_each_other():
    """Two volumes of one study have the same report, and the other's copy comes first by a hair."""
    volumes = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    reports = torch.tensor([[1.0, 0.01], [1.0, 0.0], [0.0, 1.0]])
    assert recall_at(volumes, reports, range(3), range(3), [1, 2]) == {1: pytest.approx(2 / 3), 2: 1.0}
    assert recall_at(volumes, reports, ["a", "a", "b"], ["a", "a", "b"], [1]) == {1: 1.0}


def test_length_does_not_matter():
    gallery = torch.tensor([[0.1, 0.0], [50.0, 50.0]])
    assert recall_at(torch.tensor([[3.0, 0.0]]), gallery, [0], [0, 1], [1]) == {1: 1.0}


def test_decimals_stay_whole():
    report = "A nodule of 4.5 mm; no effusion.\nHeart normal."
    assert "A nodule of 4.5 mm" in " ".join(split_report(report))
    assert split_report(report, as_released=True) == ["A nodule of 4", "5 mm", "no effusion", "Heart normal"]


def test_each_item_needs_a_study():
    with pytest.raises(ConfigError, match="2 queries of 1 studies"):
        recall_at(torch.ones(2, 3), torch.ones(2, 3), [0], [0, 1])
