"""A convolutional pyramid beside a vision transformer: cells of a few voxels that know their surroundings.

Down: cells of 2, 4 and 8 voxels; the next step, 16, is the transformer's patch and joins its tokens. Up again with the
features of the same size added (as in a U-Net, arXiv 1505.04597), so that every cell of 2 voxels sees itself sharply
and the chest roughly. Tensors are channels-last: in bfloat16 that is three to five times as fast, on CPUs that know it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError

CELL = 2
"""Voxels along each edge of a cell."""
COARSEST = 16
"""Voxels along each edge of a patch of the transformer beside the pyramid."""


@dataclass(frozen=True)
class PyramidConfig:
    """Sizes of the pyramid and of what is read off it."""

    widths: tuple[int, int, int] = (32, 64, 128)
    """Channels on the way down, cells of 2, 4 and 8 voxels."""
    rising: tuple[int, int] = (32, 64)
    """Channels on the way up, cells of 2 and 4 voxels."""
    fine: int = 64
    """Width of the unit vectors of cells of 2 voxels."""
    middle: int = 128
    """Width of the unit vectors of cells of 4 voxels."""
    traits: int = 0
    """Numbers that come with every sentence beside its tokens, see `core.report.traits`."""
    structures: int = 0
    """Classes of an anatomy head on cells, background included; training only, 0 = none."""
    kinds: int = 0
    """Kinds of finding that a head tells on cells; training only, 0 = none."""

    def __post_init__(self) -> None:
        widths = (*self.widths, *self.rising, self.fine, self.middle)
        if min(widths) < 1 or min(self.traits, self.structures, self.kinds) < 0:
            raise ConfigError(f"Widths of the pyramid must be at least 1, traits and heads 0 or more, got {self}.")

    @property
    def embed(self) -> int:
        """Width of the vectors that sentences are compared with."""
        return self.fine + self.middle


class Descent(NamedTuple):
    """Features on the way down, (B, C, x, y, z) each."""

    fine: Tensor  # cells of 2 voxels
    middle: Tensor  # of 4
    coarse: Tensor  # of 8
    patches: Tensor  # of 16, as wide as the transformer


class Cells(NamedTuple):
    """What the pyramid says of a volume."""

    fine: Tensor  # (B, E1, x, y, z) cells of 2 voxels, not normalised
    middle: Tensor  # (B, E2, x/2, y/2, z/2) cells of 4 voxels, not normalised
    anatomy: Tensor | None  # (B, structures + kinds, x, y, z) logits; None without these heads


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of every cell: (B, C, x, y, z), no statistics over cells or studies."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, cells: Tensor) -> Tensor:
        return self.norm(cells.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class Residual(nn.Module):
    """x + conv(GELU(conv(norm(x)))), or with one convolution x + conv(GELU(norm(x)))."""

    def __init__(self, width: int, is_single: bool = False) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.first = None if is_single else nn.Conv3d(width, width, 3, padding=1)
        self.second = nn.Conv3d(width, width, 3, padding=1)
        nn.init.normal_(self.second.weight, std=0.3 / (27 * width) ** 0.5)  # near the identity at the start

    def forward(self, cells: Tensor) -> Tensor:
        inner = self.norm(cells)
        inner = inner if self.first is None else self.first(inner)
        return cells + self.second(F.gelu(inner))


def enlarge(cells: Tensor) -> Tensor:
    """Every cell twice along each axis: (B, C, x, y, z) -> (B, C, 2x, 2y, 2z)."""
    return F.interpolate(cells, scale_factor=2.0, mode="nearest")


class Pyramid(nn.Module):
    """`descend`, let the transformer look at `Descent.patches`, then `rise` with its tokens."""

    def __init__(self, config: PyramidConfig, channels: int, width: int) -> None:
        """channels: of the images; width: of the transformer's tokens."""
        super().__init__()
        first, second, third = config.widths
        fine, middle = config.rising
        self.stem = nn.Conv3d(channels * CELL**3, first, 3, padding=1)
        self.level1 = Residual(first, is_single=True)
        self.down2 = nn.Conv3d(first, second, 2, stride=2)
        self.level2 = Residual(second)
        self.down3 = nn.Conv3d(second, third, 2, stride=2)
        self.level3 = nn.Sequential(Residual(third), Residual(third))
        self.down4 = nn.Conv3d(third, width, 2, stride=2)
        self.from_tokens = nn.Conv3d(width, third, 1)
        self.rise3 = Residual(third)
        self.lift2, self.side2, self.rise2 = nn.Conv3d(third, middle, 1), nn.Conv3d(second, middle, 1), Residual(middle)
        self.lift1, self.side1 = nn.Conv3d(middle, fine, 1), nn.Conv3d(first, fine, 1)
        self.rise1 = Residual(fine, is_single=True)
        self.read_fine, self.read_middle = nn.Conv3d(fine, config.fine, 1), nn.Conv3d(middle, config.middle, 1)
        told = config.structures + config.kinds
        self.read_anatomy = nn.Conv3d(fine, told, 1) if told else None

    def descend(self, images: Tensor) -> Descent:
        """Images (B, C, X, Y, Z), sizes multiples of `COARSEST`, as features of growing cells."""
        packed = rearrange(images, "b c (x p) (y q) (z r) -> b (c p q r) x y z", p=CELL, q=CELL, r=CELL)
        fine = self.level1(F.gelu(self.stem(packed.contiguous(memory_format=torch.channels_last_3d))))
        middle = self.level2(self.down2(fine))
        coarse = self.level3(self.down3(middle))
        return Descent(fine, middle, coarse, self.down4(coarse))

    def rise(self, seen: Descent, tokens: Tensor) -> Cells:
        """Cells that know what the transformer knows; tokens (B, gx, gy, gz, D) of its patches."""
        context = self.from_tokens(rearrange(tokens, "b x y z d -> b d x y z"))
        coarse = self.rise3(seen.coarse + enlarge(context))
        middle = self.rise2(self.side2(seen.middle) + enlarge(self.lift2(coarse)))
        fine = self.rise1(self.side1(seen.fine) + enlarge(self.lift1(middle)))
        told = None if self.read_anatomy is None else self.read_anatomy(fine)
        return Cells(self.read_fine(fine), self.read_middle(middle), told)
