"""Contrast of paired vectors with soft targets, in one process or gathered over many."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist

from core.errors import ConfigError

Kind = Literal["ce", "symkl"]
GatherMode = Literal["none", "local_grad", "full_grad"]


@dataclass(frozen=True)
class TemperatureConfig:
    """What similarities are divided by before a softmax."""

    start: float = 0.07
    """Value at the start, or always when not learned."""
    learned: bool = True
    """Whether it trains."""
    limits: tuple[float, float] = (0.001, 0.5)
    """A learned value is put back into this range at every step."""

    def __post_init__(self) -> None:
        low, high = self.limits
        if not 0 < low <= self.start <= high:
            raise ConfigError(
                f"The temperature starts at {self.start}; expected a value within {self.limits}, above 0."
            )


class Temperature(nn.Module):
    """A scalar temperature, learned within limits or fixed; its parameter is `value` (none when fixed)."""

    def __init__(self, config: TemperatureConfig) -> None:
        super().__init__()
        self.limits = config.limits
        value = torch.tensor(config.start)
        if config.learned:
            self.value: Tensor = nn.Parameter(value)
        else:
            self.register_buffer("value", value, persistent=False)

    def forward(self) -> Tensor:
        """The value, () float32. Call it once per backward pass: a learned one is first clamped in place."""
        if self.value.requires_grad:
            with torch.no_grad():
                self.value.clamp_(*self.limits)
        return self.value


def hash_text(text: str) -> int:
    """A 63-bit number that stands for a text when equality is tested, on any machine and in any process."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Gather(NamedTuple):
    """How rows of all processes come together; made by `plan_gather`."""

    mode: GatherMode
    counts: tuple[int, ...]  # rows of each process
    rank: int

    @property
    def own(self) -> slice:
        """Where this process's rows lie among all."""
        first = sum(self.counts[: self.rank])
        return slice(first, first + self.counts[self.rank])

    def __call__(self, rows: Tensor) -> Tensor:
        """Rows of all processes, by rank: (n, ...) -> (N, ...). Every process must call it in the same order.

        local_grad: only this process's rows carry a gradient, as released by fVLM; with gradients averaged over W
        processes, what is reached through the rows gets 1/W of the one-process gradient. full_grad: the gradient flows
        back through the gathering, and the average is the one-process gradient.
        """
        if len(rows) != self.counts[self.rank]:
            raise ConfigError(f"{len(rows)} rows to gather; expected {self.counts[self.rank]} as planned.")
        if len(self.counts) == 1:
            return rows
        if self.mode == "full_grad" and rows.requires_grad:
            return _GatherWithGradient.apply(rows, self)
        everyone = _all_gather(rows.detach(), self.counts)
        everyone[self.rank] = rows
        return torch.cat(everyone)


def plan_gather(rows: int, mode: GatherMode, device: torch.device | None = None) -> Gather:
    """Ask every process how many rows it brings; alone, or with mode "none", just this one's."""
    if mode == "none" or not (dist.is_available() and dist.is_initialized()):
        return Gather(mode, (rows,), 0)
    counts = [torch.zeros((), dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor(rows, device=device))
    return Gather(mode, tuple(int(count) for count in counts), dist.get_rank())


class TargetRule(NamedTuple):
    """Which samples besides the pair itself are positives of each other (fVLM spec 5)."""

    normals: bool = True  # samples whose organ is normal
    duplicates: bool = True  # samples with the same text


def pair_targets(text_id: Tensor, abnormal: Tensor, rule: TargetRule | None = None) -> Tensor:
    """Soft targets of a contrast, rows sum to 1: text_id (N,) int64, abnormal (N,) -> (N, N) float32.

    abnormal: 1 or True = abnormal, 0 or False = normal, -1 = unknown, which matches nobody as a normal. No rule = both.
    """
    rule = rule or TargetRule()
    positive = torch.eye(len(text_id), dtype=torch.bool, device=text_id.device)
    if rule.normals:
        is_normal = abnormal == 0
        positive = positive | (is_normal[:, None] & is_normal[None, :])
    if rule.duplicates:
        positive = positive | (text_id[:, None] == text_id[None, :])
    return positive.float() / positive.sum(dim=1, keepdim=True)


class Contrast(NamedTuple):
    """The two directions of a contrast; what their sum counts is the method's choice."""

    image_to_text: Tensor  # () mean over rows
    text_to_image: Tensor


def contrast(logits: Tensor, targets: Tensor, back_targets: Tensor | None = None, kind: Kind = "ce") -> Contrast:
    """Both directions of a soft-target contrast: logits (..., N, N) image x text, targets of their rows.

    back_targets: targets of the transposed logits' rows, (text x image); `targets` again when not given.
    """
    loss_of = soft_cross_entropy if kind == "ce" else symmetric_divergence
    back = targets if back_targets is None else back_targets
    return Contrast(loss_of(logits, targets), loss_of(logits.transpose(-1, -2), back))


def soft_cross_entropy(logits: Tensor, targets: Tensor, counts: Tensor | None = None) -> Tensor:
    """-sum_l y_l log softmax(s)_l, mean over rows: logits, targets (..., N, M) -> ().

    counts (..., N) bool, True = the row enters the mean; 0 when none does. A logit of -inf is allowed where y = 0.
    """
    log_p = logits.float().log_softmax(dim=-1)
    rows = -(targets * log_p.masked_fill(targets == 0, 0.0)).sum(dim=-1)
    if counts is None:
        return rows.mean()
    return rows.masked_fill(~counts, 0.0).sum() / counts.sum().clamp(min=1)


def symmetric_divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """1/2 [KL(Y || p) + KL(p || Y)], p = softmax of the rows, mean over rows (ASG spec 4): (..., N, M) -> ().

    Targets must be above 0 everywhere: a zero that the softmax does not share is an infinite divergence, here a large
    one.
    """
    log_p = logits.float().log_softmax(dim=-1)
    log_y = targets.clamp(min=torch.finfo(targets.dtype).tiny).log()
    return ((targets - log_p.exp()) * (log_y - log_p)).sum(dim=-1).mean() / 2


def _all_gather(rows: Tensor, counts: tuple[int, ...]) -> list[Tensor]:
    """Rows of each process, without gradient; padded to the most rows for the journey."""
    most = max(counts)
    padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])]).contiguous()
    # gloo and NCCL know no bool
    travelling = padded.byte() if padded.dtype == torch.bool else padded
    received = [torch.empty_like(travelling) for _ in counts]
    dist.all_gather(received, travelling)
    return [part[:count].to(rows.dtype) for part, count in zip(received, counts, strict=True)]


class _GatherWithGradient(torch.autograd.Function):
    """All rows forward; backward each process gets the sum of all processes' gradients of its rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, gather: Gather) -> Tensor:
        ctx.gather = gather
        return torch.cat(_all_gather(rows, gather.counts))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.gather.own], None
