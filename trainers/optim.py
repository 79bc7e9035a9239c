"""The optimiser: AdamW without decay on vectors, linear warm-up, half a cosine."""

import math
from dataclasses import dataclass

from torch import nn
from torch.optim import AdamW

from core.errors import ConfigError


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule; the defaults are ASAP's, in steps of this run."""

    steps: int = 1000
    """Optimiser steps of the whole run."""
    warmup_steps: int = 100
    """Steps of linear growth from 0; then half a cosine down to 0."""
    peak_lr: float = 1.5e-4
    """Learning rate after the warm-up; absolute, not scaled by the batch."""
    weight_decay: float = 0.05
    """On matrices and kernels; biases and norms have none."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's two moments."""
    clip_norm: float = 1.0
    """Largest gradient norm; 0 = no clipping, as released."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_steps < self.steps:
            raise ConfigError(f"warmup_steps is {self.warmup_steps}; expected 0 to {self.steps - 1} (below steps).")
        if self.peak_lr <= 0 or self.weight_decay < 0 or self.clip_norm < 0:
            raise ConfigError("peak_lr must be above 0, weight_decay and clip_norm not below 0.")


def lr_scale(position: float, warmup: float, total: float) -> float:
    """Share of the peak learning rate at `position` in [0, total], in steps or (fractional) epochs."""
    if position < warmup:
        return position / warmup
    return 0.5 * (1 + math.cos(math.pi * (position - warmup) / (total - warmup)))


def build_adamw(model: nn.Module, optim: OptimConfig) -> AdamW:
    """AdamW over what trains, in two groups: with decay (2-D and more) and without."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=optim.peak_lr, betas=optim.betas)
