"""Losses of claims whose truth is known cell by cell: where is it, how far does it reach, is it there at all?

Rows are claims (or kinds of finding) about one study, columns its cells. A false claim is true nowhere.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from core.models.losses import TINY

BEST_CELLS = 8
"""A claim is there when this many cells, the best ones, say so on average; one cell alone would be noise."""


class ClaimLosses(NamedTuple):
    """Sums over the claims of one study, and over how many."""

    place: Tensor  # cross-entropy of softmax over cells against the region
    extent: Tensor  # yes or no per cell, and 1 - soft Dice
    missed: Tensor  # true claims whose best cells say no
    imagined: Tensor  # false claims whose best cells say yes
    true: int
    false: int


def claim_losses(logits: Tensor, scores: Tensor, share: Tensor) -> ClaimLosses:
    """Of claims: logits of yes, scores for the softmax over cells, share of each cell that is inside; (Q, M) each."""
    is_true = share.amax(dim=1) > 0
    yes, no = logits[is_true], logits[~is_true]
    region = share[is_true]
    zero = logits.new_zeros(())
    place = place_loss(scores[is_true], region) if len(yes) else zero
    extent = extent_loss(yes, region) if len(yes) else zero
    missed = F.softplus(-best_inside(yes, region)).sum() if len(yes) else zero
    imagined = F.softplus(best_cells(no)).sum() if len(no) else zero
    return ClaimLosses(place, extent, missed, imagined, len(yes), len(no))


def place_loss(scores: Tensor, region: Tensor) -> Tensor:
    """Sum over claims of the cross-entropy between softmax(scores) over cells and the region's share per cell."""
    share = region / region.sum(dim=1, keepdim=True)
    return -(share * scores).sum() + scores.logsumexp(dim=1).sum()  # shares sum to 1


def extent_loss(logits: Tensor, region: Tensor) -> Tensor:
    """Sum over claims of balanced cross-entropy per cell (inside and outside weigh the same) and 1 - soft Dice."""
    size, cells = region.sum(dim=1), region.shape[1]
    outside = F.softplus(logits)  # cost of yes where no is true; the other way round it is this minus the logit
    inside = (region * (outside - logits)).sum(dim=1) / size
    imagined = ((1 - region) * outside).sum(dim=1) / (cells - size).clamp(min=TINY)
    said = logits.sigmoid()
    overlap = 2 * (said * region).sum(dim=1) / (said.sum(dim=1) + size)
    return ((inside + imagined) / 2 + 1 - overlap).sum()


def best_cells(logits: Tensor, count: int = BEST_CELLS) -> Tensor:
    """Mean of the `count` largest logits of each row: (Q, M) -> (Q,)."""
    return logits.topk(min(count, logits.shape[1]), dim=1).values.mean(dim=1)


def best_inside(logits: Tensor, region: Tensor, count: int = BEST_CELLS) -> Tensor:
    """As `best_cells`, among cells that touch the region; over fewer cells where it has fewer."""
    touched = region > 0
    kept = logits.masked_fill(~touched, torch.finfo(logits.dtype).min)
    best = kept.topk(min(count, logits.shape[1]), dim=1).values
    counted = torch.arange(best.shape[1], device=logits.device) < touched.sum(dim=1, keepdim=True)
    return best.masked_fill(~counted, 0.0).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def anatomy_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of structure classes, rare ones weighing more (inverse square root of their share).

    logits (M, C), classes (M,) integer below C; mean over cells in the weights' sense.
    """
    classes = classes.long()
    counts = torch.bincount(classes, minlength=logits.shape[1]).to(logits.dtype)
    return F.cross_entropy(logits, classes, weight=counts.clamp(min=1).rsqrt())
