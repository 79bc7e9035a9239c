"""ASG (arXiv 2403.09294): reports, regions and tags, each compared with the image."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from core.models.asg_config import ASGConfig
from core.models.asg_losses import (
    region_sentence_contrast,
    region_sentence_scores,
    released_region_order,
    shared_word_targets,
    soften_pairs,
    tag_cosine,
    tag_loss,
)
from core.models.bert import initialise_bert
from core.models.contrast import contrast, plan_gather
from core.models.organ_pool import organ_fractions, pool_mean
from core.models.processes import count_everywhere
from core.models.projection import ProjectionHead
from core.models.tag_decoder import TagDecoder
from core.models.text import BertBody
from core.models.vit import VisionTransformer3d
from core.models.words import Words, label_words, merge_words, number_words

TensorMap = Mapping[str, Tensor]
FULL_WIDTH = 768
"""Of BERT, whose weights start with a standard deviation of 0.02."""


class Seen(NamedTuple):
    """What is made of images."""

    tokens: Tensor  # (B, 1 + L, D) after the last norm, CLS first
    study: Tensor  # (B, E) unit length
    patches: Tensor  # (B, L, E) unit length

    @property
    def memory(self) -> Tensor:
        """(B, L, D) patch tokens, which tags ask."""
        return self.tokens[:, 1:]


class Read(NamedTuple):
    """What is made of reports."""

    states: Tensor  # (B, T, D) per token
    words: Words
    study: Tensor  # (B, E) unit length
    local: Tensor  # (B, W, E) unit length per word; of no meaning in empty slots


class Regions(NamedTuple):
    """Regions of each study and the sentences about them, by slot."""

    regions: Tensor  # (B, R, E) mean patch
    sentences: Tensor  # (B, R, E) mean word
    words: Tensor  # (B, R, W) words of the sentences about the region
    valid: Tensor  # (B, R) bool, True = in the image and spoken of


class ImageEncoder(nn.Module):
    """Vision transformer with a projection of its CLS token and one of its patches."""

    def __init__(self, config: ASGConfig) -> None:
        super().__init__()
        self.model = VisionTransformer3d(config.vision)
        self.global_embed = ProjectionHead(config.vision.width, config.heads)
        self.local_embed = ProjectionHead(config.vision.width, config.heads)

    def forward(self, images: Tensor) -> Seen:
        tokens = self.model.norm(self.model.run_blocks(self.model.embed_patches(images)))
        return Seen(tokens, self.global_embed(tokens[:, 0]), self.project_patches(tokens[:, 1:]))

    def project_patches(self, tokens: Tensor) -> Tensor:
        """Patch tokens (..., D) -> unit vectors (..., E) of the shared space."""
        return self.local_embed(tokens.flatten(0, -2)).unflatten(0, tokens.shape[:-1])


class ReportEncoder(nn.Module):
    """BERT with a projection of [CLS] and one of every word."""

    continues: Tensor

    def __init__(self, config: ASGConfig) -> None:
        super().__init__()
        self.config = config
        self.model = BertBody(config.text)
        self.global_embed = ProjectionHead(config.text.width, config.heads)
        self.local_embed = ProjectionHead(config.text.width, config.heads)
        narrow = max(1.0, FULL_WIDTH / config.text.width) ** 0.5  # else [CLS] would hardly see the words
        self.model.apply(partial(initialise_bert, std=0.02 * narrow))
        self.register_buffer("continues", torch.zeros(config.text.vocab_size, dtype=torch.bool))

    def forward(self, ids: Tensor, is_real: Tensor) -> Read:
        places = None if self.config.fixes.word_order else torch.zeros_like(ids)
        states = self.model(ids, is_real, places)
        words = merge_words(states, number_words(ids, is_real, self.continues))
        return Read(states, words, self.global_embed(words.report), self._project_words(words))

    def _project_words(self, words: Words) -> Tensor:
        """(B, W, E) of all slots as released, or of real words with zeros elsewhere."""
        if not self.config.fixes.padding_masked:
            return self.local_embed(words.vectors.flatten(0, 1)).unflatten(0, words.is_real.shape)
        projected = self.local_embed(words.vectors[words.is_real])
        empty = projected.new_zeros(*words.is_real.shape, projected.shape[-1])
        return empty.masked_scatter(words.is_real[..., None], projected)


class ASG(nn.Module):
    """The full pre-training model; its parameters have the published names, see `published_weights`."""

    def __init__(self, config: ASGConfig) -> None:
        super().__init__()
        self.config = config
        self.img_encoder_q = ImageEncoder(config)
        self.text_encoder_q = ReportEncoder(config)
        self.irl = TagDecoder(config.vision.width, len(config.tags), config.tag_decoder)

    # ------------------------------------------------------------------ inference

    def encode_patches(self, images: Tensor) -> Tensor:
        """Patch tokens after the last norm: (B, 1, X, Y, Z) -> (B, gx, gy, gz, D)."""
        return self.img_encoder_q.model.encode_patches(images)

    def image_embed(self, images: Tensor) -> Tensor:
        """Whole images in the shared space: (B, 1, X, Y, Z) -> (B, E) unit length."""
        return self.img_encoder_q(images).study

    def embed_texts(self, ids: Tensor, attn: Tensor) -> Tensor:
        """Whole texts in the shared space: ids (N, T) int64, [CLS] first, attn (N, T) bool -> (N, E) unit length."""
        return self.text_encoder_q(ids, attn).study

    def tag_logits(self, images: Tensor) -> Tensor:
        """Logit of each tag's presence: (B, 1, X, Y, Z) -> (B, K) in the order of `config.tags`."""
        return self.irl(self.img_encoder_q(images).memory)

    def organ_embed(self, images: Tensor, organ_mask: Tensor) -> Tensor:
        """Regions in the shared space: organ_mask (B, X, Y, Z) integer 0..O -> (B, O, E), 0 for absent organs."""
        return self.pool_regions({"organ_mask": organ_mask}, self.img_encoder_q(images).patches)

    def project_patches(self, tokens: Tensor) -> Tensor:
        """Patch tokens (..., D) of `encode_patches` -> unit vectors (..., E), which sentences are compared with."""
        return self.img_encoder_q.project_patches(tokens)

    def embed_sentences(self, ids: Tensor, attn: Tensor, sentence_map: Tensor | None = None) -> Tensor:
        """Sentences among the patches: mean of their unit word vectors (S, E); ids, attn (N, T) int64, bool.

        Without a map every row is one sentence (S = N). With a map (N, T), 1..S per row, all sentences of all rows
        follow each other and empty ones are dropped.
        """
        read = self.text_encoder_q(ids, attn)
        of_word = attn.long() if sentence_map is None else sentence_map
        of_word = label_words(of_word, read.words.number)
        slots = torch.arange(1, int(of_word.max()) + 1, device=ids.device)
        members = of_word[:, None, :] == slots[:, None]  # (N, S, W)
        return pool_mean(read.local, members.float())[members.any(dim=-1)]

    # ------------------------------------------------------------------- training

    def forward(self, batch: TensorMap) -> dict[str, Tensor]:
        """Losses by name (ira, arsa, irl, erl) and their weighted `total`."""
        weights, losses = self.config.weights, {}
        seen = self.img_encoder_q(batch["image"])
        if weights.irl > 0:
            losses["irl"] = self._tag_loss(self.irl(seen.memory), batch["tags"])
        if weights.ira + weights.arsa + weights.erl > 0:
            read = self.text_encoder_q(batch["report_ids"], batch["report_attn"])
            with torch.autocast(batch["image"].device.type, enabled=False):  # bf16 over 0.07 would be a coarse stair
                losses |= self._study_losses(seen, read, batch)
                if weights.arsa > 0:
                    losses["arsa"] = self._region_loss(self.match_regions(batch, seen, read))
        zero = batch["image"].new_zeros(())
        losses["total"] = sum((getattr(weights, name) * value for name, value in losses.items()), zero)
        return losses

    def match_regions(self, batch: TensorMap, seen: Seen, read: Read) -> Regions:
        """Mean patch of every region, and mean word of the sentences about it."""
        patches = seen.patches
        if not self.config.fixes.own_regions:
            patches = patches[released_region_order(batch["report_attn"].sum(dim=1))]
        words = self.find_words(batch, read.words)
        regions = self.pool_regions(batch, patches)
        valid = (words > 0).any(dim=-1) & (regions != 0).any(dim=-1)
        return Regions(regions, pool_mean(read.local.float(), words.float()), words, valid)

    def pool_regions(self, batch: TensorMap, patches: Tensor) -> Tensor:
        """Mean of (B, L, E) over each organ of `organ_mask` by its share of a patch: (B, O, E), 0 for absent ones."""
        fractions = organ_fractions(batch["organ_mask"], self.config.organs, self.config.vision.patch_size)
        return pool_mean(patches.float(), fractions)

    def find_words(self, batch: TensorMap, words: Words) -> Tensor:
        """Words of the sentences about each organ, from `report_sent` and `sent_organ`: (B, O, W) bool."""
        sentence = label_words(batch["report_sent"], words.number)  # (B, W)
        about = F.pad(batch["sent_organ"], (0, 0, 1, 0))  # sentence 0 is about nothing
        sentence = sentence.masked_fill(sentence >= about.shape[1], 0)
        rows = torch.arange(len(about), device=about.device)[:, None]
        return rearrange(about[rows, sentence], "b w o -> b o w")

    def _tag_loss(self, logits: Tensor, tags: Tensor) -> Tensor:
        """IRL; means over mentioned tags, whose number differs, are over all processes."""
        if not self.config.ignore_unmentioned:
            return tag_loss(logits, tags, ignore_unmentioned=False)
        return tag_loss(logits, tags, ignore_unmentioned=True) * self._share_of((tags != 0).sum())

    def _study_losses(self, seen: Seen, read: Read, batch: TensorMap) -> dict[str, Tensor]:
        """IRA and ERL over the studies of the batch, or of all processes."""
        config, losses = self.config, {}
        together = plan_gather(len(seen.study), config.gather, seen.study.device)
        scores = together(seen.study) @ together(read.study).T / config.temperature
        if config.weights.ira > 0:
            pairs = contrast(scores, torch.eye(len(scores), device=scores.device))
            losses["ira"] = pairs.image_to_text + pairs.text_to_image
        if config.weights.erl > 0:
            targets = soften_pairs(tag_cosine(together(batch["tags"])), config.tag_share)
            softened = contrast(scores, targets, kind="symkl")
            losses["erl"] = (softened.image_to_text + softened.text_to_image) / 2
        return losses

    def _region_loss(self, matched: Regions) -> Tensor:
        """ARSA; unless `gather` is "none" its mean is over the valid rows of all processes."""
        scores = region_sentence_scores(matched.regions, matched.sentences, matched.valid, self.config.temperature)
        targets = torch.eye(scores.shape[-1], device=scores.device).expand_as(scores)
        if self.config.shared_sentence == "soft":
            spoken = (matched.words > 0) & matched.valid[..., None]  # an absent organ's words are nobody's positives
            targets = shared_word_targets(spoken)
        pairs = region_sentence_contrast(scores, targets, matched.valid)
        return (pairs.image_to_text + pairs.text_to_image) * self._share_of(matched.valid.sum())

    def _share_of(self, number: Tensor) -> Tensor:
        """Factor that turns a mean over this process's `number` of things into its part of the mean over all."""
        total = number if self.config.gather == "none" else count_everywhere(number)
        return number / total.clamp(min=torch.finfo(torch.float32).tiny)


def published_weights(tensors: TensorMap) -> dict[str, Tensor]:
    """Weights under ASG's published names as `core.models.asg_flat.FlatASG` has them; an ASG of volumes takes a part.

    Its 1x1 convolutions are linear layers here, its flat patches one voxel deep, the decoder's norm is stored twice,
    position numbers are computed; the frozen `text_encoder`, which only embeds tag names, is left out.
    """
    kept = {}
    for name, value in tensors.items():
        if name.startswith(("text_encoder.", "irl.decoder_norm.")) or name.endswith("embeddings.position_ids"):
            continue
        if ".local_embed.head." in name and value.ndim == 3:
            value = value[..., 0]
        if name == "img_encoder_q.model.patch_embed.proj.weight" and value.ndim == 4:
            value = value[..., None]
        kept[name] = value
    return kept
