"""Masked autoencoding of volumes, with ASAP's anatomy head inside the decoder (specs: MAE, arXiv 2111.06377)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.linear import Linear
from core.models.vit import (
    Block,
    Size3,
    VisionConfig,
    VisionTransformer3d,
    initialise_linear,
    require_divides,
)


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the image decoder; the defaults are ASAP's."""

    width: int = 768
    """Features per token."""
    depth: int = 4
    """Transformer blocks."""
    heads: int = 16
    """Attention heads; must divide `width`."""
    mlp_ratio: int = 4
    """Hidden width of a block's MLP, in multiples of `width`."""
    injection_block: int = 1
    """Index of the block whose output the anatomy head reads."""

    def __post_init__(self) -> None:
        require_divides(self.heads, self.width)
        if not 0 <= self.injection_block < self.depth:
            raise ConfigError(
                f"injection_block is {self.injection_block}; a decoder of depth {self.depth} has blocks "
                f"0 to {self.depth - 1}."
            )


class Masking(NamedTuple):
    """Which patches are hidden; built from one noise value per patch."""

    order: Tensor  # (B, L) int64, patch numbers by growing noise
    keep: Tensor  # (B, V) int64, the visible patches in encoder order
    restore: Tensor  # (B, L) int64, inverse of `order`
    hidden: Tensor  # (B, L) bool in spatial order, True = not seen by the encoder


class Encoded(NamedTuple):
    """What the encoder makes of the visible patches."""

    tokens: Tensor  # (B, 1 + V, D) after the last norm, CLS first
    masking: Masking

    @property
    def patches(self) -> Tensor:
        """(B, V, D) patch tokens in encoder order."""
        return self.tokens[:, 1:]


class Decoded(NamedTuple):
    """Decoder outputs for all patches in spatial order."""

    voxels: Tensor | None  # (B, L, P) predicted voxels, (x, y, z) inside a patch; None when not asked for
    anatomy_logits: Tensor  # (B, L, C)


