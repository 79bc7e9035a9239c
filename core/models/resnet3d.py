"""A 3-D ResNet whose four levels become tokens; parameter names are ViSD-Boost's (MedicalNet style).

Volumes come (X, Y, Z) and are turned to the (Z, Y, X) of the published weights, on which tokens are counted row-major.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from core.errors import ConfigError
from core.models.sync_norm import SyncedBatchNorm3d

Size3 = tuple[int, int, int]

LEVEL_STRIDES: tuple[Size3, ...] = ((2, 4, 4), (4, 8, 8), (8, 16, 16), (16, 32, 32))
"""Voxels (z, y, x) that one token of each level stands for."""
NORMS: dict[str, type[nn.BatchNorm3d]] = {"batch": nn.BatchNorm3d, "sync": SyncedBatchNorm3d}


@dataclass(frozen=True)
class ResNetConfig:
    """Sizes of the 3-D ResNet; the defaults are ViSD-Boost's ResNet-18."""

    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    """Channels of the four levels; must not shrink."""
    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Residual blocks of the four levels."""
    levels: tuple[int, ...] = (1, 2, 3, 4)
    """Levels that are read out, ascending and with 4; a large organ has about 100,000 tokens on level 1."""
    norm: Literal["batch", "sync"] = "sync"
    """Batch statistics of one process (as published) or of all."""
    detach_shortcut: bool = False
    """No gradient through the shortcuts that change shape, as in the released code."""
    checkpointing: bool = False
    """Compute stem and blocks anew in the backward pass: less memory, about a third more time."""

    def __post_init__(self) -> None:
        if list(self.levels) != sorted(set(self.levels) & {1, 2, 3, 4}) or 4 not in self.levels:
            raise ConfigError(f"levels is {self.levels}; expected ascending numbers from 1 to 4 that include 4.")
        if min(*self.widths, *self.blocks) < 1 or list(self.widths) != sorted(self.widths):
            raise ConfigError(f"widths {self.widths} must be positive and not shrink, blocks positive.")


def subsample_shortcut(features: Tensor, stride: int, channels: int) -> Tensor:
    """Shortcut type A, without parameters: every `stride`-th voxel, then zero channels up to `channels`."""
    kept = features[:, :, ::stride, ::stride, ::stride]
    return F.pad(kept, (0, 0, 0, 0, 0, 0, 0, channels - kept.shape[1]))


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions around a shortcut: (B, C, Z, Y, X) -> (B, C', Z/stride, Y/stride, X/stride)."""

    def __init__(self, channels: tuple[int, int], stride: int, dilation: int, config: ResNetConfig) -> None:
        super().__init__()
        before, after = channels
        self.stride, self.changes_shape = stride, stride > 1 or before != after
        self.detach_shortcut = config.detach_shortcut
        conv = partial(nn.Conv3d, kernel_size=3, padding=dilation, dilation=dilation, bias=False)
        self.conv1, self.bn1 = conv(before, after, stride=stride), NORMS[config.norm](after)
        self.conv2, self.bn2 = conv(after, after), NORMS[config.norm](after)

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features
        if self.changes_shape:
            source = features.detach() if self.detach_shortcut else features
            shortcut = subsample_shortcut(source, self.stride, self.bn2.num_features)
        # In place: neither a norm nor a sum needs its output in the backward pass.
        inner = F.relu_(self.bn1(self.conv1(features)))
        return F.relu_(self.bn2(self.conv2(inner)) + shortcut)


