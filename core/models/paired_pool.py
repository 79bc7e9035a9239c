"""Pooling an organ's tokens together with what they would be if the organ were normal (ViSD-Boost spec 3.3, 3.5)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.models.organ_pool import QueryPool


class Merged(NamedTuple):
    """What the fusion does to a token that is its own normal version: x -> weight x + bias, per organ."""

    weight: Tensor  # (O, D, D)
    bias: Tensor  # (O, D)


class PairedPool(QueryPool):
    """A `QueryPool` over several levels of tokens, of which the last comes in two versions, as found and as normal.

    F = R2(R1([x, x'])) per organ, with no nonlinearity; on all other levels x' = x. There the fusion is one linear map,
    and is moved over to the queries as the attention's own projections are, so that no large level is ever copied.
    """

    def __init__(self, organs: int, width: int, embed: int, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__(organs, width, embed, heads, dropout)
        self.res_projs1 = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(organs))
        self.res_projs2 = nn.ModuleList(nn.Linear(width, width) for _ in range(organs))

    def fuse(self, original: Tensor, normal: Tensor, organ: int) -> Tensor:
        """Both versions of tokens (..., D) as one, for an organ (0-based): (..., D)."""
        return self.res_projs2[organ](self.res_projs1[organ](torch.cat([original, normal], dim=-1)))

    def pool_levels(self, levels: Sequence[Tensor], flags: Sequence[Tensor], normal: Tensor | None = None) -> Tensor:
        """Pool every organ over all levels at once: levels (B, L, D) and flags (B, O, L) bool of each -> (B, O, D).

        normal (B, O, L, D): the last level's tokens as each organ would have them if it were normal; without it nothing
        is fused (stage 1). An organ without a token gets zeros.
        """
        asked = self.fold_queries(self.query_tokens)  # (O, H, D)
        top = (
            levels[-1][:, None].expand(-1, len(asked), -1, -1) if normal is None else self._fuse_all(levels[-1], normal)
        )
        merged = None if normal is None else self.merge()
        scores = [_score(asked, level, merged) for level in levels[:-1]]
        scores.append(torch.einsum("ohc,bolc->bohl", asked, top))
        is_key = torch.cat(list(flags), dim=-1)
        weights = self.weigh(torch.cat(scores, dim=-1), is_key).to(top.dtype)
        *lower, last = weights.split([level.shape[1] for level in levels], dim=-1)
        mixed = torch.einsum("bohl,bolc->bohc", last, top)
        for level, weight in zip(levels[:-1], lower, strict=True):
            mixed = mixed + _mix(level, weight, merged)
        return self.unfold_values(mixed, weights.sum(dim=-1)) * is_key.any(dim=-1, keepdim=True)

    def project_all(self, pooled: Tensor) -> Tensor:
        """Unit vectors of all organs: pooled (B, O, D) -> (B, O, E) float32; half precision would blur similarities."""
        with torch.autocast(pooled.device.type, enabled=False):
            organs = range(pooled.shape[1])
            wide = pooled.to(torch.promote_types(pooled.dtype, torch.float32))
            return torch.stack([self.project(wide[:, organ], organ) for organ in organs], dim=1)

    def merge(self) -> Merged:
        """R2 R1 of [x, x] as one map of x for each organ, read off what the fusion makes of 0 and of unit vectors.

        (Its layers are called, not opened: their weights may lie in shards.)
        """
        units = torch.eye(self.query_tokens.shape[1], dtype=self.query_tokens.dtype, device=self.query_tokens.device)
        with torch.autocast(units.device.type, enabled=False):
            organs = range(len(self.res_projs1))
            bias = torch.stack([self.fuse(0 * units[0], 0 * units[0], organ) for organ in organs])
            images = torch.stack([self.fuse(units, units, organ) for organ in organs])
        return Merged((images - bias[:, None]).transpose(1, 2), bias)

    def _fuse_all(self, original: Tensor, normal: Tensor) -> Tensor:
        """original (B, L, D), normal (B, O, L, D) -> (B, O, L, D)."""
        return torch.stack([self.fuse(original, normal[:, o], o) for o in range(normal.shape[1])], dim=1)


def _score(asked: Tensor, level: Tensor, merged: Merged | None) -> Tensor:
    """What asked (O, H, D) finds in the tokens of a level (B, L, D), each merged first: (B, O, H, L)."""
    if merged is None:
        return torch.einsum("ohc,blc->bohl", asked, level)
    constant = torch.einsum("ohc,oc->oh", asked, merged.bias)
    moved = torch.einsum("ohc,ocd->ohd", asked, merged.weight)
    return torch.einsum("ohd,bld->bohl", moved, level) + constant[..., None]


def _mix(level: Tensor, weights: Tensor, merged: Merged | None) -> Tensor:
    """Tokens of a level (B, L, D), each merged first, mixed by weights (B, O, H, L): (B, O, H, D)."""
    mixed = torch.einsum("bohl,bld->bohd", weights, level)
    if merged is None:
        return mixed
    mass = weights.sum(dim=-1, keepdim=True)
    return torch.einsum("bohd,ocd->bohc", mixed, merged.weight) + mass * merged.bias[:, None]
