"""Every size and switch of ViSD-Boost, and its named presets."""

from dataclasses import dataclass, field, replace
from typing import Literal

from core.errors import ConfigError
from core.models.bert import BertConfig
from core.models.codebook import CodebookConfig
from core.models.contrast import GatherMode, TemperatureConfig
from core.models.level_vit import LevelVisionConfig
from core.models.normality_vq import NormalityConfig
from core.models.resnet3d import LEVEL_STRIDES, ResNetConfig
from core.models.vit import Size3, require_divides


@dataclass(frozen=True)
class VISDConfig:
    """The whole model; defaults are the published sizes with the published behaviour mended."""

    organs: tuple[str, ...] = ("lung", "heart", "esophagus", "aorta")
    """Names of the organs 1, 2, ... of the masks."""
    image_size: Size3 = (352, 256, 112)
    """Voxels (x, y, z) of a training crop."""
    backbone: Literal["resnet", "vit"] = "resnet"
    """Which volume encoder: the published 3-D ResNet, or fVLM's ViT read at four depths."""
    resnet: ResNetConfig = field(default_factory=ResNetConfig)
    """The 3-D ResNet."""
    vit: LevelVisionConfig = field(default_factory=LevelVisionConfig)
    """The ViT."""
    token_width: int = 256
    """Features of a token after its level's projection (D)."""
    text: BertConfig = BertConfig(token_types=False)
    """Text encoder."""
    normality: NormalityConfig = field(default_factory=NormalityConfig)
    """VQ-VAE of normal anatomy."""
    embed: int = 256
    """Width of the space that organs and texts share (E)."""
    pool_heads: int = 4
    """Heads of the query attention."""
    pool_dropout: float = 0.1
    """Dropout on the query attention's weights."""
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)
    """Of both contrasts."""
    momentum: float = 0.995
    """How much of itself the teacher of stage 1 keeps at each step."""
    queue: int = 0
    """Stage 1: studies of earlier steps whose organs, as the teacher saw them, are compared with as well; 0 = none."""
    states: Literal["impression", "file"] = "impression"
    """Which organs are abnormal: those that the impression mentions, or what organ_state.json says, as in the paper."""
    gather: GatherMode = "full_grad"
    """How samples of other processes take part; released: local_grad, as in fVLM."""
    normal_targets: bool = True
    """Stage 3: normal organs of different studies are positives of each other, as in fVLM; False = one-hot."""
    texts_once: bool = True
    """Stage 3: read equal texts of a batch once; the same maths, but they share the dropout's noise."""
    gradient_through_normal: bool = False
    """Stage 3: whether the tokens also train through their normal version (its own weights stay frozen)."""

    def __post_init__(self) -> None:
        require_divides(self.pool_heads, self.token_width)
        if not self.organs or len(set(self.organs)) < len(self.organs):
            raise ConfigError(f"organs is {self.organs}; expected at least one name, each once.")
        if self.backbone == "vit" and self.vit.image_size != self.image_size:
            raise ConfigError(f"The ViT is for crops of {self.vit.image_size}, image_size is {self.image_size}.")
        if not 0 <= self.momentum < 1 or self.queue < 0:
            raise ConfigError(f"momentum is {self.momentum}, queue {self.queue}; expected [0, 1) and 0 or more.")

    @property
    def patch_size(self) -> Size3:
        """Voxels (x, y, z) of a token of the last level."""
        return self.vit.patch_size if self.backbone == "vit" else LEVEL_STRIDES[-1][::-1]


RESEEDED = CodebookConfig(reseed_below=0.01)
"""Codes that are chosen by fewer than one token in a hundred steps are put on tokens of the batch."""


def released() -> VISDConfig:
    """The published code, as far as it goes; its weights load. What trains them is reconstructed (spec 4)."""
    return VISDConfig(
        resnet=ResNetConfig(norm="batch", detach_shortcut=True),
        normality=NormalityConfig(codebook=CodebookConfig(unused="zero")),
        gather="local_grad",
        texts_once=False,
    )


def paper() -> VISDConfig:
    """As the paper's notes tell it: each anatomy has its own codes, no data variance, one-hot alignment."""
    return replace(
        released(),
        resnet=ResNetConfig(norm="batch"),
        normality=NormalityConfig(data_variance=1.0, codebook=CodebookConfig(own_block=True)),
        normal_targets=False,
        states="file",
    )


def mended() -> VISDConfig:
    """The published sizes, with codes that cannot all die, and gradients through shortcuts and processes."""
    return VISDConfig(normality=NormalityConfig(codebook=RESEEDED))


def vit() -> VISDConfig:
    """`mended` on fVLM's ViT-B: one grid for all levels, and 5 thousand tokens a study in place of 360 thousand."""
    return replace(mended(), backbone="vit")


def tiny(vocab_size: int) -> VISDConfig:
    """A few seconds of CPU training: 64x64x32 voxels, 8 tokens on the coarsest level."""
    return VISDConfig(
        image_size=(64, 64, 32),
        resnet=ResNetConfig((4, 8, 12, 16), (1, 1, 1, 1)),
        token_width=16,
        text=BertConfig(
            vocab_size, width=32, depth=1, heads=4, mlp_width=64, positions=64, dropout=0.0, attention_dropout=0.0
        ),
        normality=NormalityConfig(
            hidden=32,
            code_width=32,
            heads=2,
            head_width=16,
            mlp_width=64,
            dropout=0.0,
            codebook=CodebookConfig(8, decay=0.9, reseed_below=0.02),
        ),
        embed=16,
        pool_dropout=0.0,
    )


def tiny_vit(vocab_size: int) -> VISDConfig:
    """`tiny` on a ViT of 64 tokens."""
    size = LevelVisionConfig(
        (64, 64, 32), (16, 16, 8), width=32, depth=3, heads=4, mlp_width=64, dropout=0.0, levels=(1, 2)
    )
    return replace(tiny(vocab_size), backbone="vit", vit=size)
