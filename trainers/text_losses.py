"""What the text encoder is trained for: likeness of sentences, attributes that can be read off, its source's sense."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.structures import LOBES
from core.synthesis.statement import Statement
from trainers.text_families import ORGANS, TARGETS
from trainers.text_likeness import EXISTENCES, SIDES, target_of

SAME, OTHER = 0.97, 0.8
"""Likeness from which sentences count as saying the same, and below which as saying something else."""
UNRELATED_COSINE = 0.25
"""Cosine of the source between sentences that have nothing to do with each other."""
RARE = -4.0
"""Log-odds that the heads start from: most answers are wrong."""
GROUPS = {"claimed": TARGETS, "denied": TARGETS, "existence": EXISTENCES, "side": SIDES, "lobe": LOBES, "organ": ORGANS}
"""What linear heads read: group -> its answers, several of which may be right."""


class Reading(nn.Module):
    """Linear heads that read a sentence vector (S, D); thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        heads = {name: nn.Linear(width, len(answers)) for name, answers in GROUPS.items()}
        for head in heads.values():
            nn.init.constant_(head.bias, RARE)
        self.heads = nn.ModuleDict(heads)
        self.size = nn.Linear(width, 2)  # whether one is told, and its logarithm

    def loss(self, vectors: Tensor, truth: dict[str, Tensor]) -> Tensor:
        """Sum over the groups of the mean binary cross-entropy per sentence, and the error of the size."""
        losses = [_binary_loss(head(vectors), truth[name]) for name, head in self.heads.items()]
        told, log_size = self.size(vectors).unbind(dim=-1)
        is_told = truth["log_size"] >= 0
        losses.append(F.binary_cross_entropy_with_logits(told, is_told.float()))
        if is_told.any():
            losses.append(F.smooth_l1_loss(log_size[is_told], truth["log_size"][is_told]))
        return torch.stack(losses).sum()


def _binary_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy of (S, C), summed over answers: few of many are right."""
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(dim=1).mean()


def truth_of(statements: Sequence[Statement]) -> dict[str, Tensor]:
    """Per group (S, C) float 0 or 1, over all facts of a sentence; log_size (S,) of its one size in mm, -1 = none."""
    truth = {name: torch.zeros(len(statements), len(answers)) for name, answers in GROUPS.items()}
    for row, statement in enumerate(statements):
        for fact in statement.facts:
            for name, answer in _answers(fact):
                truth[name][row, _PLACES[name][answer]] = 1.0
    sizes = [[fact.size_mm for fact in s.facts if fact.size_mm is not None] for s in statements]
    truth["log_size"] = torch.tensor([max(one[0], 1.0) if len(one) == 1 else -1.0 for one in sizes])
    told = truth["log_size"] >= 0
    truth["log_size"][told] = truth["log_size"][told].log()
    return truth


_PLACES = {name: {answer: place for place, answer in enumerate(answers)} for name, answers in GROUPS.items()}


def _answers(fact: Statement) -> list[tuple[str, str]]:
    """What is right for a fact: (group, answer)."""
    target = target_of(fact)
    told: list[tuple[str, str]] = [("existence", fact.existence)] if fact.kind != "normal" else []
    if target in _PLACES["claimed"]:
        told.append(("denied" if fact.existence == "absent" and fact.kind != "normal" else "claimed", target))
    if fact.laterality:
        told.append(("side", fact.laterality))
    told += [("lobe", name) for name in fact.organs if name in _PLACES["lobe"]]
    return told + [("organ", name) for name in fact.organs if name in _PLACES["organ"]]


def contrast_loss(vectors: Tensor, likeness: Tensor, temperature: float) -> Tensor:
    """Each sentence finds those that say the same among those that say something else.

    vectors (S, D); likeness (S, S) in [0, 1]. Pairs between `OTHER` and `SAME` (one tells less) are left out.
    """
    unit = F.normalize(vectors, dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool)
    same, other = (likeness >= SAME) & ~itself, likeness < OTHER
    logits = unit @ unit.T / temperature
    rivals = logits.masked_fill(~other, -1e4).logsumexp(dim=1, keepdim=True)
    per_pair = F.softplus(rivals - logits)  # -log(e^same / (e^same + sum e^other))
    counts = same.sum(dim=1)
    per_sentence = (per_pair * same).sum(dim=1) / counts.clamp(min=1)
    return per_sentence[counts > 0].mean()


def likeness_loss(vectors: Tensor, likeness: Tensor) -> Tensor:
    """Mean squared distance of the cosines to `likeness` (S, S); pairs of one claim count as much as all others."""
    unit = F.normalize(vectors, dim=-1)
    error = (unit @ unit.T - likeness) ** 2
    itself = torch.eye(len(unit), dtype=torch.bool)
    near = (likeness > 0.1) & ~itself  # more in common than a place
    return error[near].mean() + error[~near & ~itself].mean()


def sense_loss(vectors: Tensor, taught: Tensor, projection: nn.Linear) -> Tensor:
    """Distance to the source's unit vectors (N, D') after a linear map, and of the cosines to the source's cosines."""
    direct = (1 - F.cosine_similarity(projection(vectors), taught)).mean()
    unit = F.normalize(vectors, dim=-1)
    wanted = ((taught @ taught.T - UNRELATED_COSINE) / (1 - UNRELATED_COSINE)).clamp(min=0)
    return direct + 2.0 * F.mse_loss(unit @ unit.T, wanted)