class ResNet3d(nn.Module):
    """The convolutional trunk: (B, 1, Z, Y, X) -> the maps of the four levels, finest first."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.checkpointing = config.checkpointing
        first = config.widths[0]
        self.conv1 = nn.Conv3d(1, first, kernel_size=7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = NORMS[config.norm](first)
        before = first
        for level, (width, count) in enumerate(zip(config.widths, config.blocks, strict=True), start=1):
            dilation = max(1, 2 ** (level - 2))  # 1, 1, 2, 4
            blocks = []
            for index in range(count):
                stride = 2 if level > 1 and index == 0 else 1
                blocks.append(BasicBlock((before, width), stride, dilation, config))
                before = width
            self.add_module(f"layer{level}", nn.Sequential(*blocks))
        self.apply(_initialise)

    def forward(self, images: Tensor) -> list[Tensor]:
        features, maps = self._run(self._stem, self.bn1, images), []
        for level in range(1, 5):
            for block in self.get_submodule(f"layer{level}").children():
                features = self._run(block, block, features)
            maps.append(features)
        return maps

    def _stem(self, images: Tensor) -> Tensor:
        return F.max_pool3d(F.relu_(self.bn1(self.conv1(images))), kernel_size=3, stride=2, padding=1)

    def _run(self, part: Callable[[Tensor], Tensor], norms: nn.Module, features: Tensor) -> Tensor:
        """One part of the trunk, computed again in the backward pass if so configured; `norms` holds its norms."""
        if not (self.checkpointing and self.training and torch.is_grad_enabled()):
            return part(features)
        contexts = partial(_first_and_second_pass, norms)
        return checkpoint(part, features, use_reentrant=False, context_fn=contexts)


class ResNetTokens(nn.Module):
    """Trunk and one 1x1x1 projection a level: volumes -> tokens of the chosen levels, finest first."""

    def __init__(self, config: ResNetConfig, width: int) -> None:
        """width: features of a token (D)."""
        super().__init__()
        self.config = config
        self.res_model = ResNet3d(config)
        for level in config.levels:
            self.add_module(f"proj{level}", nn.Conv3d(config.widths[level - 1], width, kernel_size=1))

    @property
    def strides(self) -> list[Size3]:
        """Voxels (z, y, x) of one token of each chosen level."""
        return [LEVEL_STRIDES[level - 1] for level in self.config.levels]

    def turn(self, volumes: Tensor) -> Tensor:
        """Volumes (..., X, Y, Z) on the inner axes, and back."""
        return rearrange(volumes, "... x y z -> ... z y x")

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 1, X, Y, Z), sizes multiples of (32, 32, 16) -> tokens (B, L, D) of each chosen level."""
        maps = self._maps(images)
        return [self._project(level, maps) for level in self.config.levels]

    def last_level(self, images: Tensor) -> Tensor:
        """The tokens of level 4 alone: (B, 1, X, Y, Z) -> (B, L, D)."""
        return self._project(4, self._maps(images))

    def encode_patches(self, images: Tensor) -> Tensor:
        """Level 4 before its projection: (B, 1, X, Y, Z) -> (B, X/32, Y/32, Z/16, C)."""
        return rearrange(self._maps(images)[-1], "b c z y x -> b x y z c")

    def _project(self, level: int, maps: list[Tensor]) -> Tensor:
        return rearrange(self.get_submodule(f"proj{level}")(maps[level - 1]), "b d z y x -> b (z y x) d")

    def _maps(self, images: Tensor) -> list[Tensor]:
        turned = self.turn(images)
        sizes, wanted = tuple(turned.shape[2:]), LEVEL_STRIDES[-1]
        if any(size % step for size, step in zip(sizes, wanted, strict=True)):
            raise ConfigError(f"The volume has {sizes} voxels (z, y, x); expected multiples of {wanted}. Pad it.")
        return self.res_model(turned)


def _initialise(module: nn.Module) -> None:
    """Kaiming-normal kernels by fan-out, as the trunk was published."""
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")


def _first_and_second_pass(part: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a checkpointed part: the second pass must not count its batch into the running statistics again."""
    return nullcontext(), _statistics_kept(part)


@contextmanager
def _statistics_kept(part: nn.Module) -> Iterator[None]:
    norms = [module for module in part.modules() if isinstance(module, nn.BatchNorm3d)]
    before = [(norm.momentum, norm.get_buffer("num_batches_tracked").clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.get_buffer("num_batches_tracked").copy_(count)
