"""An encoder without what it was pre-trained with: tokens of a volume after any of its blocks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from core.errors import ConfigError
from core.models.ecamp import ECAMP
from core.models.level_vit import LevelVisionConfig, LevelVisionTransformer3d
from core.models.resnet3d import LEVEL_STRIDES, ResNet3d, ResNetConfig, ResNetTokens
from core.models.super_resolution import shrink_images
from core.models.visd import VISD
from core.models.vit import Size3, VisionConfig, VisionTransformer3d

SKIPS_OF_12 = (4, 7, 10)
"""Blocks, counted from 1, whose outputs a segmenter on a 12-block encoder reads (ASAP spec 6.3)."""


@dataclass(frozen=True)
class ResNetSizes:
    """ViSD-Boost's 3-D ResNet and the crop it was trained on; its coarsest map stands for patch tokens."""

    image_size: Size3
    """Voxels (x, y, z) of the crop."""
    resnet: ResNetConfig = field(default_factory=ResNetConfig)
    """Its sizes."""

    @property
    def patch_size(self) -> Size3:
        """Voxels (x, y, z) that one place of the coarsest map stands for."""
        z, y, x = LEVEL_STRIDES[-1]
        return x, y, z

    @property
    def width(self) -> int:
        """Channels of the coarsest map."""
        return self.resnet.widths[-1]

    @property
    def depth(self) -> int:
        """The coarsest map is what its only "block" gives."""
        return 1


@dataclass(frozen=True)
class BackboneConfig:
    """Which encoder, at which sizes; exactly one of `vit`, `level_vit` and `resnet`."""

    vit: VisionConfig | None = None
    """ASAP's, ASG's, ECAMP's and MAE's."""
    level_vit: LevelVisionConfig | None = None
    """fVLM's, and ViSD-Boost's where it has that one."""
    resnet: ResNetSizes | None = None
    """ViSD-Boost's published one; it has no blocks, so that it classifies but does not segment."""
    shrink: Size3 = (1, 1, 1)
    """Voxels (x, y, z) that are averaged before the encoder reads them (ECAMP)."""
    reversed_axes: tuple[int, ...] = ()
    """Axes that the encoder was trained on in the other direction, such as (0, 1) for files stored LPS."""

    def __post_init__(self) -> None:
        if [self.vit, self.level_vit, self.resnet].count(None) != 2:
            raise ConfigError("A backbone has one encoder; give one of vit, level_vit and resnet.")
        if min(self.shrink) < 1 or not set(self.reversed_axes) <= {0, 1, 2}:
            raise ConfigError("shrink must be at least 1 per axis, reversed_axes some of 0, 1, 2.")

    @property
    def sizes(self) -> VisionConfig | LevelVisionConfig | ResNetSizes:
        """Sizes of the encoder itself."""
        found = self.vit or self.level_vit or self.resnet
        assert found is not None
        return found

    @property
    def image_size(self) -> Size3:
        """Voxels (x, y, z) of the crop it was trained on."""
        return self._widen(self.sizes.image_size)

    @property
    def patch_size(self) -> Size3:
        """Voxels (x, y, z) of the image in one patch."""
        return self._widen(self.sizes.patch_size)

    @property
    def skips(self) -> tuple[int, int, int]:
        """Blocks, counted from 1, in the places of 4, 7 and 10 of 12."""
        first, second, third = (max(1, round(self.sizes.depth * block / 12)) for block in SKIPS_OF_12)
        return first, second, third

    def _widen(self, size: Size3) -> Size3:
        x, y, z = (n * factor for n, factor in zip(size, self.shrink, strict=True))
        return x, y, z


class Tokens(NamedTuple):
    """The residual stream after a block."""

    patches: Tensor  # (B, gx, gy, gz, D), axes towards R, A, S
    cls: Tensor | None  # (B, D); None for encoders without


