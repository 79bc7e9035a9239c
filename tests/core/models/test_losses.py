import math

import pytest
import torch

from core.models.losses import (
    alignment_logits,
    alignment_loss,
    balanced_injection_loss,
    hidden_voxel_loss,
    injection_loss,
    language_loss,
    question_loss,
    reconstruction_loss,
    region_presence_loss,
    region_softmax_loss,
    size_prior_loss,
    study_contrast_loss,
)
from core.models.mae import patchify, take_patches
from core.models.vit import take_tokens

LN2 = math.log(2)


def test_reconstruction_counts_hidden_patches_only():
    target = torch.zeros(1, 3, 2)
    predicted = torch.tensor([[[9.0, 9.0], [1.0, 3.0], [9.0, 9.0]]])
    hidden = torch.tensor([[False, True, False]])
    assert reconstruction_loss(predicted, target, hidden, over_all=False).item() == 5.0  # (1 + 9) / 2
    assert reconstruction_loss(predicted, target, hidden, over_all=True).item() == pytest.approx(10 / 6)
    assert reconstruction_loss(predicted, target, ~hidden & hidden, over_all=False).item() == 0.0


def test_injection_of_undecided_logits_is_ln_2():
    fractions = torch.tensor([[[0.25, 0.75]]])
    assert injection_loss(torch.zeros(1, 1, 2), fractions).item() == pytest.approx(LN2)
    assert balanced_injection_loss(torch.zeros(1, 1, 2), fractions).item() == pytest.approx(LN2)


def test_answering_background_everywhere_only_fools_the_unbalanced_injection_loss():
    """Defect and fix (spec 7.1, point 10): one patch in 100 is organ; the head always says background."""
    fractions = torch.zeros(1, 100, 2)
    fractions[:, :, 0] = 1
    fractions[:, 0] = torch.tensor([0.0, 1.0])
    lazy = torch.tensor([4.0, -4.0]).expand(1, 100, 2)
    undecided = torch.zeros(1, 100, 2)
    assert injection_loss(lazy, fractions) < 0.1 * injection_loss(undecided, fractions)
    assert balanced_injection_loss(lazy, fractions) > 2 * balanced_injection_loss(undecided, fractions)


def test_a_class_that_is_nowhere_does_not_count_in_the_balanced_loss():
    fractions = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    logits = torch.tensor([[[0.0, 0.0, 50.0], [0.0, 0.0, 50.0]]])
    assert balanced_injection_loss(logits, fractions).item() == pytest.approx(LN2)


def test_alignment_of_equal_vectors_is_twice_ln_s():
    vectors = torch.ones(1, 4, 8)
    loss = alignment_loss(alignment_logits(vectors, vectors, 0.07), torch.ones(1, 4, dtype=torch.bool), True)
    assert loss.item() == pytest.approx(2 * math.log(4), rel=1e-6)


def test_empty_slots_change_the_published_alignment_loss_but_not_ours():
    """Defect and fix (spec 7.1, point 3): the loss depends on the longest report of the batch."""
    torch.manual_seed(0)
    sentences, regions = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    short = alignment_logits(sentences, regions[:, :3], 0.07)
    padded = alignment_logits(torch.cat([sentences, torch.zeros(1, 2, 8)], dim=1), regions, 0.07)
    valid = torch.tensor([[True, True, True, False, False]])
    alone = alignment_loss(short, valid[:, :3], mask_padding=True)
    assert alignment_loss(padded, valid, mask_padding=True).item() == pytest.approx(alone.item(), rel=1e-6)
    assert alignment_loss(padded, valid, mask_padding=False).item() != pytest.approx(alone.item(), rel=1e-2)


def test_a_study_without_a_sentence_costs_nothing():
    logits = torch.zeros(2, 2, 2, requires_grad=True)
    loss = alignment_loss(logits, torch.zeros(2, 2, dtype=torch.bool), mask_padding=True)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(logits.grad).all()


def test_one_sentence_alone_has_nothing_to_be_told_from():
    loss = alignment_loss(torch.tensor([[[3.0]]]), torch.ones(1, 1, dtype=torch.bool), mask_padding=True)
    assert loss.item() == 0.0


def test_language_loss_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    assert language_loss(logits, torch.tensor([1, 0])).item() == pytest.approx((math.log(4 / 3) + LN2) / 2)
    assert language_loss(logits[:0], torch.tensor([], dtype=torch.long)).item() == 0.0


