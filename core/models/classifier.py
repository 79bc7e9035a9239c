"""A classifier on an encoder: pooled tokens, a norm, one linear layer (ASAP spec 6.1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.backbone import Backbone, BackboneConfig, Tokens

NORM_EPS = 1e-6
"""Of the released probe's LayerNorm."""
Pool = Literal["mean", "cls", "mean_and_cls"]


@dataclass(frozen=True)
class HeadConfig:
    """What stands between tokens and logits."""

    pool: Pool = "mean"
    """Mean of the patch tokens, the CLS token, or both one after the other."""
    encoder_norm: bool = False
    """Read the tokens after the encoder's last norm instead of before it."""
    norm: Literal["standard", "layer", "none"] = "standard"
    """Each feature by its mean and spread over the training studies; LayerNorm without weights (released); nothing."""
    init_std: float = 0.0
    """Spread of the linear layer's first weights, cut off at two of it; biases start at 0."""
    dropout: float = 0.0
    """On the features, while training."""

    def __post_init__(self) -> None:
        if self.init_std < 0 or not 0 <= self.dropout < 1:
            raise ConfigError("head.init_std must not be negative, head.dropout lie in [0, 1).")


RELEASED_HEAD = HeadConfig(norm="layer", init_std=2e-5)
"""The published linear probe."""


@dataclass(frozen=True)
class ClassifierConfig:
    """A whole classifier."""

    backbone: BackboneConfig
    """Its encoder."""
    classes: tuple[str, ...]
    """Name of each logit."""
    exclusive: bool = False
    """True = exactly one class is right (softmax); False = each is there or not (sigmoid)."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """Pooling, norm, first weights."""

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ConfigError(f"A classifier needs classes of different names, got {self.classes}.")
        if self.exclusive and len(self.classes) < 2:
            raise ConfigError("One of one class is always right; give at least two, or exclusive=False.")

    @property
    def features(self) -> int:
        """Numbers that the linear layer reads."""
        return self.backbone.sizes.width * (2 if self.head.pool == "mean_and_cls" else 1)


def pool_tokens(tokens: Tokens, pool: Pool) -> Tensor:
    """Tokens of a study as one vector: (B, D), for mean_and_cls (B, 2 D). ConfigError where CLS is asked and none is.

    Patches are added up in float32 even where they come in half precision.
    """
    parts = []
    if pool != "cls":
        parts.append(reduce(tokens.patches.float(), "b x y z d -> b d", "mean"))
    if pool != "mean":
        if tokens.cls is None:
            raise ConfigError(f"This encoder has no CLS token, which head.pool={pool} reads. Use mean.")
        parts.append(tokens.cls.float())
    return torch.cat(parts, dim=-1)


class ClassifierHead(nn.Module):
    """Pooled features (B, F) -> logits (B, C)."""

    feature_mean: Tensor
    feature_spread: Tensor

    def __init__(self, features: int, classes: int, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_spread", torch.ones(features))
        self.linear = nn.Linear(features, classes)
        if config.init_std > 0:
            std = config.init_std
            nn.init.trunc_normal_(self.linear.weight, std=std, a=-2 * std, b=2 * std)
        else:
            nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def fit_features(self, features: Tensor) -> None:
        """Take mean and spread from the training studies' features (N, F); features that never vary are left alone."""
        if self.config.norm == "standard":
            spread = features.float().std(dim=0, correction=0)
            self.feature_mean.copy_(features.float().mean(dim=0))
            self.feature_spread.copy_(torch.where(spread > NORM_EPS, spread, torch.ones_like(spread)))

    def normalise(self, pooled: Tensor) -> Tensor:
        """What the linear layer reads: (B, F) -> (B, F)."""
        if self.config.norm == "layer":
            return F.layer_norm(pooled, pooled.shape[-1:], eps=NORM_EPS)
        return (pooled - self.feature_mean) / self.feature_spread  # 0 and 1 for norm "none"

    def forward(self, pooled: Tensor) -> Tensor:
        return self.linear(F.dropout(self.normalise(pooled), self.config.dropout, self.training))

    def weigh_patches(self, patches: Tensor) -> Tensor:
        """What each patch adds to each logit: patches (B, gx, gy, gz, D) -> (B, gx, gy, gz, C).

        Their mean over patches and the bias make the logit exactly, for pool "mean": pooling and linear layer are
        sums, and the norm's centre and scale are those of the pooled vector. ConfigError for pools with CLS.
        """
        if self.config.pool != "mean":
            raise ConfigError("Patches add up to the logits only where the head reads their mean (head.pool=mean).")
        pooled = reduce(patches, "b x y z d -> b 1 1 1 d", "mean")
        if self.config.norm == "layer":
            spread = (pooled.var(dim=-1, correction=0, keepdim=True) + NORM_EPS).sqrt()
            normed = (patches - patches.mean(dim=-1, keepdim=True)) / spread
        else:
            normed = (patches - self.feature_mean) / self.feature_spread
        return normed @ self.linear.weight.T


def label_loss(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Mean over studies, and over labels: BCE against `label` (B, C) of 0 and 1, or CE against `label_class` (B,)."""
    if "label_class" in batch:
        return F.cross_entropy(logits.float(), batch["label_class"])
    return F.binary_cross_entropy_with_logits(logits.float(), batch["label"])


class FeatureClassifier(nn.Module):
    """The head alone, trained on features that are already pooled; a batch has `feature` and its label."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.head = ClassifierHead(config.features, len(config.classes), config.head)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss, as "total" too."""
        loss = label_loss(self.head(batch["feature"]), batch)
        return {"label": loss, "total": loss}


class Classifier(nn.Module):
    """Encoder and head; a batch has `image` and its label."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone)
        if not config.head.encoder_norm:
            self.backbone.norm.requires_grad_(False)  # no computation reads it
        self.head = ClassifierHead(config.features, len(config.classes), config.head)

    def pool(self, images: Tensor) -> Tensor:
        """Pooled features before the head's norm: (B, 1, X, Y, Z) -> (B, F) float32."""
        head = self.config.head
        return pool_tokens(self.backbone.last_tokens(images, head.encoder_norm), head.pool)

    def classify(self, images: Tensor) -> Tensor:
        """Logits: (B, 1, X, Y, Z) -> (B, C)."""
        return self.head(self.pool(images))

    def explain(self, images: Tensor) -> Tensor:
        """What each patch adds to each logit: (B, C, gx, gy, gz); see `ClassifierHead.weigh_patches`."""
        patches = self.backbone.last_tokens(images, self.config.head.encoder_norm).patches
        return rearrange(self.head.weigh_patches(patches.float()), "b x y z c -> b c x y z")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Chances (..., C) of logits (..., C)."""
        return logits.softmax(dim=-1) if self.config.exclusive else logits.sigmoid()

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss, as "total" too."""
        loss = label_loss(self.classify(batch["image"]), batch)
        return {"label": loss, "total": loss}
