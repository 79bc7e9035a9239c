"""Losses as functions of tensors: masked reconstruction, anatomy, alignment, masked language, grounding.

Each is a mean that stays 0, never NaN, when nothing counts (no hidden patch, no sentence, no masked word). `count`
says over which processes a number of sentences, words or regions is counted, see `core.models.processes`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from core.models.processes import Count, count_here

TINY = 1e-6
"""Keeps 0 / 0 at 0; smaller than any count that is not 0."""
_ROWS = 256
"""Patches whose voxels are squared at once."""


def hidden_voxel_loss(predicted: Tensor, target: Tensor, patches: int) -> Tensor:
    """`reconstruction_loss` over all voxels, from hidden patches alone: predicted, target (B, H, P), B * L patches."""
    return _SquaredErrors.apply(predicted.float(), target.float()) / (patches * target.shape[-1])


class _SquaredErrors(torch.autograd.Function):
    """Sum of (predicted - target)^2, no square of which is ever held; the target learns nothing."""

    @staticmethod
    def forward(ctx: Any, predicted: Tensor, target: Tensor) -> Tensor:
        gap = predicted - target
        ctx.save_for_backward(gap)
        return torch.stack([rows.square().sum() for rows in gap.flatten(0, 1).split(_ROWS)]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (gap,) = ctx.saved_tensors
        return gap * (2 * slope), None


def reconstruction_loss(predicted: Tensor, target: Tensor, hidden: Tensor, over_all: bool) -> Tensor:
    """Squared error on hidden patches; predicted, target (B, L, P), hidden (B, L) bool, True = was masked out.

    over_all: divide by all voxels (ASAP as released: hidden share x MSE) and not by the hidden voxels (MAE).
    """
    counted = hidden.numel() if over_all else hidden.sum().clamp(min=1)
    gap = predicted[hidden].float() - target[hidden].float()
    return gap.square().sum() / (counted * target.shape[-1])


def injection_loss(logits: Tensor, fractions: Tensor) -> Tensor:
    """Binary cross-entropy of soft labels, mean over patches and classes; logits, fractions (B, L, C)."""
    return F.binary_cross_entropy_with_logits(logits.float(), fractions)


def balanced_injection_loss(logits: Tensor, fractions: Tensor, count: Count = count_here) -> Tensor:
    """As `injection_loss`, but inside and outside of every class weigh the same; classes not in the batch are left out.

    Background fills most patches: without this a head that always answers background is nearly optimal.
    """
    logits = logits.float()
    inside, outside = count(fractions.sum(dim=(0, 1))), count((1 - fractions).sum(dim=(0, 1)))  # (C,)
    missed = (fractions * F.softplus(-logits)).sum(dim=(0, 1)) / inside.clamp(min=TINY)
    imagined = ((1 - fractions) * F.softplus(logits)).sum(dim=(0, 1)) / outside.clamp(min=TINY)
    counts = (inside > 0) & (outside > 0)
    return ((missed + imagined) / 2)[counts].sum() / counts.sum().clamp(min=1)


def alignment_logits(sentences: Tensor, regions: Tensor, temperature: float) -> Tensor:
    """Cosine of sentences and regions (B, S, D) of one study, over the temperature: (B, S, S)."""
    return F.normalize(sentences, dim=-1) @ F.normalize(regions, dim=-1).transpose(1, 2) / temperature


def alignment_loss(logits: Tensor, valid: Tensor, mask_padding: bool, count: Count = count_here) -> Tensor:
    """Each sentence finds its region among the report's and each region its sentence; sum of both directions.

    logits (B, S, S), valid (B, S) bool, True = real sentence. mask_padding: leave empty slots out of the softmaxes;
    False is the released code, in which they act as negatives and the loss depends on the batch's longest report.
    """
    if mask_padding:
        real = valid[:, :, None] & valid[:, None, :]
        logits = logits.masked_fill(~real, torch.finfo(logits.dtype).min)
    own_region = -logits.log_softmax(dim=2).diagonal(dim1=1, dim2=2)
    own_sentence = -logits.log_softmax(dim=1).diagonal(dim1=1, dim2=2)
    return (own_region + own_sentence)[valid].sum() / count(valid.sum()).clamp(min=TINY)


def language_loss(logits: Tensor, labels: Tensor, count: Count = count_here) -> Tensor:
    """Mean cross-entropy over the given tokens: logits (N, vocab), labels (N,) int64; 0 for no token."""
    return mean_over_words(F.cross_entropy(logits.float(), labels, reduction="sum"), len(labels), count)


def mean_over_words(total: Tensor, words: int, count: Count = count_here) -> Tensor:
    """A sum over `words` tokens as a mean; 0 for no token."""
    return total / count(torch.tensor(words, device=total.device)).clamp(min=TINY)


def weighted_language_loss(logits: Tensor, labels: Tensor, weights: Tensor, count: Count = count_here) -> Tensor:
    """Weighted mean cross-entropy: logits (N, vocab), labels (N,) int64, weights (N,) float32; 0 for no token.

    ECAMP's mean over all B x T tokens of weight x cross-entropy is the same, as its weights sum to T (spec 2.4).
    """
    per_token = F.cross_entropy(logits.float(), labels, reduction="none")
    return (weights * per_token).sum() / count(weights.sum()).clamp(min=TINY)


def study_contrast_loss(volumes: Tensor, reports: Tensor, same_report: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE between studies, mean of both directions; volumes, reports (B, D).

    same_report (B, B) bool, True = the two studies carry the same text and are positives of each other.
    """
    logits = F.normalize(volumes, dim=-1) @ F.normalize(reports, dim=-1).T / temperature
    target = same_report.float() / same_report.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def region_softmax_loss(
    cosine: Tensor, target: Tensor, valid: Tensor, temperature: float, count: Count = count_here
) -> Tensor:
    """Cross-entropy of softmax(cosine / temperature) over patches against the true region's share per patch.

    cosine, target (B, S, L), target in [0, 1]; valid (B, S) bool. Sentences without a region are left out.
    """
    mass = target.sum(dim=-1)
    counts = valid & (mass > 0)
    share = target / mass.clamp(min=TINY)[..., None]
    per_sentence = -(share * (cosine / temperature).log_softmax(dim=-1)).sum(dim=-1)
    return per_sentence[counts].sum() / count(counts.sum()).clamp(min=TINY)


