"""Masked autoencoding of volumes, with ASAP's anatomy head inside the decoder (specs: MAE, arXiv 2111.06377)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    take_tokens,
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

    @property
    def unseen(self) -> Tensor:
        """(B, L - V) int64, the hidden patches in spatial order."""
        return self.order[:, self.keep.shape[1] :].sort(dim=1).values


class Encoded(NamedTuple):
    """What the encoder makes of the visible patches."""

    tokens: Tensor  # (B, 1 + V, D) after the last norm, CLS first
    masking: Masking

    @property
    def patches(self) -> Tensor:
        """(B, V, D) patch tokens in encoder order."""
        return self.tokens[:, 1:]


class Decoded(NamedTuple):
    """Decoder outputs in spatial order."""

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


def patchify(images: Tensor, patch: Size3) -> Tensor:
    """Cut volumes into flat patches: (B, C, X, Y, Z) -> (B, L, px*py*pz*C), x-major in both, channels innermost."""
    px, py, pz = patch
    return rearrange(images, "b c (x px) (y py) (z pz) -> b (x y z) (px py pz c)", px=px, py=py, pz=pz)


def take_patches(images: Tensor, patch: Size3, places: Tensor) -> Tensor:
    """Those rows of `patchify` that places (B, Q) int64 name, without cutting the others: -> (B, Q, px*py*pz*C)."""
    px, py, pz = patch
    cut = rearrange(images, "b c (x px) (y py) (z pz) -> b x y z px py pz c", px=px, py=py, pz=pz)
    _, rows, columns = cut.shape[1:4]
    study = torch.arange(len(images), device=images.device)[:, None]
    x, y, z = places // (rows * columns), places // columns % rows, places % columns
    return cut[study, x, y, z].flatten(2)


def unpatchify(patches: Tensor, patch: Size3, grid: Size3) -> Tensor:
    """Inverse of `patchify`: (B, L, px*py*pz*C) -> (B, C, X, Y, Z)."""
    (px, py, pz), (x, y, _) = patch, grid
    cut = "b (x y z) (px py pz c) -> b c (x px) (y py) (z pz)"
    return rearrange(patches, cut, px=px, py=py, pz=pz, x=x, y=y)


def class_fractions(labels: Tensor, classes: int, patch: Size3) -> Tensor:
    """Share of each class in each patch: labels (B, X, Y, Z) integer -> (B, L, C) float32, rows sum to 1.

    Counted class by class, so nothing of size voxels x classes is ever built.
    """
    cut = patchify(labels[:, None], patch)
    counts = [(cut == index).view(torch.uint8).sum(dim=2, dtype=torch.int32) for index in range(classes)]
    return torch.stack(counts, dim=2) / cut.shape[2]


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
        return Encoded(self.norm(self.run_blocks(self._embed_visible(images, masking.keep))), masking)

    def decode(self, encoded: Encoded, of_voxels: Literal["all", "hidden", "none"] = "all") -> Decoded:
        """Predict all patches' anatomy, and the voxels of all, of the hidden ones (B, L - V, P), or of none.

        Without voxels the blocks after the anatomy head are skipped; of hidden patches alone the last is cheaper.
        """
        tokens, anatomy_block = self._fill_hidden(encoded), self.decoder.injection_block
        for block in self.decoder_blocks[: anatomy_block + 1]:
            tokens = block(tokens)
        logits = self._classify_anatomy(tokens[:, 1:])
        if of_voxels == "none":
            return Decoded(None, logits)
        rest = self.decoder_blocks[anatomy_block + 1 :]
        if of_voxels == "all":
            return Decoded(self._predict_voxels(tokens, rest)[:, 1:], logits)
        return Decoded(self._predict_voxels(tokens, rest, 1 + encoded.masking.unseen), logits)

    def _embed_visible(self, images: Tensor, keep: Tensor) -> Tensor:
        """What `embed_patches` gives for the visible patches alone: (B, V, D)."""
        x, y, z = (n // p for n, p in zip(images.shape[2:], self.vision.patch_size, strict=True))
        places = self._positions((x, y, z))[:, 1:].expand(len(images), -1, -1)
        patches = take_tokens(patchify(self.split(images), self.vision.patch_size), keep)
        return self.patch_embed.embed(patches) + take_tokens(places, keep)

    def decode_voxels(self, encoded: Encoded) -> Tensor:
        """Predict all patches' voxels and nothing else: (B, L, P)."""
        return self._predict_voxels(self._fill_hidden(encoded), self.decoder_blocks)[:, 1:]

    def _predict_voxels(self, tokens: Tensor, blocks: nn.ModuleList, places: Tensor | None = None) -> Tensor:
        """The rest of the decoder: tokens (B, 1 + L, D') -> voxels of all tokens, or of those at places (B, Q)."""
        wanted = None if places is None or not places.numel() else places
        for number, block in enumerate(blocks, start=1):
            tokens = block(tokens, wanted) if number == len(blocks) else block(tokens)
        if places is not None and (wanted is None or not len(blocks)):
            tokens = take_tokens(tokens, places)
        return self.decoder_pred_layer.of_norm(tokens, self.decoder_norm)

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
