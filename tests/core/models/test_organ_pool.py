"""Organ flags, fractions and pooling on maps small enough to count by hand."""

import pytest
import torch
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.organ_pool import (
    QueryPool,
    gather_keys,
    organ_cut,
    organ_fractions,
    organ_intact,
    organ_present,
    organ_tokens,
    pool_mean,
)


def random_mask(organs: int = 3, size: tuple[int, ...] = (2, 8, 4, 12)) -> torch.Tensor:
    return torch.randint(0, organs + 1, size, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_one_voxel_flags_its_patch_and_only_that():
    mask = torch.zeros(1, 4, 4, 6, dtype=torch.uint8)
    mask[0, 3, 0, 4] = 2  # patch (1, 0, 1) of a (2, 2, 2) grid of 2x2x3 patches: number 1*4 + 0*2 + 1
    flags, fractions = organ_tokens(mask, 2, (2, 2, 3)), organ_fractions(mask, 2, (2, 2, 3))
    assert flags.nonzero().tolist() == [[0, 1, 5]]
    assert fractions[0, 1, 5].item() == pytest.approx(1 / 12)
    assert fractions.count_nonzero() == 1


@pytest.mark.parametrize("kernel", [(1, 1, 1), (2, 2, 3), (4, 4, 4), (8, 4, 12)])
def test_flags_are_max_pooling_and_fractions_average_pooling(kernel):
    mask = random_mask()
    one_hot = torch.stack([(mask == o).float() for o in (1, 2, 3)], dim=1)
    assert torch.equal(organ_tokens(mask, 3, kernel), F.max_pool3d(one_hot, kernel).flatten(2) > 0)
    torch.testing.assert_close(organ_fractions(mask, 3, kernel), F.avg_pool3d(one_hot, kernel).flatten(2))
    assert torch.equal(organ_fractions(mask, 3, kernel) > 0, organ_tokens(mask, 3, kernel))


def test_a_map_that_patches_do_not_fill_is_refused():
    with pytest.raises(ConfigError, match="multiple of the patch"):
        organ_tokens(random_mask(), 3, (3, 2, 2))


@pytest.mark.parametrize("voxel", [(0, 2, 2), (4, 2, 2), (2, 0, 2), (2, 4, 2), (2, 2, 0), (2, 2, 4)])
def test_a_voxel_on_any_face_cuts_its_organ_and_no_other(voxel):
    mask = torch.zeros(1, 5, 5, 5, dtype=torch.uint8)
    mask[0, 2, 2, 2], mask[0, 1, 1, 1] = 1, 2
    assert organ_intact(mask, 3).tolist() == [[True, True, False]]
    mask[(0, *voxel)] = 1
    assert organ_intact(mask, 3).tolist() == [[False, True, False]]
    assert organ_present(mask, 3).tolist() == [[True, True, False]]


def test_a_wider_margin_cuts_more():
    mask = torch.zeros(1, 6, 6, 6, dtype=torch.uint8)
    mask[0, 1, 2, 3] = 1
    assert organ_cut(mask, 1).item() is False
    assert organ_cut(mask, 1, margin=2).item() is True
    with pytest.raises(ConfigError, match="margin"):
        organ_cut(mask, 1, margin=7)


def test_mean_pooling_of_a_constant_is_the_constant_and_of_nothing_is_zero():
    fractions = torch.tensor([[[0.5, 0.25, 0.0], [0.0, 0.0, 0.0]]])
    pooled = pool_mean(torch.full((1, 3, 4), 7.0), fractions)
    torch.testing.assert_close(pooled[0], torch.tensor([[7.0] * 4, [0.0] * 4]))
    assert pool_mean(torch.tensor([[[3.0], [9.0], [1.0]]]), fractions)[0, 0].item() == 5.0  # (.5*3 + .25*9) / .75


def filled_pool(organs: int = 3, width: int = 12) -> QueryPool:
    """A pool whose queries and biases are no longer zero."""
    pool = QueryPool(organs, width, embed=5, heads=4, dropout=0.0)
    generator = torch.Generator().manual_seed(1)
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return pool


def loop_over_sets(pool: QueryPool, keys: torch.Tensor, flags: torch.Tensor) -> torch.Tensor:
    """The published way: one call of nn.MultiheadAttention per sample and organ."""
    pooled = torch.zeros(*flags.shape[:2], keys.shape[-1])
    for sample, organ in flags.any(dim=-1).nonzero().tolist():
        own = keys[sample, flags[sample, organ]][None]
        query = pool.query_tokens[organ][None, None]
        pooled[sample, organ] = pool.attention(query, own, own, need_weights=False)[0][0, 0]
    return pooled


def test_pooling_at_once_is_pooling_set_by_set_with_all_gradients():
    pool, generator = filled_pool(), torch.Generator().manual_seed(2)
    keys = torch.randn(4, 10, 12, generator=generator, requires_grad=True)
    flags = torch.rand(4, 3, 10, generator=generator) < 0.4
    flags[1, 2] = False
    weight = torch.randn(4, 3, 12, generator=generator)
    results = []
    for pooled in (loop_over_sets(pool, keys, flags), pool(keys, flags)):
        wanted = [keys, pool.query_tokens, *pool.attention.parameters()]
        results.append((pooled, torch.autograd.grad((pooled * weight).sum(), wanted)))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-5, rtol=1e-5)
    for got, expected in zip(results[1][1], results[0][1], strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_padded_key_sets_give_the_same():
    pool, generator = filled_pool(), torch.Generator().manual_seed(3)
    keys, flags = torch.randn(3, 9, 12, generator=generator), torch.rand(3, 3, 9, generator=generator) < 0.3
    flags[0, 0] = False
    sets = gather_keys(keys, flags)
    for pair, (sample, organ) in enumerate(zip(sets.sample, sets.organ, strict=True)):
        assert torch.equal(sets.tokens[pair, sets.is_real[pair]], keys[sample, flags[sample, organ]])
    assert len(sets.sample) == flags.any(dim=-1).sum()
    pooled = pool.pool_pairs(sets.tokens, sets.is_real, sets.organ)
    torch.testing.assert_close(pooled, pool(keys, flags)[sets.sample, sets.organ], atol=1e-5, rtol=1e-5)


def test_no_organ_anywhere_gives_empty_sets_and_zeros():
    pool, flags = filled_pool(), torch.zeros(2, 3, 6, dtype=torch.bool)
    keys = torch.randn(2, 6, 12, requires_grad=True)
    assert gather_keys(keys, flags).tokens.shape == (0, 0, 12)
    pooled = pool(keys, flags)
    pooled.sum().backward()
    assert not pooled.any()
    assert all(not p.grad.any() for p in [keys, pool.query_tokens, pool.attention.in_proj_weight])


def test_dropout_thins_the_attention_weights_as_the_library_does():
    """With all weights dropped only the output bias is left, as in nn.MultiheadAttention."""
    pool = QueryPool(2, 8, embed=4, heads=2, dropout=1.0).train()
    torch.nn.init.normal_(pool.attention.in_proj_bias)
    torch.nn.init.normal_(pool.attention.out_proj.bias)
    pooled = pool(torch.randn(1, 5, 8), torch.ones(1, 2, 5, dtype=torch.bool))
    torch.testing.assert_close(pooled[0], pool.attention.out_proj.bias.expand(2, -1))


def test_a_fresh_pool_takes_the_mean_of_the_values():
    pool = QueryPool(1, 8, embed=4, heads=2).eval()
    keys = torch.randn(1, 5, 8)
    value = F.linear(keys[0], pool.attention.in_proj_weight[16:]).mean(dim=0)
    torch.testing.assert_close(pool(keys, torch.ones(1, 1, 5, dtype=torch.bool))[0, 0], pool.attention.out_proj(value))
    assert pool.project(torch.randn(3, 8), 0).norm(dim=-1).tolist() == pytest.approx([1.0] * 3)
