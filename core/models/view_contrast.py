"""Visual contrast per organ: normal organs attract each other, an abnormal one only its own other view."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.models.contrast import Gather, soft_cross_entropy


class Views(NamedTuple):
    """Organ vectors of the two views of a batch, and what is known of the organs."""

    online: Tensor  # (B, O, E) unit vectors of the first view
    momentum: Tensor  # (B, O, E) unit vectors of the second view, by the teacher, without gradient
    usable: Tensor  # (B, O) bool, True = intact in both views and known to be normal or abnormal
    abnormal: Tensor  # (B, O) bool


class Seen(NamedTuple):
    """Organs as the teacher sees them, by sample."""

    vectors: Tensor  # (N, O, E) unit vectors
    usable: Tensor  # (N, O) bool
    abnormal: Tensor  # (N, O) bool


class OrganQueue(nn.Module):
    """Organs of the studies seen last, as the teacher saw them: more to compare with where batches are small."""

    def __init__(self, studies: int, organs: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(studies, organs, width))
        self.register_buffer("usable", torch.zeros(studies, organs, dtype=torch.bool))
        self.register_buffer("abnormal", torch.zeros(studies, organs, dtype=torch.bool))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.get_buffer("vectors"))

    def behind(self, now: Seen) -> Seen:
        """Studies of this step, then those that are kept; empty places are not usable."""
        kept = (self.get_buffer(name).clone() for name in Seen._fields)  # replaced before the backward pass reads them
        return Seen(*(torch.cat([mine, old]) for mine, old in zip(now, kept, strict=True)))

    @torch.no_grad()
    def keep(self, now: Seen) -> None:
        """Put studies in the place of the oldest."""
        count, seen = len(now.usable), self.get_buffer("seen")
        newest = [part[-len(self) :] for part in now]
        first = seen + count - len(newest[0])
        places = (first + torch.arange(len(newest[0]), device=first.device)) % len(self)
        for name, part in zip(Seen._fields, newest, strict=True):
            self.get_buffer(name)[places] = part
        seen += count


def view_targets(usable: Tensor, abnormal: Tensor, rows: slice = slice(None)) -> Tensor:
    """Soft targets among the samples of one organ: usable, abnormal (..., N) bool -> (..., rows, N), rows sum to 1.

    P(i) = {i} for an abnormal organ, all usable normal ones (itself included) for a normal one (spec 4, S1).
    """
    normal = usable & ~abnormal
    own = torch.eye(usable.shape[-1], dtype=torch.bool, device=usable.device)[rows]
    positive = own | (normal[..., rows, None] & normal[..., None, :])
    return positive.float() / positive.sum(dim=-1, keepdim=True)


def view_contrast(views: Views, temperature: Tensor, gather: Gather, queue: OrganQueue | None = None) -> Tensor:
    """-1/M sum_j sum_i sum_p Y_ip log softmax_k(<Q_ij, Q'_kj> / tau), M usable (sample, organ) pairs of all processes.

    k and p also run over a queue, which then takes the batch in while it trains. Each process computes its own rows
    against the columns of all. Its value is scaled so that the mean over processes, and of their gradients, is that of
    one process with the whole batch. 0 when nothing is usable.
    """
    now = Seen(gather(views.momentum), gather(views.usable), gather(views.abnormal))
    pairs = now.usable.sum()
    momentum, usable, abnormal = now if queue is None else queue.behind(now)
    if queue is not None and queue.training:
        queue.keep(now)
    logits = torch.einsum("boe,noe->obn", views.online, momentum).float() / temperature
    # finite: a row without any column would be NaN, and spoil gradients even where it does not count
    logits = logits.masked_fill(~usable.T[:, None], torch.finfo(logits.dtype).min)
    targets = view_targets(usable.T, abnormal.T, gather.own)
    own = views.usable.T
    share = own.sum() * len(gather.counts) / pairs.clamp(min=1)
    return soft_cross_entropy(logits, targets, own) * share