def test_studies_with_the_same_report_are_not_each_others_negatives():
    """Twins cannot be told apart: counted as negatives they are pushed apart for ever, as positives they rest."""
    vectors = torch.eye(3)
    twins = vectors[[0, 0, 1]].requires_grad_()
    apart, same = torch.eye(3, dtype=torch.bool), torch.eye(3, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    assert study_contrast_loss(vectors, vectors, apart, 0.01).item() == pytest.approx(0.0, abs=1e-6)
    reports = torch.nn.functional.normalize(vectors[[0, 0, 1]] + 0.1 * vectors[[1, 2, 2]], dim=-1)
    pushed = torch.autograd.grad(study_contrast_loss(twins, reports, apart, 0.5), twins)[0]
    resting = torch.autograd.grad(study_contrast_loss(twins, reports, same, 0.5), twins)[0]
    assert (pushed[0] - pushed[1]).norm() > 0.01
    assert (resting[0] - resting[1]).norm() < 1e-6


def test_region_softmax_is_least_on_the_region_and_ignores_the_absent():
    target = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    known = torch.tensor([[True, True]])
    flat, right = torch.zeros(1, 2, 4), torch.tensor([[[1.0, 1.0, -1.0, -1.0], [9.0, 0.0, 0.0, 0.0]]])
    assert region_softmax_loss(flat, target, known, 0.07).item() == pytest.approx(math.log(4))
    assert region_softmax_loss(right, target, known, 0.07).item() == pytest.approx(LN2, rel=1e-5)
    assert region_softmax_loss(right, target, ~known, 0.07).item() == 0.0


def test_presence_weighs_inside_and_outside_alike_and_punishes_what_is_absent():
    target = torch.zeros(1, 1, 100)
    known = torch.ones(1, 1, dtype=torch.bool)
    never = torch.full((1, 1, 100), -20.0)
    assert region_presence_loss(never, target, known).item() == pytest.approx(0.0, abs=1e-6)
    assert region_presence_loss(-never, target, known).item() == pytest.approx(10.0)
    target[..., 0] = 1
    assert region_presence_loss(never, target, known).item() == pytest.approx(10.0)  # one patch missed = half of all
    assert region_presence_loss(never, target, ~known).item() == 0.0


def test_size_prior_pulls_to_the_middle():
    logit = torch.tensor([[0.0, 50.0, -50.0]])
    valid = torch.tensor([[True, True, False]])
    assert size_prior_loss(logit, valid).item() == pytest.approx(0.125)


def test_a_question_is_answered_by_its_best_patch():
    target = torch.tensor([[[0.0, 0.2, 0.0], [0.0, 0.0, 0.0]]])
    asked = torch.tensor([[True, True]])
    logits = torch.tensor([[[-9.0, 9.0, -9.0], [-9.0, -9.0, -9.0]]])
    assert question_loss(logits, target, asked).item() == pytest.approx(0.0, abs=1e-3)
    loud = logits.clone()
    loud[0, 0, 0] = 20.0  # elsewhere in a study that has the finding: not this loss's business
    assert question_loss(loud, target, asked).item() == pytest.approx(0.0, abs=1e-3)
    loud[0, 1, 2] = 10.0  # one patch that imagines a finding is enough
    assert question_loss(loud, target, asked).item() == pytest.approx(5.0, abs=1e-3)
    assert question_loss(-logits, target, asked).item() == pytest.approx(9.0, abs=1e-3)
    assert question_loss(loud, target, ~asked).item() == 0.0


def test_hidden_patches_alone_give_the_loss_and_gradient_of_the_whole() -> None:
    patches, hidden = torch.randn(2, 600, 12), torch.rand(2, 600).argsort(dim=1) < 450
    target = torch.randn_like(patches)
    found = []
    for loss in ("whole", "hidden"):
        guess = patches.clone().requires_grad_()
        if loss == "whole":
            value = reconstruction_loss(guess, target, hidden, over_all=True)
        else:
            value = hidden_voxel_loss(guess[hidden].view(2, 450, 12), target[hidden].view(2, 450, 12), hidden.numel())
        (3 * value).backward()
        found.append((value.detach(), guess.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-9)


def test_patches_are_taken_as_they_would_be_cut() -> None:
    images, places = torch.randn(2, 3, 8, 6, 10), torch.tensor([[0, 7, 19], [11, 4, 16]])
    expected = take_tokens(patchify(images, (4, 3, 2)), places)
    torch.testing.assert_close(take_patches(images, (4, 3, 2), places), expected, rtol=0, atol=0)
