"""ASG's losses (ASG spec 4) as functions of tensors; each is 0, never NaN, where nothing counts."""

import torch
from torch import Tensor
from torch.nn import functional as F

from core.models.contrast import Contrast, soft_cross_entropy


def block_mask(valid: Tensor) -> Tensor:
    """What is added to region x sentence scores: valid (B, R) bool -> (B, R, R), 0 or -inf.

    0 among valid slots and among empty ones, -inf across, so that a softmax over a valid row is one over valid slots.
    A study without a valid slot gets its first one as a stand-in, so that the mask looks as the published one does; no
    loss counts it.
    """
    empty = ~valid.any(dim=1)
    member = valid.clone()
    member[:, 0] |= empty
    same = member[:, :, None] == member[:, None, :]
    return torch.zeros(same.shape, device=valid.device).masked_fill(~same, float("-inf"))


def region_sentence_scores(regions: Tensor, sentences: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """G_rs = <region_r, sentence_s> / tau + C_rs; regions, sentences (B, R, E), valid (B, R) bool -> (B, R, R)."""
    return regions @ sentences.transpose(1, 2) / temperature + block_mask(valid)


def shared_word_targets(words: Tensor) -> Tensor:
    """How much two regions' sentences have in common: words (B, R, W) bool -> (B, R, R), rows sum to 1.

    |A and B| / |A or B| over their words, then divided by the row's sum: regions of one and the same sentence are
    positives of each other. Slots without words are positives of themselves alone.
    """
    member = words.float()
    common = member @ member.transpose(1, 2)
    size = member.sum(dim=-1)
    union = size[:, :, None] + size[:, None, :] - common
    own = torch.eye(words.shape[1], device=words.device)
    share = torch.where(union > 0, common / union.clamp(min=1), 0.0).maximum(own)
    return share / share.sum(dim=-1, keepdim=True)


def region_sentence_contrast(scores: Tensor, targets: Tensor, valid: Tensor) -> Contrast:
    """Region to sentence and sentence to region; mean over the valid rows of the batch (ARSA), 0 without any.

    scores (B, R, R) as `region_sentence_scores`, targets (B, R, R) symmetric up to their rows' sums, valid (B, R) bool.
    """
    forward = soft_cross_entropy(scores, targets, valid)
    return Contrast(forward, soft_cross_entropy(scores.transpose(1, 2), targets, valid))


def tag_loss(logits: Tensor, tags: Tensor, ignore_unmentioned: bool) -> Tensor:
    """Binary cross-entropy of "present" (1) against all else, mean over studies and tags (IRL); logits, tags (B, K).

    tags: -1 negated, 0 not mentioned, 1 present. ignore_unmentioned: the mean is over mentioned tags only.
    """
    each = F.binary_cross_entropy_with_logits(logits.float(), (tags == 1).float(), reduction="none")
    if not ignore_unmentioned:
        return each.mean()
    counted = tags != 0
    return each[counted].sum() / counted.sum().clamp(min=1)


def tag_cosine(tags: Tensor) -> Tensor:
    """Cosine of the present tags of each two studies: tags (N, K) -> (N, N) float32; 0 for a study without one."""
    direction = F.normalize((tags == 1).float(), dim=-1)
    return direction @ direction.T


def soften_pairs(cosine: Tensor, share: float) -> Tensor:
    """ERL's targets from (N, N) similarities: rows of (1 - share) I + share * cosine + 1e-6, divided by their sums."""
    own = torch.eye(len(cosine), device=cosine.device)
    mixed = (1 - share) * own + share * cosine + 1e-6  # no 0: the divergence takes logarithms
    return mixed / mixed.sum(dim=-1, keepdim=True)


def retrieval_accuracy(scores: Tensor, within: int) -> Tensor:
    """Percent of pairs found among the `within` best, mean of image to report and back: scores (N, N) -> ()."""
    within = min(within, len(scores))
    own = torch.arange(len(scores), device=scores.device)[:, None]
    hits = [(part.topk(within, dim=1).indices == own).any(dim=1).float().mean() for part in (scores, scores.T)]
    return 50 * (hits[0] + hits[1])


def released_region_order(lengths: Tensor) -> Tensor:
    """From which study the release pools each study's regions: report lengths (B,) -> (B,) int64.

    Its loader writes a study's place in the batch into its regions, then sorts the batch by falling length of the
    reports: the study that becomes row i pools its regions from row order[i], that is from study order[order[i]].
    """
    return lengths.argsort(descending=True, stable=True)