def region_presence_loss(logits: Tensor, target: Tensor, valid: Tensor, count: Count = count_here) -> Tensor:
    """Binary cross-entropy per patch, inside and outside of the region weighing the same; logits, target (B, S, L).

    A sentence whose finding is truly absent (valid, all zero) has only an outside: every patch must say no.
    """
    inside, outside = target.sum(dim=-1), (1 - target).sum(dim=-1)
    missed = (target * F.softplus(-logits)).sum(dim=-1) / inside.clamp(min=TINY)
    imagined = ((1 - target) * F.softplus(logits)).sum(dim=-1) / outside.clamp(min=TINY)
    return ((missed + imagined)[valid] / 2).sum() / count(valid.sum()).clamp(min=TINY)


def question_loss(logits: Tensor, target: Tensor, valid: Tensor, count: Count = count_here) -> Tensor:
    """Is it there at all? Binary cross-entropy of one answer per question, yes and no weighing the same.

    logits, target (B, Q, L), valid (B, Q) bool, True = a question. The answer to a claim that is false (target all
    zero) is its best patch anywhere, as an engine reads it; to one that is true the best patch of its region.
    """
    is_there = target.any(dim=-1)
    outside = is_there[..., None] & (target <= 0)
    best = logits.masked_fill(outside, torch.finfo(logits.dtype).min).amax(dim=-1)
    yes, no = valid & is_there, valid & ~is_there
    missed = F.softplus(-best)[yes].sum() / count(yes.sum()).clamp(min=TINY)
    imagined = F.softplus(best)[no].sum() / count(no.sum()).clamp(min=TINY)
    return (missed + imagined) / 2


def size_prior_loss(size_logit: Tensor, valid: Tensor, count: Count = count_here) -> Tensor:
    """Pull the learned region size to the middle of its range: mean (sigmoid(logit) - 1/2)^2 over real sentences."""
    return (size_logit.sigmoid() - 0.5).square()[valid].sum() / count(valid.sum()).clamp(min=TINY)
