"""False negatives among abnormal samples: targets moved by what a second model, or a slow copy, finds alike."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from core.errors import ConfigError


@dataclass(frozen=True)
class AbnormalPairs:
    """How abnormal samples whose findings resemble each other become positives of each other (fVLM spec 5.1)."""

    kind: Literal["none", "coteach", "ema_self", "text_ema"] = "none"
    """none: only equal texts are (released). coteach: two models trained in turn correct each other's targets.
    ema_self: the model's own slow copy does. text_ema: texts that a slow copy of the text encoder finds alike."""
    share: float = 0.5
    """Share of the other model's predictions in the targets of abnormal samples (alpha), once the ramp is over."""
    ramp_steps: int = 0
    """Steps over which the share grows from 0; the released code has an unused ramp over two epochs."""
    same_encoders: bool = False
    """Whether co-teaching's second model starts with the encoders of the first, for runs that start from published
    ones; pooling and projections differ in any case, and each model sees every other batch."""
    momentum: float = 0.995
    """How much of itself a slow copy keeps at each step."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not 0 <= self.momentum < 1 or self.ramp_steps < 0:
            raise ConfigError(
                f"share must lie in [0, 1], momentum in [0, 1) and ramp_steps not be negative, got {self}."
            )


def mix_predictions(targets: Tensor, logits: Tensor, abnormal: Tensor, share: float) -> Tensor:
    """Rows of abnormal samples moved towards another model's prediction among abnormal samples (spec 5.1).

    (1 - share) Y_k + share softmax_l(S_kl), the softmax over abnormal l only; targets, logits (n, n), abnormal (n,).
    """
    predicted = logits.float().masked_fill(~abnormal, torch.finfo(torch.float32).min).softmax(dim=-1)
    return torch.where(abnormal[:, None], (1 - share) * targets + share * predicted, targets)


def add_similar(targets: Tensor, similarity: Tensor, abnormal: Tensor) -> Tensor:
    """Positives plus softmax_l(similarity) between different abnormal samples, rows made to sum to 1 (spec 5.1)."""
    both = abnormal[:, None] & abnormal & ~torch.eye(len(abnormal), dtype=torch.bool, device=abnormal.device)
    positive = (targets > 0) + similarity.float().softmax(dim=-1) * both
    return positive / positive.sum(dim=1, keepdim=True)
