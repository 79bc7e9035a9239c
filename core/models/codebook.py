"""A codebook that follows the vectors assigned to it by moving averages instead of gradients (VQ-VAE, EMA variant)."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist

from core.errors import ConfigError
from core.models.contrast import plan_gather

LONG_AGO = 1_000_000
"""Updates taken to have happened when a file holds averages but not their number."""


@dataclass(frozen=True)
class CodebookConfig:
    """How codes are chosen and how they follow; the defaults are ViSD-Boost's, but for `unused`."""

    codes_per_organ: int = 100
    """K; the book has K codes for each organ, one organ after the other."""
    own_block: bool = False
    """Whether an organ's tokens choose among its own K codes only and not in the whole book."""
    decay: float = 0.99
    """Of the moving averages."""
    epsilon: float = 1e-5
    """Smoothing of the counts."""
    unused: Literal["keep", "zero"] = "keep"
    """What becomes of a code that no token ever chose: it stays, or (released) it collapses to the zero vector."""
    reseed_below: float = 0.0
    """A code whose averaged count per update falls below this is put on a token of the batch; 0 = never.

    A fresh book whose tokens all lie nearest to one code ends on that code without it.
    """

    def __post_init__(self) -> None:
        if self.codes_per_organ < 1 or not 0 < self.decay < 1 or self.epsilon <= 0 or self.reseed_below < 0:
            raise ConfigError(
                "codes_per_organ must be at least 1, decay within (0, 1), epsilon above 0, reseed_below not below 0; "
                f"got {self}."
            )


class Quantised(NamedTuple):
    """Tokens on their codes."""

    codes: Tensor  # (T,) int64
    vectors: Tensor  # (T, E) the codes themselves, without gradient
    passed: Tensor  # (T, E) the same values, with the tokens' gradient straight through


class DebiasedAverage(nn.Module):
    """Moving average of a tensor that starts at 0, corrected for that start; its updates are counted in a buffer.

    The published files do not hold the number of updates. Loading one without it takes a zero average as new and any
    other as old, which needs no correction.
    """

    hidden: Tensor
    counter: Tensor

    def __init__(self, shape: tuple[int, ...], decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("hidden", torch.zeros(shape))
        self.register_buffer("counter", torch.zeros((), dtype=torch.int64))

    def update(self, value: Tensor) -> Tensor:
        """h <- h - (1 - g)(h - x); returns the corrected h / (1 - g^t)."""
        self.counter += 1
        self.hidden.lerp_(value, 1 - self.decay)
        return self.corrected()

    def corrected(self) -> Tensor:
        """The average without the pull of its start at 0; 0 before the first update."""
        weight = 1 - self.decay ** self.counter.double()
        return self.hidden / weight.clamp(min=1 - self.decay).to(self.hidden)

    def put(self, rows: Tensor, value: Tensor) -> None:
        """Set some rows so that `corrected` gives `value`."""
        self.hidden[rows] = value * (1 - self.decay ** self.counter.double()).to(self.hidden)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        hidden, counter = state_dict.get(prefix + "hidden"), prefix + "counter"
        if hidden is not None and counter not in state_dict:
            state_dict[counter] = torch.tensor(LONG_AGO if bool(hidden.any()) else 0)
        super()._load_from_state_dict(state_dict, prefix, *args)


class Codebook(nn.Module):
    """Nearest code of each token; in training mode the codes then move to the mean of the tokens that chose them."""

    embeddings: Tensor

    def __init__(self, config: CodebookConfig, organs: int, width: int) -> None:
        super().__init__()
        self.config = config
        size = organs * config.codes_per_organ
        self.register_buffer("embeddings", nn.init.xavier_uniform_(torch.empty(size, width)))
        self.ema_dw = DebiasedAverage((size, width), config.decay)
        self.ema_cluster_size = DebiasedAverage((size,), config.decay)

    def forward(self, tokens: Tensor, organ: Tensor) -> Quantised:
        """tokens (T, E) and the organ (T,) int64, 0-based, of each -> their codes as they were before any update."""
        with torch.no_grad():
            codes = self.nearest(tokens, organ)
            vectors = self.embeddings[codes]
            if self.training:
                self.follow(tokens, codes)
        return Quantised(codes, vectors, tokens + (vectors - tokens).detach())

    def nearest(self, tokens: Tensor, organ: Tensor) -> Tensor:
        """Code of least distance, the first of several: tokens (T, E), organ (T,) -> (T,) int64."""
        distances = self.embeddings.square().sum(dim=1) - 2 * tokens @ self.embeddings.T  # |z|^2 is the same for all
        if self.config.own_block:
            block = torch.arange(len(self.embeddings), device=tokens.device) // self.config.codes_per_organ
            distances = distances.masked_fill(block != organ[:, None], torch.inf)
        return distances.argmin(dim=1)

    def follow(self, tokens: Tensor, codes: Tensor) -> None:
        """One update of the averages and of the book by the tokens of all processes (ViSD-Boost spec 4, S2)."""
        counts = torch.bincount(codes, minlength=len(self.embeddings)).to(tokens)
        sums = torch.zeros_like(self.embeddings).index_add(0, codes, tokens)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        if not bool(counts.any()):
            return
        size, mean_sum = self.ema_cluster_size.update(counts), self.ema_dw.update(sums)
        total, epsilon = size.sum(), self.config.epsilon
        smoothed = (size + epsilon) / (total + len(size) * epsilon) * total
        moved = mean_sum / smoothed[:, None]
        if self.config.unused == "keep":
            moved = torch.where((size > 0)[:, None], moved, self.embeddings)
        self.embeddings.copy_(moved)
        if self.config.reseed_below > 0:
            self._reseed(tokens, size)

    def _reseed(self, tokens: Tensor, size: Tensor) -> None:
        """Put codes that are hardly used on tokens of all processes: from the worst placed to the best, evenly.

        A token gets one code at most, the least used first: which of two equal codes is nearest, rounding would decide.
        """
        everyone = plan_gather(len(tokens), "local_grad", tokens.device)(tokens)
        rows = size.argsort(stable=True)[: int((size < self.config.reseed_below).sum())][: len(everyone)]
        missed = torch.cdist(everyone, self.embeddings).amin(dim=1)
        ranks = torch.linspace(0, len(everyone) - 1, len(rows), device=tokens.device).round().long()
        fresh = everyone[missed.argsort(descending=True, stable=True)[ranks]]
        self.embeddings[rows] = fresh
        self.ema_dw.put(rows, fresh)
        self.ema_cluster_size.put(rows, torch.ones_like(size[rows]))
