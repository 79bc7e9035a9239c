"""The volume encoders that ViSD-Boost can stand on: tokens of several levels, all of one width."""

from torch import Tensor, nn

from core.models.level_vit import LevelVisionConfig, LevelVisionTransformer3d
from core.models.resnet3d import ResNetTokens
from core.models.visd_config import VISDConfig
from core.models.vit import Size3


class VitTokens(nn.Module):
    """fVLM's ViT with a linear projection for each of its depths (spec 8)."""

    def __init__(self, config: LevelVisionConfig, width: int) -> None:
        """width: features of a token (D)."""
        super().__init__()
        self.vit = LevelVisionTransformer3d(config)
        self.projs = nn.ModuleList(nn.Linear(config.width, width) for _ in range(len(config.levels) + 1))

    @property
    def strides(self) -> list[Size3]:
        """The same patch on every level."""
        return [self.vit.vision.inner_patch] * len(self.projs)

    def turn(self, volumes: Tensor) -> Tensor:
        """Volumes (..., X, Y, Z) on the inner axes, and back."""
        return self.vit.vision.turn(volumes)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [project(level) for project, level in zip(self.projs, self.vit(images), strict=True)]

    def last_level(self, images: Tensor) -> Tensor:
        """Tokens of the last norm: (B, 1, X, Y, Z) -> (B, L, D)."""
        return self.projs[-1](self.vit(images)[-1])

    def encode_patches(self, images: Tensor) -> Tensor:
        """Tokens of the last norm before their projection: (B, 1, X, Y, Z) -> (B, gx, gy, gz, C)."""
        return self.vit.encode_patches(images)


LevelEncoder = ResNetTokens | VitTokens
"""Both give, for images (B, 1, X, Y, Z), tokens (B, L, D) of each level, row-major on their inner axes (`turn`)."""


def build_encoder(config: VISDConfig) -> LevelEncoder:
    """The encoder that a config names."""
    if config.backbone == "vit":
        return VitTokens(config.vit, config.token_width)
    return ResNetTokens(config.resnet, config.token_width)
