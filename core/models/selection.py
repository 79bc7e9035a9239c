"""Which patches a sentence speaks about: ASAP's selective alignment (spec 2.7) and a size that can be learned."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Selection(NamedTuple):
    """Patches chosen for each sentence slot."""

    cosine: Tensor  # (B, S, V) sentence x patch
    weights: Tensor  # (B, S, V) share of each patch in the region, rows sum to 1
    regions: Tensor  # (B, S, D) weighted mean of the un-normalised patch vectors


class SizeRule(NamedTuple):
    """How a sentence's size logit becomes a number of patches: 2^(log2_min .. log2_min + steps - 1)."""

    log2_min: int = 4
    steps: int = 3
    softness: float = 0.0
    """0 = the released hard rule, through which no gradient passes; above 0 = mixture over all sizes."""


def pool_sentences(states: Tensor, sentence_of_token: Tensor, sentences: int) -> tuple[Tensor, Tensor]:
    """Mean of each sentence's token vectors, and which slots are real.

    states (B, T, D), sentence_of_token (B, T) integer, 1..S, 0 = no sentence -> (B, S, D) with zero rows for empty
    slots, and (B, S) bool, True = has a token.
    """
    slots = torch.arange(1, sentences + 1, device=states.device)
    belongs = (sentence_of_token[:, None, :] == slots[:, None]).to(states.dtype)  # (B, S, T)
    counts = belongs.sum(dim=-1, keepdim=True)
    return belongs @ states / counts.clamp(min=1), counts[..., 0] > 0


def cosine_to_patches(sentences: Tensor, patches: Tensor) -> Tensor:
    """Cosine of sentences (B, S, D) and patches (B, V, D) -> (B, S, V); a zero sentence gives zeros."""
    direction = sentences / (sentences.norm(dim=-1, keepdim=True) + 1e-8)
    return direction @ F.normalize(patches, dim=-1).transpose(1, 2)


def patch_counts(size_logit: Tensor, rule: SizeRule) -> Tensor:
    """The hard rule k = 2^floor(steps * sigmoid(logit) + log2_min): (B, S) -> (B, S) int64."""
    exponent = (rule.steps * size_logit.sigmoid() + rule.log2_min).floor().long()
    return torch.ones_like(exponent) << exponent


def hard_rank_weights(counts: Tensor, patches: int) -> Tensor:
    """Weight of the r-th best patch, 1/k for r < k: counts (B, S) -> (B, S, max k), at most `patches` ranks."""
    counts = counts.clamp(max=patches)
    ranks = torch.arange(int(counts.max()), device=counts.device)
    return (ranks < counts[..., None]) / counts[..., None].float()


def soft_rank_weights(size_logit: Tensor, rule: SizeRule, patches: int) -> Tensor:
    """Like `hard_rank_weights`, but a mixture of all sizes that the logit moves smoothly, so that k learns.

    The shares are a softmax of -(t - (e + 1/2))^2 / softness over exponents e, with t = steps * sigmoid(logit) +
    log2_min: as softness goes to 0 this is the hard rule.
    """
    exponents = torch.arange(rule.log2_min, rule.log2_min + rule.steps, device=size_logit.device)
    place = rule.steps * size_logit.sigmoid() + rule.log2_min  # (B, S)
    shares = (-(place[..., None] - exponents - 0.5).square() / rule.softness).softmax(dim=-1)  # (B, S, E)
    counts = (torch.ones_like(exponents) << exponents).clamp(max=patches)
    return shares @ hard_rank_weights(counts, patches)  # (E, max k) by rank


def spread_by_rank(cosine: Tensor, rank_weights: Tensor) -> Tensor:
    """Give the r-th most similar patch the r-th weight: (B, S, V), (B, S, K) -> (B, S, V)."""
    best = cosine.topk(rank_weights.shape[-1], dim=-1).indices
    return torch.zeros_like(cosine).scatter(-1, best, rank_weights.to(cosine.dtype))


def select_patches(sentences: Tensor, patches: Tensor, size_logit: Tensor, rule: SizeRule) -> Selection:
    """Each sentence's region: sentences (B, S, D), patches (B, V, D), size_logit (B, S)."""
    cosine = cosine_to_patches(sentences, patches)
    count = patches.shape[1]
    if rule.softness > 0:
        rank_weights = soft_rank_weights(size_logit, rule, count)
    else:
        rank_weights = hard_rank_weights(patch_counts(size_logit, rule), count)
    weights = spread_by_rank(cosine.detach(), rank_weights)
    return Selection(cosine, weights, weights @ patches)
