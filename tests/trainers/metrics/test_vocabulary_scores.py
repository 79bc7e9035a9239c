import pytest
import torch

from trainers.metrics.classification import mean_of_defined, score_areas
from trainers.metrics.vocabulary import judge_pairs, rank_findings


def test_vocabulary_as_published(golden):
    image, positive, negative = (golden.tensors[f"vocab.{what}"] for what in ("image", "positive", "negative"))
    pairs = judge_pairs(image, positive, negative)
    torch.testing.assert_close(pairs, golden.tensors["vocab.pair_probability"], rtol=0, atol=golden.atol)
    torch.testing.assert_close(rank_findings(pairs), golden.tensors["vocab.score"], rtol=0, atol=golden.atol)
    areas = score_areas(rank_findings(pairs), golden.tensors["vocab.labels"])
    assert areas.tolist() == golden.near(golden["vocab"]["auroc"])
    assert mean_of_defined(areas) == golden.near(golden["vocab"]["auroc_mean"])


def test_a_pair_by_hand():
    """Cosines 1 and 0: the probability is e / (e + 1), and sharper at a lower temperature."""
    image, positive, negative = torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    pairs = judge_pairs(image, positive, negative)
    assert pairs.flatten().tolist() == pytest.approx([0.7310586, 0.2689414])
    assert rank_findings(pairs).item() == pytest.approx(0.4621172)
    assert judge_pairs(image, positive, negative, 0.1)[0, 0, 0] > 0.9999
