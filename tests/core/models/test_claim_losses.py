import math

import pytest
import torch

from core.models.claim_losses import anatomy_loss, best_cells, best_inside, claim_losses, extent_loss, place_loss


def test_place_is_least_where_scores_follow_the_region():
    region = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    at_region = place_loss(torch.tensor([[9.0, 9.0, -9.0, -9.0]]), region)
    elsewhere = place_loss(torch.tensor([[-9.0, -9.0, 9.0, 9.0]]), region)
    assert at_region == pytest.approx(math.log(2), abs=1e-3)  # two cells share the region
    assert elsewhere > 10


def test_place_agrees_with_cross_entropy_of_shares():
    torch.manual_seed(0)
    scores, region = torch.randn(3, 20), torch.rand(3, 20)
    share = region / region.sum(dim=1, keepdim=True)
    expected = torch.nn.functional.cross_entropy(scores, share, reduction="sum")
    assert place_loss(scores, region) == pytest.approx(float(expected), rel=1e-5)


def test_a_small_region_counts_as_much_as_all_around_it():
    region = torch.zeros(1, 1000)
    region[0, 3] = 1
    silent, missing = torch.full((1, 1000), -9.0), torch.full((1, 1000), -9.0)
    missing[0, 3] = 9.0
    assert extent_loss(silent, region) > extent_loss(missing, region) + 4


def test_a_false_claim_is_judged_by_its_best_cells_a_true_one_by_those_of_its_region():
    logits, share = torch.full((2, 50), -6.0), torch.zeros(2, 50)
    logits[:, :8], share[1, 20:24] = 6.0, 0.5
    losses = claim_losses(logits, logits, share)
    assert (losses.true, losses.false) == (1, 1)
    assert losses.imagined == pytest.approx(math.log1p(math.exp(6.0)), rel=1e-4)
    assert losses.missed == pytest.approx(math.log1p(math.exp(6.0)), rel=1e-4)  # loud, but not where it is


def test_losses_of_no_claims_are_zero():
    losses = claim_losses(torch.zeros(0, 5), torch.zeros(0, 5), torch.zeros(0, 5))
    assert [float(value) for value in losses[:4]] == [0.0, 0.0, 0.0, 0.0]


def test_best_cells_average_over_as_many_as_there_are():
    logits = torch.tensor([[5.0, 3.0, 1.0, -1.0]])
    assert best_cells(logits, 2).tolist() == [4.0]
    assert best_inside(logits, torch.tensor([[0.0, 0.0, 0.1, 1.0]]), 3).tolist() == [0.0]
    assert best_inside(logits, torch.tensor([[0.0, 1.0, 0.0, 0.0]]), 3).tolist() == [3.0]


def test_rare_classes_weigh_more_in_the_anatomy():
    classes = torch.tensor([0] * 90 + [1] * 10)
    only_common, only_rare = torch.zeros(100, 2), torch.zeros(100, 2)
    only_common[:, 0] = 4.0
    only_rare[:, 0], only_rare[90:] = 0.0, torch.tensor([-4.0, 4.0])
    assert anatomy_loss(only_common, classes) > 0.9
    assert anatomy_loss(only_rare, classes) < anatomy_loss(only_common, classes)
