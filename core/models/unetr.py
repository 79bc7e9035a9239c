"""UNETR: a convolutional decoder on a ViT's tokens, from MONAI's blocks (ASAP spec 6.3; arXiv 2103.10504)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError, EngineError
from core.models.backbone import Backbone, BackboneConfig
from core.models.vit import Size3

SMOOTH = 1e-6
"""Added to the denominator of the Dice loss."""


@dataclass(frozen=True)
class SegmenterConfig:
    """A whole segmenter."""

    backbone: BackboneConfig
    """Its encoder."""
    classes: tuple[str, ...]
    """Name of each output, background first."""
    roi: Size3 = (96, 96, 48)
    """Voxels (x, y, z) that it sees at a time; multiples of the patch."""
    channels: int = 16
    """Of the finest maps; coarser ones have 2, 4 and 8 times as many."""

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ConfigError(f"A segmenter needs background and at least one other class, got {self.classes}.")
        if self.backbone.resnet is not None:
            raise ConfigError(
                "UNETR reads a ViT's blocks, and this encoder is a ResNet. Choose a run whose encoder is a ViT."
            )
        if any(n % p or n < p for n, p in zip(self.roi, self.backbone.patch_size, strict=True)):
            raise ConfigError(f"roi is {self.roi}; expected multiples of the patch {self.backbone.patch_size}.")
        if self.channels < 1:
            raise ConfigError(f"channels is {self.channels}; expected at least 1.")


class Segmenter3d(nn.Module):
    """Encoder and decoder. A batch has `image` (B, 1, X, Y, Z) and `voxel_class` (B, X, Y, Z) uint8."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone)
        try:
            from monai.networks.blocks.dynunet_block import UnetOutBlock  # slow to import, and optional
            from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
        except ImportError as error:
            raise EngineError(
                "Segmenters are built from MONAI's blocks, which are not installed. Run: pip install -r "
                "requirements-finetune.txt"
            ) from error
        width, c = config.backbone.sizes.width, config.channels
        plain: dict[str, Any] = {"kernel_size": 3, "norm_name": "instance", "res_block": True}
        grow: dict[str, Any] = {"stride": 1, "upsample_kernel_size": 2, "conv_block": True}
        self.input_branch = UnetrBasicBlock(3, 1, c, stride=1, **plain)
        self.branches = nn.ModuleList(
            UnetrPrUpBlock(3, width, (2 << level) * c, num_layer=2 - level, **plain, **grow) for level in range(3)
        )  # after the skips' blocks, each growing to 8, 4 and 2 times the grid of patches
        joined = zip((width, 8 * c, 4 * c), (8 * c, 4 * c, 2 * c), strict=True)
        self.stages = nn.ModuleList(UnetrUpBlock(3, n, m, upsample_kernel_size=2, **plain) for n, m in joined)
        self.to_finest = nn.Conv3d(2 * c, c, 3, padding=1)
        self.finest = UnetrBasicBlock(3, 2 * c, c, stride=1, **plain)
        self.out = UnetOutBlock(3, c, len(config.classes))

    def segment(self, images: Tensor) -> Tensor:
        """Logits: (B, 1, X, Y, Z) -> (B, C, X, Y, Z)."""
        backbone = self.backbone
        skips = self.config.backbone.skips
        *hidden, last = backbone.read_out(images, [*skips, self.config.backbone.sizes.depth])
        grown = [
            branch(rearrange(tokens.patches, "b x y z d -> b d x y z"))
            for branch, tokens in zip(self.branches, hidden, strict=True)
        ]
        features = rearrange(backbone.norm(last.patches), "b x y z d -> b d x y z")
        for stage, skip in zip(self.stages, reversed(grown), strict=True):
            features = stage(features, skip)
        size = (images.shape[2], images.shape[3], images.shape[4])
        features = self.to_finest(F.interpolate(features, size=size, mode="trilinear", align_corners=False))
        return self.out(self.finest(torch.cat([features, self.input_branch(images)], dim=1)))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Both losses and their sum "total"."""
        logits, labels = self.segment(batch["image"]).float(), batch["voxel_class"].long()
        dice, ce = dice_loss(logits, labels), F.cross_entropy(logits, labels)
        return {"dice": dice, "cross_entropy": ce, "total": dice + ce}


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - soft Dice of softmax and labels, mean over studies and classes, background included (spec 6.3).

    logits (B, C, X, Y, Z), labels (B, X, Y, Z) int64. Per study and class 2 sum(p t) / (sum(p^2) + sum(t^2) + 1e-6).
    """
    shares = logits.softmax(dim=1)
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(shares.dtype)
    overlap = reduce(shares * truth, "b c x y z -> b c", "sum")
    sizes = reduce(shares.square() + truth, "b c x y z -> b c", "sum")
    return (1 - 2 * overlap / (sizes + SMOOTH)).mean()
