"""ECAMP (arXiv 2312.13316): masked images, a sharpened window, and masked words around entities that look at patches.

Published in two dimensions; a flat picture is a volume one voxel deep here, so one code serves both.
"""

from collections.abc import Mapping
from typing import NamedTuple, NoReturn

import torch
from einops import rearrange, reduce
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.bert import BertEmbeddings, FeatureHead, initialise_bert
from core.models.ecamp_config import ECAMPConfig
from core.models.fusion import ReportDecoder
from core.models.linear import Linear
from core.models.losses import reconstruction_loss, weighted_language_loss
from core.models.mae import Encoded, MaskedAutoencoder3d, draw_noise, patchify, unpatchify
from core.models.processes import Count, count_everywhere, count_here
from core.models.super_resolution import SuperResolution, shrink_images
from core.models.text import TextEncoder
from core.models.vit import Size3, initialise_linear

TensorMap = Mapping[str, Tensor]


class Fused(NamedTuple):
    """What the fusion layer reads beside words."""

    memory: Tensor  # (B, V, D) projected patches
    overview: Tensor  # (B, 1, D) their mean


class ECAMP(MaskedAutoencoder3d):
    """The pre-training model. A batch is a mapping with the tensors that `trainers.batch` lists.

    It has no space that images and texts share: what compares them refuses, see `embed_texts`.
    """

    def __init__(self, config: ECAMPConfig) -> None:
        super().__init__(config.vision, config.decoder)
        self.config = config
        width = config.vision.width
        self.super_res = SuperResolution(config.vision.channels, config.sr.scale, config.sr.ends_in_relu)
        self.bert_mlp = Linear(width, width)
        self.bert_mlp.apply(initialise_linear)
        self.bert_decoder = ReportDecoder(config.report)
        if config.text_in == "embed":
            self.text_embeddings = BertEmbeddings(config.report)
            self.text_embeddings.apply(initialise_bert)
        else:
            self.bert_encoder = TextEncoder(config.text).freeze()
            self.bert_feature_proj = FeatureHead(config.text.width, width)
            self.bert_feature_proj.apply(initialise_linear)

    # ------------------------------------------------------------------ inference

    def encode_patches(self, images: Tensor) -> Tensor:
        """Unmasked patch tokens after the last norm: (B, C, X, Y, Z) -> (B, gx, gy, gz, D)."""
        return super().encode_patches(self.shrink(images))

    def shrink(self, images: Tensor) -> Tensor:
        """Images as the encoder sees them: at 1/scale of the resolution in mode down, as they are in mode hires."""
        sr = self.config.sr
        return shrink_images(images, sr.scale, sr.shrink) if sr.mode == "down" else images

    @torch.no_grad()
    def attend_entities(self, batch: TensorMap) -> Tensor:
        """Where the words about findings look, on the whole image and text (spec 3): (B, gx, gy, gz), zeros for none.

        Cross-attention of the fusion layer, mean over the tokens of `report_entity`, maximum over heads.
        """
        patches = self.encode_patches(batch["image"])
        layer, is_real = self.bert_decoder.bert.fusion_layer, batch["report_attn"]
        memory = self.bert_mlp(rearrange(patches, "b x y z d -> b (x y z) d"))
        words = layer.attention(self.embed_words(batch["report_ids"], is_real), is_real)
        told = batch["report_entity"].to(words.dtype)
        share = told / told.sum(dim=1, keepdim=True).clamp(min=1)
        looks = layer.cross_self_attention.probabilities(words, memory)  # (B, heads, T, L)
        looks = torch.einsum("bhtl,bt->bhl", looks, share)
        _, x, y, z, _ = patches.shape
        return reduce(looks, "b h (x y z) -> b x y z", "max", x=x, y=y, z=z)

    def find_windows(self, batch: TensorMap) -> Tensor:
        """The most looked-at window of each study: corners (B, 3) int64 in patches; the middle where no word looks."""
        return place_windows(self.attend_entities(batch), self.config.window)

    def embed_texts(self, *_texts: Tensor) -> NoReturn:
        """Not defined for this recipe: refuses."""
        raise ConfigError(
            "ECAMP has no space that images and texts share, so zero-shot scores, retrieval and sentence heat are not "
            "defined for this recipe. Use a linear probe or fine-tuning, or a model of recipe asap, fvlm, visd or asg."
        )

    embed_sentences = image_embed = organ_embed = tag_logits = project_patches = embed_texts

    # ------------------------------------------------------------------- training

    def forward(self, batch: TensorMap, noise: Tensor | None = None) -> dict[str, Tensor]:
        """Losses by name and their weighted `total`; `noise` (B, L) chooses the hidden patches, smallest are kept."""
        config, seen = self.config, self.shrink(batch["image"])
        noise = draw_noise(batch, config.vision.patches) if noise is None else noise
        encoded = self.encode_visible(seen, noise, config.mask_ratio)
        losses: dict[str, Tensor] = {}
        if max(config.weights.reconstruction, config.weights.super_resolution) > 0:
            predicted = self.decode_voxels(encoded)
            if config.weights.reconstruction > 0:
                target, over_all = patchify(seen, config.vision.patch_size), config.mim_norm == "all"
                losses["reconstruction"] = reconstruction_loss(predicted, target, encoded.masking.hidden, over_all)
            if config.weights.super_resolution > 0:
                losses["super_resolution"] = self._super_resolution_loss(batch, predicted)
        if config.weights.language > 0:
            losses["language"] = self._language_loss(batch, encoded)
        zero = seen.new_zeros(())
        losses["total"] = sum((getattr(config.weights, name) * value for name, value in losses.items()), zero)
        return losses

    def embed_words(self, ids: Tensor, is_real: Tensor) -> Tensor:
        """What enters the fusion layer: ids (B, T) int64, is_real (B, T) bool -> (B, T, D)."""
        if self.config.text_in == "embed":
            return self.text_embeddings(ids)
        return self.bert_feature_proj(self.bert_encoder(ids, is_real))

    def visual_memory(self, encoded: Encoded) -> Fused:
        """What words look at: the visible patches and their mean."""
        memory = self.bert_mlp(encoded.patches)
        return Fused(memory, memory.mean(dim=1, keepdim=True))

    def fuse(self, batch: TensorMap, encoded: Encoded) -> Tensor:
        """Text states (B, T, D) of the masked report; `self.bert_decoder.cls` makes vocabulary logits of them."""
        words = self.embed_words(batch["mlm_in"], batch["report_attn"])
        return self.bert_decoder(words, batch["report_attn"], *self.visual_memory(encoded))

    @property
    def count(self) -> Count:
        """Over which processes tokens are counted; the released mean has no need of it."""
        return count_here if self.config.language_on == "all" else count_everywhere

    def _super_resolution_loss(self, batch: TensorMap, predicted: Tensor) -> Tensor:
        """Squared error of the sharpened window; predicted (B, L, P)."""
        config, patch = self.config, self.config.vision.patch_size
        images = unpatchify(predicted, patch, config.vision.grid).float()
        size = _times(config.window, patch)
        corners = batch["sr_corner"].tolist()
        targets = self._window_targets(batch, corners)
        total = images.new_zeros(())
        for image, corner, target in zip(images, corners, targets, strict=True):
            sharp = self.super_res.sharpen_box(image[None], _times(corner, patch), size)
            total = total + F.mse_loss(sharp[0], target.float(), reduction="sum")
        counted = self.config.window if config.sr.norm == "window" else config.vision.grid
        voxels = torch.tensor(_times(_times(counted, patch), config.sr.scale)).prod().item()
        return total / (len(images) * images.shape[1] * voxels)

    def _window_targets(self, batch: TensorMap, corners: list[list[int]]) -> list[Tensor]:
        """The sharp windows (C, X, Y, Z), one per study."""
        if self.config.sr.mode == "hires":
            return list(batch["image_hr"])
        unit = _times(self.config.vision.patch_size, self.config.sr.scale)
        size = _times(self.config.window, unit)
        boxes = [tuple(slice(a, a + n) for a, n in zip(_times(corner, unit), size, strict=True)) for corner in corners]
        return [image[:, x, y, z] for image, (x, y, z) in zip(batch["image"], boxes, strict=True)]

    def _language_loss(self, batch: TensorMap, encoded: Encoded) -> Tensor:
        """Weighted cross-entropy of the report's tokens; the vocabulary is only computed where it counts."""
        states = self.fuse(batch, encoded)
        labels = batch["report_ids"] if self.config.language_on == "all" else batch["mlm_labels"]
        counted = labels >= 0
        logits = self.bert_decoder.cls(states[counted])
        return weighted_language_loss(logits, labels[counted], batch["mlm_weight"][counted], self.count)


def place_windows(looks: Tensor, window: Size3) -> Tensor:
    """Corner of the placement with the largest sum: looks (B, gx, gy, gz), window in patches -> (B, 3) int64.

    The middle one where all are alike, as for a text without an entity.
    """
    sums = F.avg_pool3d(looks[:, None], window, stride=1)[:, 0]
    _, x, y, z = sums.shape
    best = torch.stack(torch.unravel_index(sums.flatten(1).argmax(dim=1), (x, y, z)), dim=1)
    middle = torch.tensor([(x - 1) // 2, (y - 1) // 2, (z - 1) // 2], device=looks.device)
    is_flat = looks.flatten(1).amax(dim=1) == looks.flatten(1).amin(dim=1)
    return torch.where(is_flat[:, None], middle, best)


def _times(numbers: Size3 | list[int], factors: Size3) -> Size3:
    x, y, z = (n * factor for n, factor in zip(numbers, factors, strict=True))
    return x, y, z
