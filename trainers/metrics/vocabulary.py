"""Findings asked for in words: each is a pair of prompts, "X." and "not X." (ASAP spec 6.5, CT-CLIP's VocabFine)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from core.models.organ_scores import prompt_probabilities


def judge_pairs(image: Tensor, positive: Tensor, negative: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax over the two cosines: image (N, E), prompts (L, E) each -> (N, L, 2), [positive, negative].

    The published protocol has no temperature, so that all probabilities stay near one half.
    """
    prompts = torch.stack([F.normalize(positive, dim=1), F.normalize(negative, dim=1)], dim=1)
    return prompt_probabilities(F.normalize(image, dim=1)[:, None], prompts, temperature)


def rank_findings(probabilities: Tensor) -> Tensor:
    """Positive minus negative probability (N, L, 2) -> (N, L) in [-1, 1]: what the areas under the curve rank."""
    return probabilities[..., 0] - probabilities[..., 1]