def draw_noise(batch: Mapping[str, Tensor], patches: int) -> Tensor:
    """What `mask_patches` chooses by: (B, L) float32 in [0, 1), on the images' device.

    Each study's values come from its `draw_seed` where the batch has one, so that they do not depend on the process or
    the batch it is in; else from the global generator.
    """
    images = batch["image"]
    if "draw_seed" not in batch:
        return torch.rand(len(images), patches, device=images.device)
    seeds = batch["draw_seed"].tolist()
    drawn = [torch.rand(patches, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(images.device)


def mask_patches(noise: Tensor, mask_ratio: float) -> Masking:
    """Hide all but the floor(L * (1 - mask_ratio)) patches of smallest noise (B, L)."""
    order = noise.argsort(dim=1)
    restore = order.argsort(dim=1)
    # 1e-9: the product of two rounded numbers must not lose a whole patch to floor.
    visible = int(noise.shape[1] * (1 - mask_ratio) + 1e-9)
    return Masking(order, order[:, :visible], restore, restore >= visible)


def take_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Rows of each sample: tokens (B, L, D), index (B, V) -> (B, V, D)."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))


def patchify(images: Tensor, patch: Size3) -> Tensor:
    """Cut volumes into flat patches: (B, C, X, Y, Z) -> (B, L, px*py*pz*C), x-major in both, channels innermost."""
    px, py, pz = patch
    return rearrange(images, "b c (x px) (y py) (z pz) -> b (x y z) (px py pz c)", px=px, py=py, pz=pz)


def unpatchify(patches: Tensor, patch: Size3, grid: Size3) -> Tensor:
    """Inverse of `patchify`: (B, L, px*py*pz*C) -> (B, C, X, Y, Z)."""
    (px, py, pz), (x, y, _) = patch, grid
    cut = "b (x y z) (px py pz c) -> b c (x px) (y py) (z pz)"
    return rearrange(patches, cut, px=px, py=py, pz=pz, x=x, y=y)


def class_fractions(labels: Tensor, classes: int, patch: Size3) -> Tensor:
    """Share of each class in each patch: labels (B, X, Y, Z) integer -> (B, L, C) float32, rows sum to 1.

    One average pooling per class, so nothing of size voxels x classes is ever built.
    """
    pooled = [F.avg_pool3d((labels == index).float()[:, None], patch, patch) for index in range(classes)]
    return rearrange(torch.cat(pooled, dim=1), "b c x y z -> b (x y z) c")


class MaskedAutoencoder3d(VisionTransformer3d):
    """Encoder on visible patches, decoder on all, anatomy head after `injection_block` (ASAP spec 2.3, 2.4)."""

    decoder_pos_embed: Tensor

    def __init__(self, vision: VisionConfig, decoder: DecoderConfig, classes: int = 0) -> None:
        """classes: of the anatomy head; 0 = there is none, and `decode_voxels` is all that can be asked for."""
        super().__init__(vision)
        self.decoder = decoder
        width, eps = decoder.width, vision.norm_eps
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("decoder_pos_embed", vision.code_positions(vision.grid, width))
        self.decoder_embed = Linear(vision.width, width)
        self.decoder_blocks = nn.ModuleList(
            Block(width, decoder.heads, decoder.mlp_ratio, eps) for _ in range(decoder.depth)
        )
        self.decoder_norm = nn.LayerNorm(width, eps=eps)
        self.decoder_pred_layer = Linear(width, vision.patch_voxels)
        if classes:
            self.decoder_injection_pred_layer_0 = nn.Linear(width, classes)
            self.decoder_injection_pred_norm = nn.LayerNorm(classes, eps=eps)
            self.decoder_injection_pred_layer_1 = nn.Linear(classes, classes)
        for name, module in self.named_children():
            if name.startswith("decoder_"):
                module.apply(initialise_linear)
        nn.init.normal_(self.mask_token, std=0.02)

    def encode_visible(self, images: Tensor, noise: Tensor, mask_ratio: float) -> Encoded:
        """Encode the patches left visible; images (B, C, X, Y, Z), noise (B, L)."""
        masking = mask_patches(noise, mask_ratio)
        visible = take_tokens(self.embed_patches(images), masking.keep)
        return Encoded(self.norm(self.run_blocks(visible)), masking)

    def decode(self, encoded: Encoded, with_voxels: bool = True) -> Decoded:
        """Predict all patches' voxels and anatomy; without voxels the blocks after the anatomy head are skipped."""
        tokens = self._fill_hidden(encoded)
        anatomy = tokens
        for index, block in enumerate(self.decoder_blocks):
            if not with_voxels and index > self.decoder.injection_block:
                break
            tokens = block(tokens)
            anatomy = tokens if index == self.decoder.injection_block else anatomy
        voxels = self.decoder_pred_layer(self.decoder_norm(tokens))[:, 1:] if with_voxels else None
        return Decoded(voxels, self._classify_anatomy(anatomy[:, 1:]))

    def decode_voxels(self, encoded: Encoded) -> Tensor:
        """Predict all patches' voxels and nothing else: (B, L, P)."""
        tokens = self._fill_hidden(encoded)
        for block in self.decoder_blocks:
            tokens = block(tokens)
        return self.decoder_pred_layer(self.decoder_norm(tokens))[:, 1:]

    def _fill_hidden(self, encoded: Encoded) -> Tensor:
        """All tokens in spatial order with mask tokens where hidden, plus position code: (B, 1 + L, D')."""
        seen = self.decoder_embed(encoded.tokens)
        cls, patches = seen[:, :1], seen[:, 1:]
        missing = encoded.masking.restore.shape[1] - patches.shape[1]
        filled = torch.cat([patches, self.mask_token.to(patches).expand(len(patches), missing, -1)], dim=1)
        spatial = take_tokens(filled, encoded.masking.restore)
        return torch.cat([cls, spatial], dim=1) + self.decoder_pos_embed

    def _classify_anatomy(self, tokens: Tensor) -> Tensor:
        """(B, L, D') -> (B, L, C) logits."""
        hidden = F.relu(self.decoder_injection_pred_norm(self.decoder_injection_pred_layer_0(tokens)))
        return self.decoder_injection_pred_layer_1(hidden)
