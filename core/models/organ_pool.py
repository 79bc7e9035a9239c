"""From patch tokens to one vector per organ: which patches an organ touches, and pooling over them.

Masks are integer organ maps, 0 = none, o = organ o of 1..O, on the axes of the model that reads them (X, Y, Z for ASAP
and ASG; Z, Y, X for fVLM and ViSD-Boost). L patches are counted row-major on those axes, as the model's tokens are.
"""

from typing import NamedTuple

import torch
from einops import reduce
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.vit import Size3, require_divides


def organ_fractions(mask: Tensor, organs: int, kernel: Size3) -> Tensor:
    """Share of each patch that lies inside each organ: mask (B, *grid * kernel) -> (B, O, L) float32 in [0, 1]."""
    _require_multiple(mask, kernel)
    return torch.stack([_reduce_patches((mask == o).float(), kernel, "mean") for o in range(1, organs + 1)], dim=1)


def organ_tokens(mask: Tensor, organs: int, kernel: Size3) -> Tensor:
    """Patches with any voxel of each organ: mask (B, *grid * kernel) -> (B, O, L) bool, True = touches it.

    A max-pooling of the organ's indicator with kernel = stride (fVLM spec 4.3, ViSD-Boost spec 3.1), at any kernel.
    """
    _require_multiple(mask, kernel)
    return torch.stack([_reduce_patches(mask == o, kernel, "any") for o in range(1, organs + 1)], dim=1)


def organ_present(mask: Tensor, organs: int) -> Tensor:
    """Which organs the crop holds: mask (B, ...) integer -> (B, O) bool, True = at least one voxel."""
    flat = mask.flatten(1)
    return torch.stack([(flat == o).any(dim=1) for o in range(1, organs + 1)], dim=1)


def organ_cut(mask: Tensor, organs: int, margin: int = 1) -> Tensor:
    """Which organs come within `margin` voxels of one of the crop's six faces: mask (B, ...) -> (B, O) bool."""
    faces = [mask.narrow(axis, start, margin).flatten(1) for axis, start in _border_slabs(mask, margin)]
    return organ_present(torch.cat(faces, dim=1), organs)


def organ_intact(mask: Tensor, organs: int, margin: int = 1) -> Tensor:
    """Which organs are in the crop and not cut off by it: mask (B, ...) integer -> (B, O) bool.

    True = present, and no voxel of it in the outermost `margin` voxels of any of the six faces (fVLM spec 5).
    """
    return organ_present(mask, organs) & ~organ_cut(mask, organs, margin)


def pool_mean(tokens: Tensor, fractions: Tensor) -> Tensor:
    """Mean of patch tokens weighted by the organ's share: (B, L, D), (B, O, L) -> (B, O, D); 0 for absent organs."""
    mass = fractions.sum(dim=-1, keepdim=True)
    shares = fractions / mass.clamp(min=torch.finfo(fractions.dtype).tiny)
    return shares.to(tokens.dtype) @ tokens


class KeySets(NamedTuple):
    """The tokens of every (sample, organ) pair that has any, padded to the largest set."""

    tokens: Tensor  # (P, K, D), zeros where padded
    is_real: Tensor  # (P, K) bool, False = padding
    sample: Tensor  # (P,) int64, which row of the batch
    organ: Tensor  # (P,) int64, 0-based


def gather_keys(tokens: Tensor, flags: Tensor) -> KeySets:
    """Take each pair's flagged tokens in their order: tokens (B, M, D), flags (B, O, M) bool -> P pairs, b-major."""
    sample, organ = flags.any(dim=-1).nonzero(as_tuple=True)
    chosen = flags[sample, organ]  # (P, M)
    counts = chosen.sum(dim=1)
    longest = int(counts.max()) if len(counts) else 0
    is_real = torch.arange(longest, device=tokens.device) < counts[:, None]
    pair, place = chosen.nonzero(as_tuple=True)
    padded = tokens.new_zeros(len(sample), longest, tokens.shape[-1])
    padded[is_real] = tokens[sample[pair], place]  # both run through the pairs in order
    return KeySets(padded, is_real, sample, organ)


