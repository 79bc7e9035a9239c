"""fVLM's volume encoder: a ViT without CLS token, with a learned position table, read out at several depths."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.vit import Block, PatchEmbed, Size3, initialise_linear, require_divides

AxisOrder = Literal["zyx", "xyz"]


@dataclass(frozen=True)
class LevelVisionConfig:
    """Sizes of the volume encoder; the defaults are fVLM's ViT-B."""

    image_size: Size3 = (352, 256, 112)
    """Voxels (x, y, z) of a training crop; the position table is for its patches."""
    patch_size: Size3 = (32, 16, 16)
    """Voxels (x, y, z) of one patch; must divide `image_size`."""
    axis_order: AxisOrder = "zyx"
    """How volumes lie inside, and with them kernels, table and tokens; published weights want zyx."""
    width: int = 768
    """Features per token (D)."""
    depth: int = 12
    """Transformer blocks."""
    heads: int = 12
    """Attention heads; must divide `width`."""
    mlp_width: int = 3072
    """Hidden width of a block's MLP."""
    dropout: float = 0.1
    """After the embedding, on attention weights, after attention and after both layers of the MLP."""
    norm_eps: float = 1e-5
    """Epsilon of every LayerNorm."""
    levels: tuple[int, ...] = (4, 7, 10)
    """Blocks, counted from 1, whose outputs are read beside the last one's."""

    def __post_init__(self) -> None:
        if any(n % p for n, p in zip(self.image_size, self.patch_size, strict=True)):
            raise ConfigError(f"patch_size {self.patch_size} must divide image_size {self.image_size}.")
        require_divides(self.heads, self.width)
        if list(self.levels) != sorted(set(self.levels)) or not all(0 < n <= self.depth for n in self.levels):
            raise ConfigError(f"levels is {self.levels}; expected ascending block numbers from 1 to {self.depth}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; expected [0, 1).")

    @property
    def inner_patch(self) -> Size3:
        """Voxels of one patch on the axes inside the encoder."""
        return self.turn_size(self.patch_size)

    @property
    def inner_grid(self) -> Size3:
        """Patches of a training crop on the axes inside the encoder."""
        x, y, z = (n // p for n, p in zip(self.image_size, self.patch_size, strict=True))
        return self.turn_size((x, y, z))

    def turn_size(self, size: Size3) -> Size3:
        """Three sizes (x, y, z) on the inner axes; and back, since the turn is its own inverse."""
        x, y, z = size
        return (z, y, x) if self.axis_order == "zyx" else size

    def turn(self, volumes: Tensor) -> Tensor:
        """Volumes (..., X, Y, Z) on the inner axes, and back."""
        return rearrange(volumes, "... x y z -> ... z y x") if self.axis_order == "zyx" else volumes


class LevelVisionTransformer3d(nn.Module):
    """Patch tokens of a volume after some of its blocks and after the last norm (fVLM spec 4.1)."""

    def __init__(self, vision: LevelVisionConfig) -> None:
        super().__init__()
        self.vision = vision
        self.patch_embed = PatchEmbed(vision.inner_patch, vision.width)
        places = vision.inner_grid[0] * vision.inner_grid[1] * vision.inner_grid[2]
        self.pos_embed = nn.Parameter(torch.zeros(1, places, vision.width))
        self.blocks = nn.ModuleList(
            Block(vision.width, vision.heads, vision.mlp_width / vision.width, vision.norm_eps, vision.dropout)
            for _ in range(vision.depth)
        )
        self.norm = nn.LayerNorm(vision.width, eps=vision.norm_eps)
        self.blocks.apply(initialise_linear)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def embed_patches(self, images: Tensor) -> Tensor:
        """Patch embedding plus position table, before any block: (B, 1, X, Y, Z) -> (B, L, D) on the inner axes."""
        patches = self.patch_embed(self.vision.turn(images))
        i, j, k = patches.shape[2:]
        tokens = rearrange(patches, "b d i j k -> b (i j k) d") + resize_table(
            self.pos_embed, self.vision.inner_grid, (i, j, k)
        )
        return F.dropout(tokens, self.vision.dropout, self.training)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Tokens (B, L, D) after each block of `levels`, then of the last norm; L row-major on the inner axes.

        images (B, 1, X, Y, Z), each axis a multiple of the patch.
        """
        _require_whole_patches(images, self.vision.patch_size)
        tokens, levels = self.embed_patches(images), []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in self.vision.levels:
                levels.append(tokens)
        return [*levels, self.norm(tokens)]

    def encode_patches(self, images: Tensor) -> Tensor:
        """Patch tokens after the last norm: (B, 1, X, Y, Z) -> (B, gx, gy, gz, D)."""
        x, y, z = (n // p for n, p in zip(images.shape[2:], self.vision.patch_size, strict=True))
        i, j, k = self.vision.turn_size((x, y, z))
        inner = rearrange(self(images)[-1], "b (i j k) d -> b d i j k", i=i, j=j, k=k)
        return rearrange(self.vision.turn(inner), "b d x y z -> b x y z d")


def resize_table(table: Tensor, grid: Size3, wanted: Size3) -> Tensor:
    """A position table (1, L, D) of a grid, interpolated trilinearly for another one; unchanged for the same."""
    if tuple(grid) == tuple(wanted):
        return table
    i, j, k = grid
    volume = rearrange(table, "1 (i j k) d -> 1 d i j k", i=i, j=j, k=k)
    resized = F.interpolate(volume, size=wanted, mode="trilinear", align_corners=False)
    return rearrange(resized, "1 d i j k -> 1 (i j k) d")


def inflate_table(table: Tensor, grid: Size3) -> Tensor:
    """A flat picture's table as a volume's: (1, 1 + n*n, D) with CLS -> (1, i*j*k, D), equal on all i planes.

    How fVLM starts from ImageNet: the n x n table is interpolated bilinearly to j x k and repeated (spec 4.1).
    """
    side = round((table.shape[1] - 1) ** 0.5)
    i, j, k = grid
    plane = rearrange(table[:, 1:], "1 (h w) d -> 1 d h w", h=side)
    resized = F.interpolate(plane, size=(j, k), mode="bilinear", align_corners=False)
    return rearrange(resized, "1 d j k -> 1 (j k) d").repeat(1, i, 1)


def _require_whole_patches(images: Tensor, patch: Size3) -> None:
    if images.ndim != 5 or any(n % p for n, p in zip(images.shape[2:], patch, strict=True)):
        raise ConfigError(
            f"Images have shape {tuple(images.shape)}; expected (B, 1, X, Y, Z) with axes that are multiples of "
            f"{patch}. Pad them with air first."
        )
