"""Organs read place by place: each patch as if it alone were the organ (see docs/weights.md).

fVLM and ViSD-Boost are trained on one vector an organ, pooled by attention over its tokens. Here the same trained
pooling, value path and projection run on the tokens of one patch of the coarsest level, for every patch and organ. It
is what the model itself would say of an organ whose mask were cut down to that patch, and has the space of the texts.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from core.models.fvlm import OrganTower
from core.models.organ_pool import organ_fractions, organ_tokens
from core.models.visd import VISD, take_organs
from core.models.vit import Size3

PATCHES_AT_ONCE = 128
"""Patches pooled in one go, to bound memory: one of ViSD-Boost's holds 585 tokens."""


class OrganCells(NamedTuple):
    """One CT, organ by organ and place by place, on the axes (X, Y, Z)."""

    vectors: Tensor  # (O, gx, gy, gz, E) unit length
    shares: Tensor  # (O, gx, gy, gz) share of each patch inside each organ, in [0, 1]
    whole: Tensor  # (O, E) unit length: each organ as the model was trained to see it; 0 where it is absent


@torch.no_grad()
def read_cells(model: OrganTower | VISD, image: Tensor, mask: Tensor) -> OrganCells:
    """image (1, 1, X, Y, Z) as the model reads it, mask (1, X, Y, Z) of organ numbers -> every patch of every organ."""
    if isinstance(model, VISD):
        return _read_visd(model, image, mask)
    vision, organs = model.config.vision, len(model.config.organs)
    levels = torch.cat([level[0][:, None] for level in model.visual_encoder(image)], dim=1)  # (L, levels, D)
    flags = model.flag_tokens(mask)
    pooled = torch.cat(
        [model.pool(part, part.new_ones(len(part), organs, part.shape[1]).bool()) for part in _in_parts(levels)]
    )
    whole = model.pool(rearrange(levels, "l r d -> 1 (r l) d"), flags.repeat(1, 1, levels.shape[1]))[0]
    vectors = torch.stack([model.pool.project(pooled[:, o], o) for o in range(organs)])
    named = torch.stack([model.pool.project(whole[o], o) for o in range(organs)]) * flags[0].any(-1, keepdim=True)
    fractions = organ_fractions(vision.turn(mask), organs, vision.inner_patch)[0]
    grid = _grid(vision.turn(mask), vision.inner_patch)
    return OrganCells(vision.turn(_on(vectors, grid)).movedim(1, -1), vision.turn(fractions.unflatten(-1, grid)), named)


def _read_visd(model: VISD, image: Tensor, mask: Tensor) -> OrganCells:
    """Patches of the last level, with the finer tokens inside each and with its normal version."""
    encoder, organs = model.visual_encoder, len(model.config.organs)
    turned = encoder.turn(mask)
    levels, flags = encoder(image), [organ_tokens(turned, organs, step) for step in encoder.strides]
    tokens = take_organs(levels[-1], flags[-1])
    restored = model.normality(tokens.sets, tokens.organ).restored
    normal = tokens.spread(restored, levels[-1][:, None].expand(-1, organs, -1, -1))
    whole = model.pool.project_all(model.pool.pool_levels(levels, flags, normal))[0]
    grid = _grid(turned, encoder.strides[-1])
    keys = [_by_cell(level[0], _grid(turned, step), grid) for level, step in zip(levels, encoder.strides, strict=True)]
    is_key = [
        _by_cell(rearrange(flag[0], "o l -> l o"), _grid(turned, step), grid).movedim(-1, 1)
        for flag, step in zip(flags, encoder.strides, strict=True)
    ]
    normals = rearrange(normal[0], "o l d -> l o 1 d")
    parts = zip(*(_in_parts(one) for one in (*keys, *is_key, normals)), strict=True)
    pooled = torch.cat([model.pool.pool_levels(part[: len(keys)], part[len(keys) : -1], part[-1]) for part in parts])
    vectors = rearrange(model.pool.project_all(pooled), "l o e -> o l e")
    fractions = organ_fractions(turned, organs, encoder.strides[-1])[0]
    placed = encoder.turn(_on(vectors, grid)).movedim(1, -1)
    return OrganCells(placed, encoder.turn(fractions.unflatten(-1, grid)), whole * flags[-1][0].any(-1, keepdim=True))


def _grid(mask: Tensor, patch: Size3) -> Size3:
    i, j, k = (n // p for n, p in zip(mask.shape[1:], patch, strict=True))
    return i, j, k


def _on(vectors: Tensor, grid: Size3) -> Tensor:
    """(O, L, E) -> (O, E, *grid), so that the last three axes are places."""
    return rearrange(vectors.unflatten(1, grid), "o i j k e -> o e i j k")


def _by_cell(level: Tensor, own: Size3, coarse: Size3) -> Tensor:
    """Tokens (L, C) of a finer grid by the coarse cell they lie in: (cells, tokens of one, C), row-major."""
    i, j, k = coarse
    return rearrange(level.unflatten(0, own), "(i a) (j b) (k c) d -> (i j k) (a b c) d", i=i, j=j, k=k)


def _in_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    return tensor.split(PATCHES_AT_ONCE)