class QueryPool(nn.Module):
    """One learned query per organ attends to the organ's tokens (fVLM spec 4.3); then Linear per organ and L2 norm.

    The maths and the parameters are those of `nn.MultiheadAttention` run on each set of keys alone, no residual. All
    keys are attended at once under a mask, and the key and value projections are moved over to the few queries
    (q.(Wk x) = (Wk'q).x), which saves projecting every token: at four organs and four heads 1/48 of ViT-B's arithmetic.
    """

    def __init__(self, organs: int, width: int, embed: int, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        require_divides(heads, width)
        self.query_tokens = nn.Parameter(torch.zeros(organs, width))  # zero: starts as the mean of the values
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.vision_projs = nn.ModuleList(nn.Linear(width, embed) for _ in range(organs))

    def forward(self, keys: Tensor, flags: Tensor) -> Tensor:
        """All organs on shared keys: keys (B, M, D), flags (B, O, M) bool, True = attended -> (B, O, D).

        An organ without a token gets zeros. `project` brings the result into the space of the texts.
        """
        return self._attend(self.query_tokens[None], keys, flags)

    def pool_pairs(self, keys: Tensor, is_key: Tensor, organ: Tensor) -> Tensor:
        """Each organ on keys of its own: keys (P, K, D), is_key (P, K) bool, organ (P,) int64 0-based -> (P, D)."""
        return self._attend(self.query_tokens[organ][:, None], keys, is_key[:, None])[:, 0]

    def project(self, pooled: Tensor, organ: int) -> Tensor:
        """Unit vectors of one organ (0-based): pooled (N, D) -> (N, E)."""
        return F.normalize(self.vision_projs[organ](pooled), dim=-1)

    def fold_queries(self, queries: Tensor) -> Tensor:
        """What each head asks of a token before its key projection: (..., D) -> (..., H, D), scaled by 1/sqrt(d).

        The key bias is left out: it adds the same to all scores and cancels in the softmax.
        """
        (to_query, to_key, _), (query_bias, _, _) = self._head_parts()
        asked = torch.einsum("...c,hdc->...hd", queries, to_query) + query_bias
        return torch.einsum("...hd,hdc->...hc", asked, to_key) / to_key.shape[1] ** 0.5

    def unfold_values(self, mixed: Tensor, mass: Tensor) -> Tensor:
        """Value and output projection of mixed tokens (..., H, D) whose weights add up to mass (..., H): -> (..., D).

        The mass is 1 where no dropout thinned the weights.
        """
        (_, _, to_value), (_, _, value_bias) = self._head_parts()
        values = torch.einsum("...hc,hdc->...hd", mixed, to_value) + value_bias * mass[..., None]
        return self.attention.out_proj(values.flatten(-2))

    def weigh(self, scores: Tensor, is_key: Tensor) -> Tensor:
        """Attention weights, thinned by dropout while it trains: scores (..., H, M), is_key (..., M) bool."""
        scores = scores.masked_fill(~is_key[..., None, :], torch.finfo(scores.dtype).min)
        return F.dropout(scores.softmax(dim=-1), self.attention.dropout, self.training)

    def _attend(self, queries: Tensor, keys: Tensor, is_key: Tensor) -> Tensor:
        """queries (N or 1, Q, D), keys (N, M, D), is_key (N, Q, M) bool -> (N, Q, D)."""
        asked = self.fold_queries(queries).expand(len(keys), -1, -1, -1)
        weights = self.weigh(torch.einsum("nqhc,nmc->nqhm", asked, keys), is_key).to(keys.dtype)
        mixed = torch.einsum("nqhm,nmc->nqhc", weights, keys)
        return self.unfold_values(mixed, weights.sum(dim=-1)) * is_key.any(dim=-1, keepdim=True)

    def _head_parts(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights (H, d, D) and biases (H, d) of the query, key and value projections."""
        shared, heads = self.attention, self.attention.num_heads
        split = (heads, shared.embed_dim // heads)
        weights = [part.unflatten(0, split) for part in shared.in_proj_weight.chunk(3)]
        return weights, [part.unflatten(0, split) for part in shared.in_proj_bias.chunk(3)]


def _reduce_patches(indicator: Tensor, kernel: Size3, how: str) -> Tensor:
    """Mean or any over each patch: (B, *grid * kernel) -> (B, L)."""
    p, q, r = kernel
    return reduce(indicator, "b (x p) (y q) (z r) -> b (x y z)", how, p=p, q=q, r=r)


def _require_multiple(mask: Tensor, kernel: Size3) -> None:
    if mask.ndim != 4 or any(n % k for n, k in zip(mask.shape[1:], kernel, strict=True)):
        raise ConfigError(
            f"An organ map of shape {tuple(mask.shape)} cannot be cut into patches of {kernel} voxels; "
            "expected (B, three axes), each a multiple of the patch. Pad it first."
        )


def _border_slabs(mask: Tensor, margin: int) -> list[tuple[int, int]]:
    """(axis, first index) of the six outermost slabs."""
    if not 1 <= margin <= min(mask.shape[1:]):
        raise ConfigError(f"margin is {margin}; expected 1 to {min(mask.shape[1:])}, the crop's thinnest axis.")
    return [(axis, start) for axis in range(1, mask.ndim) for start in (0, mask.shape[axis] - margin)]
