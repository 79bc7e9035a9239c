"""A vision transformer over volumes; parameter names are timm's, so published weights load by name."""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.linear import Linear, linear_of_norm

Size3 = tuple[int, int, int]


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the volume encoder; the defaults are ASAP's ViT-B."""

    image_size: Size3 = (224, 224, 112)
    """Voxels (x, y, z) of the crop the model is trained on."""
    patch_size: Size3 = (16, 16, 8)
    """Voxels (x, y, z) of one patch; must divide `image_size`."""
    width: int = 768
    """Features per token (D)."""
    depth: int = 12
    """Transformer blocks."""
    heads: int = 12
    """Attention heads; must divide `width`."""
    mlp_ratio: int = 4
    """Hidden width of a block's MLP, in multiples of `width`."""
    norm_eps: float = 1e-6
    """Epsilon of every LayerNorm."""
    channels: int = 1
    """Values per voxel. A flat picture is a volume one voxel deep: sizes (x, y, 1)."""
    coded_axes: tuple[int, ...] = (0, 1, 2)
    """Order in which axes enter the position code; (1, 0) is MAE's code of flat pictures."""
    slow_positions: bool = False
    """ECAMP's defect: frequencies 10000^(-k/width), so that neighbouring patches have nearly the same code."""
    learned_positions: bool = False
    """A trained code for every patch of `image_size` in place of the fixed one; it starts as the fixed one."""
    windows: tuple[tuple[float, float], ...] = ()
    """Ranges of an image's values, each stretched to [-1, 1] as a channel of its own; () = the image as it comes."""

    def __post_init__(self) -> None:
        if any(n % p for n, p in zip(self.image_size, self.patch_size, strict=True)):
            raise ConfigError(f"patch_size {self.patch_size} must divide image_size {self.image_size}.")
        require_divides(self.heads, self.width)
        if self.channels < 1 or not set(self.coded_axes) <= {0, 1, 2} or not self.coded_axes:
            raise ConfigError(f"channels must be at least 1 and coded_axes some of 0, 1, 2, got {self}.")
        if self.windows and (len(self.windows) != self.channels or any(low >= high for low, high in self.windows)):
            raise ConfigError(
                f"windows is {self.windows}; expected a rising range for each of {self.channels} channels."
            )
        if self.width < 2 * len(self.coded_axes):
            raise ConfigError(f"width is {self.width}; the position code needs at least {2 * len(self.coded_axes)}.")

    @property
    def grid(self) -> Size3:
        """Patches (x, y, z) of the crop."""
        x, y, z = (n // p for n, p in zip(self.image_size, self.patch_size, strict=True))
        return x, y, z

    @property
    def patches(self) -> int:
        """L, the number of patches of the crop."""
        x, y, z = self.grid
        return x * y * z

    @property
    def patch_voxels(self) -> int:
        """P, the values of one patch: voxels times channels."""
        x, y, z = self.patch_size
        return x * y * z * self.channels

    def code_positions(self, grid: Size3, width: int) -> Tensor:
        """`position_code` of a patch grid as this config wants it: (1, 1 + gx*gy*gz, width)."""
        return position_code(grid, width, self.coded_axes, self.slow_positions)


def require_divides(heads: int, width: int) -> None:
    """Refuse a width that its attention heads cannot share."""
    if heads < 1 or width % heads:
        raise ConfigError(f"width {width} is not a multiple of {heads} attention heads; change one of them.")


def position_code(grid: Size3, width: int, axes: tuple[int, ...] = (0, 1, 2), slow: bool = False) -> Tensor:
    """Fixed sine-cosine code of a patch grid with a zero row for CLS: (1, 1 + gx*gy*gz, width) float32.

    For each of the A `axes` in turn sin(p*omega_k), cos(p*omega_k), omega_k = 10000^(-k/n), k < n = width // 2A (ASAP
    spec 2.2; MAE). slow: 10000^(-k/width) instead (ECAMP as released). What 2A does not divide is filled with zeros.
    """
    count = width // (2 * len(axes))
    omega = 10000.0 ** (-torch.arange(count, dtype=torch.float64) / (width if slow else count))
    places = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [places[axis].flatten()[:, None] * omega for axis in axes]  # A times (L, n)
    code = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return F.pad(code, (0, width - code.shape[1], 1, 0))[None].float()


def take_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Rows of each sample: tokens (B, L, D), index (B, V) -> (B, V, D)."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))


class PatchEmbed(nn.Module):
    """One strided convolution: (B, C, X, Y, Z) -> (B, D, gx, gy, gz)."""

    def __init__(self, patch: Size3, width: int, channels: int = 1) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, width, kernel_size=patch, stride=patch)
        nn.init.xavier_uniform_(self.proj.weight.view(width, -1))

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images)

    def embed(self, patches: Tensor) -> Tensor:
        """The same for patches that are cut out already: (B, V, px*py*pz*C), channels innermost -> (B, V, D)."""
        kernel = rearrange(self.proj.weight, "d c px py pz -> d (px py pz c)")
        return F.linear(patches, kernel, self.proj.bias)