class Backbone(nn.Module):
    """One encoder behind one interface; images (B, 1, X, Y, Z), each axis a multiple of the patch."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: VisionTransformer3d | LevelVisionTransformer3d | ResNet3d
        if config.vit is not None:
            self.encoder = VisionTransformer3d(config.vit)
        elif config.level_vit is not None:
            self.encoder = LevelVisionTransformer3d(config.level_vit)
        elif config.resnet is not None:
            self.encoder = ResNet3d(config.resnet.resnet)

    @property
    def norm(self) -> nn.Module:
        """What follows the last block."""
        return nn.Identity() if isinstance(self.encoder, ResNet3d) else self.encoder.norm

    def read_out(self, images: Tensor, blocks: Sequence[int]) -> list[Tokens]:
        """Tokens after each of `blocks`, counted from 1 and ascending, before any norm."""
        self._require_whole_patches(images)
        config = self.config
        flips = [2 + axis for axis in config.reversed_axes]
        images = images.flip(flips) if flips else images
        images = shrink_images(images, config.shrink, "mean") if max(config.shrink) > 1 else images
        if isinstance(self.encoder, ResNet3d):
            coarsest = self.encoder(rearrange(images, "b c x y z -> b c z y x"))[-1]
            patches = rearrange(coarsest, "b d z y x -> b x y z d")
            return [Tokens(self._turn_back(patches), None) for _ in blocks]
        tokens, read, grid = self._embed(images), list[Tokens](), self._inner_grid(images)
        for number, block in enumerate(self.encoder.blocks, start=1):
            tokens = block(tokens)
            read += [self._sort(tokens, grid) for wanted in blocks if wanted == number]
        return read

    def last_tokens(self, images: Tensor, with_norm: bool = False) -> Tokens:
        """Tokens after the last block, or after the norm that follows it."""
        (last,) = self.read_out(images, [self.config.sizes.depth])
        if not with_norm:
            return last
        return Tokens(self.norm(last.patches), None if last.cls is None else self.norm(last.cls))

    def _embed(self, images: Tensor) -> Tensor:
        """Tokens before the first block, CLS first where there is one."""
        assert not isinstance(self.encoder, ResNet3d)
        patches = self.encoder.embed_patches(images)
        if isinstance(self.encoder, LevelVisionTransformer3d):
            return patches
        cls = (self.encoder.cls_token + self.encoder.pos_embed[:, :1]).expand(len(patches), -1, -1)
        return torch.cat([cls, patches], dim=1)

    def _inner_grid(self, images: Tensor) -> Size3:
        x, y, z = (n // p for n, p in zip(images.shape[2:], self.config.sizes.patch_size, strict=True))
        return x, y, z

    def _sort(self, tokens: Tensor, grid: Size3) -> Tokens:
        """The encoder's row of tokens as a map towards R, A, S."""
        (x, y, z), cls = grid, None
        if isinstance(self.encoder, LevelVisionTransformer3d):
            i, j, k = self.encoder.vision.turn_size(grid)
            inner = rearrange(tokens, "b (i j k) d -> b d i j k", i=i, j=j, k=k)
            patches = rearrange(self.encoder.vision.turn(inner), "b d x y z -> b x y z d")
        else:
            cls = tokens[:, 0]
            patches = rearrange(tokens[:, 1:], "b (x y z) d -> b x y z d", x=x, y=y, z=z)
        return Tokens(self._turn_back(patches), cls)

    def _turn_back(self, patches: Tensor) -> Tensor:
        """A map (B, gx, gy, gz, D) of an image that was reversed, towards R, A, S."""
        flips = [1 + axis for axis in self.config.reversed_axes]
        return patches.flip(flips) if flips else patches

    def _require_whole_patches(self, images: Tensor) -> None:
        patch = self.config.patch_size
        if any(n % p or n < p for n, p in zip(images.shape[2:], patch, strict=True)):
            raise ConfigError(
                f"The image has {tuple(images.shape[2:])} voxels, which is no whole number of patches of {patch}. "
                "Choose a multiple along each axis."
            )


class FoundEncoder(NamedTuple):
    """Where a pre-training model keeps its encoder."""

    start: str  # what stands before the names of the encoder's weights
    config: BackboneConfig


def find_encoder(model: nn.Module) -> FoundEncoder:
    """The first encoder of volumes in a model, which may be on the meta device; ConfigError where there is none."""
    shrink = model.config.sr.scale if isinstance(model, ECAMP) and model.config.sr.mode == "down" else (1, 1, 1)
    for name, module in model.named_modules():
        start = f"{name}." if name else ""
        if isinstance(module, VisionTransformer3d):
            return FoundEncoder(start, BackboneConfig(vit=module.vision, shrink=shrink))
        if isinstance(module, LevelVisionTransformer3d):
            return FoundEncoder(start, BackboneConfig(level_vit=module.vision, shrink=shrink))
        if isinstance(module, ResNetTokens) and isinstance(model, VISD):
            sizes = ResNetSizes(model.config.image_size, model.config.resnet)
            return FoundEncoder(f"{start}res_model.", BackboneConfig(resnet=sizes))
    raise ConfigError(f"{type(model).__name__} has no encoder of volumes that can be fine-tuned here.")
