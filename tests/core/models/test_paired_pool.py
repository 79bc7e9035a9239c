"""Pooling of fused pairs: equal to fusing and attending token by token, at any level, with and without dropout."""

import pytest
import torch
from torch import Tensor

from core.models.paired_pool import PairedPool

B, ORGANS, D, E, HEADS = 2, 3, 8, 5, 4
SIZES = (11, 6, 4)


@pytest.fixture
def pool() -> PairedPool:
    torch.manual_seed(0)
    pool = PairedPool(ORGANS, D, E, HEADS, dropout=0.3).double()  # so that only the maths can differ
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return pool


def draw_levels() -> tuple[list[Tensor], list[Tensor], Tensor]:
    torch.manual_seed(1)
    levels = [torch.randn(B, size, D).double() for size in SIZES]
    flags = [torch.rand(B, ORGANS, size) < 0.6 for size in SIZES]
    for flag in flags:
        flag[0, 1] = False  # one organ is absent
    return levels, flags, torch.randn(B, ORGANS, SIZES[-1], D).double()


def pool_slowly(pool: PairedPool, levels: list[Tensor], flags: list[Tensor], normal: Tensor | None) -> Tensor:
    """The definition: fuse the organ's own tokens of all levels, then one attention on them."""
    pooled = torch.zeros(B, ORGANS, D).double()
    for b in range(B):
        for o in range(ORGANS):
            own = [level[b][flag[b, o]] for level, flag in zip(levels, flags, strict=True)]
            keys = torch.cat(own)
            if normal is not None:
                keys = pool.fuse(keys, torch.cat([*own[:-1], normal[b, o][flags[-1][b, o]]]), o)
            if len(keys) > 0:
                query = pool.query_tokens[o][None]
                pooled[b, o] = pool.attention(query, keys, keys, need_weights=False)[0][0]
    return pooled


@pytest.mark.parametrize("fused", [True, False])
def test_pooling_is_fusing_and_attending_token_by_token(pool, fused):
    levels, flags, normal = draw_levels()
    pair = normal if fused else None
    found = pool.eval().pool_levels(levels, flags, pair)
    torch.testing.assert_close(found, pool_slowly(pool, levels, flags, pair))
    assert not found[0, 1].any()
    units = pool.project_all(found)
    torch.testing.assert_close(units.norm(dim=-1), torch.ones(B, ORGANS).double())


def test_gradients_are_those_of_the_slow_way(pool):
    levels, flags, normal = draw_levels()
    grown = [level.requires_grad_() for level in levels]
    inputs = [*grown, normal.requires_grad_(), *pool.eval().parameters()]
    names = ["level"] * 3 + ["normal"] + [name for name, _ in pool.named_parameters()]
    found = []
    for pooling in (pool.pool_levels, lambda *given: pool_slowly(pool, *given)):
        out = pooling(levels, flags, normal)
        found.append(torch.autograd.grad(out.square().sum(), inputs, allow_unused=True))
    for name, fast, slow in zip(names, *found, strict=True):
        if slow is not None:
            torch.testing.assert_close(fast, slow, msg=lambda m, name=name: f"{name}: {m}")


def test_dropout_thins_the_weights_and_their_biases_alike(pool):
    """With a token dropped, its whole value is gone, the biases of fusion and projection included."""
    levels, flags, normal = draw_levels()
    torch.manual_seed(2)
    found = pool.train().pool_levels(levels, flags, normal)
    keys = torch.cat(
        [*(level[:, None].expand(-1, ORGANS, -1, -1) for level in levels[:-1]), levels[-1][:, None] + 0 * normal], 2
    )
    others = torch.cat([keys[:, :, : -SIZES[-1]], normal], dim=2)
    fused = torch.stack([pool.fuse(keys[:, o], others[:, o], o) for o in range(ORGANS)], dim=1)  # (B, O, M, D)
    is_key = torch.cat(flags, dim=-1)
    torch.manual_seed(2)
    weights = pool.weigh(torch.einsum("ohc,bomc->bohm", pool.fold_queries(pool.query_tokens), fused), is_key)
    value = torch.nn.functional.linear(
        fused, pool.attention.in_proj_weight[2 * D :], pool.attention.in_proj_bias[2 * D :]
    )
    mixed = torch.einsum("bohm,bomhd->bohd", weights, value.unflatten(-1, (HEADS, D // HEADS)))
    expected = pool.attention.out_proj(mixed.flatten(-2)) * is_key.any(dim=-1, keepdim=True)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, pool.eval().pool_levels(levels, flags, normal), atol=1e-2)
