import pytest
import torch

from core.models.selection import (
    SizeRule,
    cosine_to_patches,
    hard_rank_weights,
    patch_counts,
    pool_sentences,
    select_patches,
    soft_rank_weights,
)


def logit_of(rho: float) -> torch.Tensor:
    return torch.logit(torch.tensor([[rho]]))


@pytest.mark.parametrize(("rho", "k"), [(0.01, 16), (0.33, 16), (0.34, 32), (0.66, 32), (0.67, 64), (0.99, 64)])
def test_published_sizes(rho, k):
    assert patch_counts(logit_of(rho), SizeRule()).item() == k


def test_size_never_exceeds_the_patches_there_are():
    weights = hard_rank_weights(torch.tensor([[64]]), patches=10)
    assert weights.tolist() == [[[pytest.approx(0.1)] * 10]]


def test_region_is_the_mean_of_the_most_similar_patches():
    patches = torch.tensor([[[3.0, 0.0], [0.0, 5.0], [1.0, 0.1], [-1.0, 0.0]]])
    sentences = torch.tensor([[[2.0, 0.0]]])
    rule = SizeRule(log2_min=1, steps=1)
    chosen = select_patches(sentences, patches, torch.zeros(1, 1), rule)
    assert chosen.weights.tolist() == [[[0.5, 0.0, 0.5, 0.0]]]
    torch.testing.assert_close(chosen.regions, torch.tensor([[[2.0, 0.05]]]))


def test_the_published_size_gets_no_gradient_and_ours_does():
    """Defect and fix (spec 7.1, point 1): int() cuts the gradient, so k stays what it was at the start."""
    torch.manual_seed(0)
    patches, sentences = torch.randn(1, 80, 6), torch.randn(1, 2, 6)
    logit = torch.zeros(1, 2, requires_grad=True)
    hard = select_patches(sentences, patches.requires_grad_(), logit, SizeRule())
    assert torch.autograd.grad(hard.regions.square().sum(), logit, allow_unused=True)[0] is None
    soft = select_patches(sentences, patches, logit, SizeRule(softness=0.5))
    (gradient,) = torch.autograd.grad(soft.regions.square().sum(), logit)
    assert (gradient.abs() > 1e-6).all()


@pytest.mark.parametrize("rho", [0.1, 0.5, 0.9])
def test_the_mixture_becomes_the_published_rule_as_it_hardens(rho):
    rule = SizeRule(softness=1e-3)
    hard = hard_rank_weights(patch_counts(logit_of(rho), rule), 64)
    soft = soft_rank_weights(logit_of(rho), rule, 64)
    torch.testing.assert_close(soft[..., : hard.shape[-1]], hard, atol=1e-5, rtol=0)
    torch.testing.assert_close(soft.sum(dim=-1), torch.ones(1, 1))


def test_learning_moves_the_size_to_what_fits():
    """Eight patches belong to the sentence, the rest point elsewhere: the size must shrink to its smallest."""
    torch.manual_seed(0)
    own = torch.tensor([1.0, 0.0, 0.0])
    patches = torch.cat([own.expand(8, 3), torch.tensor([0.0, 1.0, 0.0]).expand(56, 3)])[None]
    logit = torch.nn.Parameter(torch.zeros(1, 1))
    rule = SizeRule(log2_min=3, steps=3, softness=0.5)
    optimizer = torch.optim.Adam([logit], lr=0.2)
    for _ in range(60):
        region = select_patches(own[None, None], patches, logit, rule).regions[0, 0]
        loss = -torch.cosine_similarity(region, own, dim=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert patch_counts(logit, rule).item() == 8


def test_pooling_leaves_unnumbered_tokens_out_and_empty_slots_zero():
    states = torch.tensor([[[100.0], [1.0], [3.0], [7.0], [50.0]]])
    pooled, valid = pool_sentences(states, torch.tensor([[0, 1, 1, 3, 0]]), 3)
    assert pooled[..., 0].tolist() == [[2.0, 0.0, 7.0]]
    assert valid.tolist() == [[True, False, True]]


def test_a_zero_sentence_has_zero_cosine_and_finite_gradient():
    sentences = torch.zeros(1, 1, 4, requires_grad=True)
    cosine = cosine_to_patches(sentences, torch.randn(1, 5, 4))
    cosine.sum().backward()
    assert cosine.abs().max() == 0
    assert torch.isfinite(sentences.grad).all()
