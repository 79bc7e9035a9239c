"""Visual contrast per organ: normal organs attract each other, an abnormal one only its own other view."""

from typing import NamedTuple

import torch
from torch import Tensor

from core.models.contrast import Gather, soft_cross_entropy


class Views(NamedTuple):
    """Organ vectors of the two views of a batch, and what is known of the organs."""

    online: Tensor  # (B, O, E) unit vectors of the first view
    momentum: Tensor  # (B, O, E) unit vectors of the second view, by the teacher, without gradient
    usable: Tensor  # (B, O) bool, True = intact in both views and known to be normal or abnormal
    abnormal: Tensor  # (B, O) bool


def view_targets(usable: Tensor, abnormal: Tensor) -> Tensor:
    """Soft targets among the samples of one organ: usable, abnormal (..., N) bool -> (..., N, N), rows sum to 1.

    P(i) = {i} for an abnormal organ, all usable normal ones (itself included) for a normal one (spec 4, S1).
    """
    normal = usable & ~abnormal
    own = torch.eye(usable.shape[-1], dtype=torch.bool, device=usable.device)
    positive = own | (normal[..., :, None] & normal[..., None, :])
    return positive.float() / positive.sum(dim=-1, keepdim=True)


def view_contrast(views: Views, temperature: Tensor, gather: Gather) -> Tensor:
    """-1/M sum_j sum_i sum_p Y_ip log softmax_k(<Q_ij, Q'_kj> / tau), M usable (sample, organ) pairs of all processes.

    Each process computes its own rows against the columns of all. Its value is scaled so that the mean over processes,
    and of their gradients, is that of one process with the whole batch. 0 when nothing is usable.
    """
    momentum, usable, abnormal = gather(views.momentum), gather(views.usable), gather(views.abnormal)
    logits = torch.einsum("boe,noe->obn", views.online, momentum).float() / temperature
    # finite: a row without any column would be NaN, and spoil gradients even where it does not count
    logits = logits.masked_fill(~usable.T[:, None], torch.finfo(logits.dtype).min)
    targets = view_targets(usable.T, abnormal.T)[:, gather.own]
    own = views.usable.T
    share = own.sum() * len(gather.counts) / usable.sum().clamp(min=1)
    return soft_cross_entropy(logits, targets, own) * share
