import numpy as np
import pytest
import torch

from core.errors import ConfigError
from core.findings import CT_RATE_LABELS
from trainers.metrics.classification import (
    RADCHEST_LABELS,
    find_twin_columns,
    mean_loss,
    score_classes,
    score_labels,
    score_transfer,
)


@pytest.mark.parametrize("group", ["cls.multilabel", "cls.binary"])
def test_labels_score_as_published(golden, batch, group):
    logits, labels = (golden.tensors[f"{group}.{what}"] for what in ("logits", "labels"))
    scores = score_labels(logits, labels, as_released=True, batches_of=batch)
    told = golden[group]
    for name in ("accuracy", "micro_f1", "macro_f1", "micro_precision", "auroc", "auroc_mean", "loss"):
        assert getattr(scores, name) == golden.near(_plain(told[name])), name


def _plain(value):
    return tuple(value) if isinstance(value, list) else value


def test_validation_selects_by_mean_area(golden, batch):
    logits, labels = (golden.tensors[f"cls.multilabel.{what}"] for what in ("logits", "labels"))
    scores = score_labels(logits, labels, batches_of=batch)
    assert scores.auroc_mean == golden.near(golden["cls.valid"]["selection_metric"])
    assert scores.loss == golden.near(golden["cls.valid"]["loss"])


def test_classes_score_as_published(golden, batch):
    logits, classes = (golden.tensors[f"cls.multiclass.{what}"] for what in ("logits", "labels"))
    scores = score_classes(logits, classes, batches_of=batch)
    told = golden["cls.multiclass"]
    for name in ("accuracy", "micro_f1", "macro_f1", "micro_precision", "loss"):
        assert getattr(scores, name) == golden.near(told[name]), name
    assert scores.confusion.tolist() == told["confusion"]


def test_transfer_scores_as_published(golden):
    logits, labels = golden.tensors["cls.external.logits"], golden.tensors["cls.external.labels"]
    told = golden["cls.external_radchestct"]
    transfer = score_transfer(logits, labels, as_released=True)
    for name in ("accuracy", "micro_f1", "macro_f1", "micro_precision", "auroc", "auroc_mean"):
        assert getattr(transfer.scores, name) == golden.near(_plain(told[name])), name
    assert transfer.candidates == golden.near(tuple(told["auroc17_before_choice"]))
    kind = told["kept_logit"].split()[0].lower()
    assert [name for name in transfer.asked if "calcification" in name][0].lower().startswith(kind)


def test_a_single_label_counts_its_yes_only():
    """Two of six are "yes", one of them is found, one more is claimed: F1 1/2. As two classes, "no" has 3/4."""
    logits = torch.tensor([[2.0], [-2.0], [3.0], [-1.0], [-1.0], [-1.0]])
    labels = torch.tensor([[1], [1], [0], [0], [0], [0]])
    plain, released = score_labels(logits, labels), score_labels(logits, labels, as_released=True)
    assert plain.micro_f1 == plain.macro_f1 == pytest.approx(0.5)
    assert plain.micro_precision == pytest.approx(0.5)
    assert released.micro_f1 == released.micro_precision == plain.accuracy == pytest.approx(4 / 6)
    assert released.macro_f1 == pytest.approx((0.5 + 0.75) / 2)


def test_half_precision_makes_ties_only_as_released():
    """In float16 both probabilities round to 1, so that the pair cannot be ranked any more."""
    logits, labels = torch.tensor([[9.0], [12.0]], dtype=torch.float16), torch.tensor([[0], [1]])
    assert score_labels(logits, labels).auroc == (1.0,)
    assert score_labels(logits, labels, as_released=True).auroc == (0.5,)


def test_a_label_of_one_kind_is_left_out_of_the_mean():
    logits, labels = torch.tensor([[0.0, 1.0], [1.0, 2.0]]), torch.tensor([[0, 1], [1, 1]])
    scores = score_labels(logits, labels)
    assert scores.auroc[0] == 1.0
    assert np.isnan(scores.auroc[1])
    assert scores.auroc_mean == 1.0


def test_a_short_batch_weighs_more_as_released():
    losses = torch.tensor([1.0, 1.0, 4.0])
    assert mean_loss(losses) == pytest.approx(2.0)
    assert mean_loss(losses, batches_of=2) == pytest.approx(2.5)


def test_either_calcification_answers_without_choosing_on_test_data():
    """The first study's calcification is in the coronaries only, the second's in the aorta only, the third has none."""
    logits = torch.full((3, len(CT_RATE_LABELS)), -4.0)
    logits[0, CT_RATE_LABELS.index("Coronary artery wall calcification")] = 4.0
    logits[1, CT_RATE_LABELS.index("Arterial wall calcification")] = 4.0
    labels = torch.zeros(3, len(RADCHEST_LABELS), dtype=torch.long)
    column = RADCHEST_LABELS.index("Calcification")
    labels[:2, column] = 1
    mended, released = (score_transfer(logits, labels, as_released=flag) for flag in (False, True))
    assert mended.scores.auroc[column] == 1.0
    assert mended.asked[column] == "Arterial wall calcification or Coronary artery wall calcification"
    kept = released.asked.index("Coronary artery wall calcification")  # equal areas: the second kind stays
    assert released.scores.auroc[kept] == pytest.approx(0.75)
    assert len(mended.asked) == len(released.asked) == len(RADCHEST_LABELS) == 16


def test_shapes_must_fit():
    with pytest.raises(ConfigError, match=r"\(2, 3\).*\(3, 2\)"):
        score_labels(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(ConfigError, match="3 classes"):
        score_classes(torch.zeros(2, 3), torch.zeros(3))


def test_columns_that_say_the_same_are_found():
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]])
    assert find_twin_columns(labels, ("Pericardial effusion", "Nodule", "Pleural effusion")) == (
        ("Pericardial effusion", "Pleural effusion"),
    )