class Attention(nn.Module):
    """Multi-head self-attention of norm(tokens), dropout on its weights and its output: (B, N, D) -> (B, N, D).

    With `asked` (B, Q, D) those tokens look at `tokens`: -> (B, Q, D).
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, tokens: Tensor, norm: nn.LayerNorm, asked: Tensor | None = None) -> Tensor:
        if asked is None:
            qkv = self.qkv.of_norm(tokens, norm)
            q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=self.heads)
        else:
            q, k, v = self._ask(asked, tokens, norm)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        projected = self.proj(rearrange(mixed, "b h n d -> b n (h d)"))
        return F.dropout(projected, self.dropout, self.training)

    def _ask(self, asked: Tensor, tokens: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the asked, keys and values of all tokens: each (B, H, N, d)."""
        weight, bias, width = self.qkv.weight, self.qkv.bias, asked.shape[-1]
        queries = linear_of_norm(asked, norm, weight[:width], bias[:width])
        both = linear_of_norm(tokens, norm, weight[width:], bias[width:])
        k, v = rearrange(both, "b n (two h d) -> two b h n d", two=2, h=self.heads)
        return rearrange(queries, "b n (h d) -> b h n d", h=self.heads), k, v


class Mlp(nn.Module):
    """Two linear layers around a GELU, of norm(tokens), dropout after both: (..., D) -> (..., D)."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1, self.fc2, self.dropout = Linear(width, hidden), Linear(hidden, width), dropout

    def forward(self, tokens: Tensor, norm: nn.LayerNorm) -> Tensor:
        hidden = self.fc1.of_norm(tokens, norm)
        if not (self.dropout and self.training):
            return self.fc2.of_gelu(hidden)
        mixed = self.fc2(F.dropout(F.gelu(hidden), self.dropout))
        return F.dropout(mixed, self.dropout)


class Block(nn.Module):
    """Pre-norm transformer block: (B, N, D) -> (B, N, D).

    With `places` (B, Q) int64 only these tokens come out, the same as otherwise: -> (B, Q, D).
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, eps: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn, self.mlp = Attention(width, heads, dropout), Mlp(width, round(mlp_ratio * width), dropout)

    def forward(self, tokens: Tensor, places: Tensor | None = None) -> Tensor:
        asked = None if places is None else take_tokens(tokens, places)
        tokens = (tokens if asked is None else asked) + self.attn(tokens, self.norm1, asked)
        return tokens + self.mlp(tokens, self.norm2)


def initialise_linear(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for a linear layer, as MAE does; other modules are left alone."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


class VisionTransformer3d(nn.Module):
    """Volume encoder with a CLS token and a fixed position code; images (B, 1, X, Y, Z) in [-1, 1]."""

    pos_embed: Tensor

    def __init__(self, vision: VisionConfig) -> None:
        super().__init__()
        self.vision = vision
        self.patch_embed = PatchEmbed(vision.patch_size, vision.width, vision.channels)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, vision.width))
        code = vision.code_positions(vision.grid, vision.width)
        if vision.learned_positions:
            self.pos_embed = nn.Parameter(code)
        else:
            self.register_buffer("pos_embed", code)
        self.blocks = nn.ModuleList(
            Block(vision.width, vision.heads, vision.mlp_ratio, vision.norm_eps) for _ in range(vision.depth)
        )
        self.norm = nn.LayerNorm(vision.width, eps=vision.norm_eps)
        self.blocks.apply(initialise_linear)
        nn.init.normal_(self.cls_token, std=0.02)

    def split(self, images: Tensor) -> Tensor:
        """Images (B, 1, X, Y, Z) as one channel per window, (B, C, X, Y, Z); those that are split stay as they are."""
        if not self.vision.windows or images.shape[1] == self.vision.channels > 1:
            return images
        shown = [(images - low) * (2 / (high - low)) - 1 for low, high in self.vision.windows]
        return torch.cat(shown, dim=1).clamp(-1.0, 1.0)

    def embed_patches(self, images: Tensor) -> Tensor:
        """Patch embedding plus position code, before any block: (B, 1, X, Y, Z) -> (B, L, D), x-major."""
        patches = self.patch_embed(self.split(images))
        return rearrange(patches, "b d x y z -> b (x y z) d") + self._positions(patches.shape[2:])[:, 1:]

    def run_blocks(self, patches: Tensor) -> Tensor:
        """CLS and patch tokens through all blocks, before the last norm: (B, V, D) -> (B, 1 + V, D)."""
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(patches), -1, -1)
        tokens = torch.cat([cls, patches], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def encode_patches(self, images: Tensor) -> Tensor:
        """Unmasked patch tokens after the last norm: (B, 1, X, Y, Z) -> (B, gx, gy, gz, D)."""
        tokens = self.norm(self.run_blocks(self.embed_patches(images)))[:, 1:]
        x, y, _ = (n // p for n, p in zip(images.shape[2:], self.vision.patch_size, strict=True))
        return rearrange(tokens, "b (x y z) d -> b x y z d", x=x, y=y)

    def _positions(self, grid: tuple[int, ...]) -> Tensor:
        """The stored code, or for a crop of another size the same formula on its grid."""
        if tuple(grid) == self.vision.grid:
            return self.pos_embed
        if self.vision.learned_positions:
            raise ConfigError(
                f"The image has {tuple(grid)} patches, the learned positions are for {self.vision.grid}. "
                f"Cut it to {self.vision.image_size} voxels."
            )
        x, y, z = grid
        return self.vision.code_positions((x, y, z), self.vision.width).to(self.pos_embed)
