"""ASAP (arXiv 2606.00602): masked volumes, injected anatomy, sentence-region alignment, report decoding."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.asap_config import ASAPConfig
from core.models.bert import FeatureHead
from core.models.contrast import GatherMode, plan_gather
from core.models.early_gradients import Cut
from core.models.fusion import ReportDecoder
from core.models.linear import Linear
from core.models.losses import (
    alignment_logits,
    alignment_loss,
    balanced_injection_loss,
    hidden_voxel_loss,
    injection_loss,
    mean_over_words,
    question_loss,
    region_presence_loss,
    region_softmax_loss,
    size_prior_loss,
    study_contrast_loss,
)
from core.models.mae import Encoded, MaskedAutoencoder3d, class_fractions, draw_noise, take_patches
from core.models.processes import Count, count_everywhere, count_here, report_keys
from core.models.selection import Selection, SizeRule, cosine_to_patches, pool_sentences, select_patches
from core.models.text import TextEncoder
from core.models.text_cache import TextCache
from core.models.unread import leave_untouched
from core.models.vit import initialise_linear

TensorMap = Mapping[str, Tensor]


class Aligned(NamedTuple):
    """Sentences of each study and the patches they chose."""

    sentences: Tensor  # (B, S, D), zero rows in empty slots
    valid: Tensor  # (B, S) bool, True = real sentence
    patches: Tensor  # (B, V, D) projected patches that were chosen from
    places: Tensor  # (B, V) int64, their numbers in spatial order
    size_logit: Tensor  # (B, S)
    selection: Selection


class ASAP(MaskedAutoencoder3d):
    """The full pre-training model; parameter names are those of the published checkpoint.

    A batch is a mapping with the tensors that `trainers.batch` lists; `forward` returns the losses by name.
    """

    def __init__(self, config: ASAPConfig) -> None:
        super().__init__(config.vision, config.decoder, config.classes)
        self.config = config
        self.settles_early = False  # set by who trains: `forward` may run backward passes, see `_first_losses`
        width, unused = config.vision.width, not config.fixes.no_unused_weights
        self.bert_encoder = TextEncoder(config.text, config.text_projection_width if unused else None)
        if config.text_frozen:
            self.bert_encoder.freeze(always_eval=config.fixes.text_in_eval_mode)
        self.text_cache: TextCache | None = None
        self.bert_feature_proj = FeatureHead(config.text.width, width)
        self.finding_align_img_mlp = FeatureHead(width, width)
        self.align_text_mlp = FeatureHead(config.text.width, width)
        self.regression_head = nn.Linear(width, 1)
        self.bert_mlp = Linear(width, width)
        if unused:
            self.bert_topk_mlp = nn.Linear(width, width)
            leave_untouched(self.bert_topk_mlp)
        for head in (self.bert_feature_proj, self.finding_align_img_mlp, self.align_text_mlp):
            head.apply(initialise_linear)
        self.regression_head.apply(initialise_linear)
        self.bert_mlp.apply(initialise_linear)
        self.bert_decoder = ReportDecoder(config.report, unused)
        self.size_rule = SizeRule(
            config.log2_size_min, config.size_steps, config.size_softness if config.fixes.learned_size else 0.0
        )
        if config.has_grounding:
            self.grounding_scale = nn.Parameter(torch.tensor(10.0))
            self.grounding_bias = nn.Parameter(torch.tensor(-2.0))

    # ------------------------------------------------------------------ inference

    def project_patches(self, tokens: Tensor) -> Tensor:
        """phi_img: encoder tokens (..., D) -> alignment space (..., D), not normalised."""
        return self.finding_align_img_mlp(tokens)

    def embed_sentences(self, ids: Tensor, attn: Tensor, sentence_map: Tensor | None = None) -> Tensor:
        """Sentence vectors (S, D) in the alignment space, not normalised; ids, attn (N, T) int64, bool.

        Without a map every row is one sentence (S = N; [CLS], the first token, is left out of the mean). With a map
        (N, T), 1..S per row, all sentences of all rows follow each other and empty slots are dropped.
        """
        if sentence_map is None:
            sentence_map = attn.long()
            sentence_map[:, 0] = 0
        pooled, valid = self._pool(self.bert_encoder(ids, attn), sentence_map)
        return pooled[valid]

    def presence_logits(self, cosine: Tensor) -> Tensor:
        """Trained yes/no of a cosine between a sentence and a patch; exists with the grounding term only."""
        if not self.config.has_grounding:
            raise ConfigError("This model was trained without the grounding term; it has no presence read-out.")
        return self.grounding_scale * cosine + self.grounding_bias

    # ------------------------------------------------------------------- training

    def forward(self, batch: TensorMap, noise: Tensor | None = None) -> dict[str, Tensor]:
        """Losses by name and their weighted `total`; `noise` (B, L) chooses the hidden patches, smallest are kept."""
        config, images = self.config, batch["image"]
        noise = draw_noise(batch, config.vision.patches) if noise is None else noise
        encoded = self.encode_visible(images, noise, config.mask_ratio)
        losses, owed = self._first_losses(batch, encoded)
        aligned = self.align(batch, encoded) if self._needs_alignment() else None
        if aligned is not None:
            losses |= self._text_losses(batch, encoded, aligned)
        return self._with_total(losses, owed)

    def align(self, batch: TensorMap, encoded: Encoded, seen: tuple[Tensor, Tensor] | None = None) -> Aligned:
        """Sentence vectors, and for each the patches it selects among those given (or among all, see `Fixes`).

        seen: encoder tokens (B, V, D) and their patch numbers (B, V), where they are known already.
        """
        length = int(batch["findings_attn"].sum(dim=1).max())  # no sentence has a token in the padding behind
        states = self.read_findings(batch["findings_ids"][:, :length], batch["findings_attn"][:, :length])
        sentence_map = batch["findings_sent"][:, :length].long().clone()
        sentence_map[:, 0] = 0  # [CLS] belongs to sentence 1 in the released map, but is never pooled
        tokens, places = seen or self._alignment_tokens(batch["image"], encoded)
        with torch.autocast(tokens.device.type, enabled=False):  # bf16 cosines over 0.07 would be a coarse staircase
            sentences, valid = self._pool(states.float(), sentence_map)
            patches = self.project_patches(tokens.float())
            size_logit = self.regression_head(sentences)[..., 0]
            selection = select_patches(sentences, patches, size_logit, self.size_rule)
        return Aligned(sentences, valid, patches, places, size_logit, selection)

    def read_findings(self, ids: Tensor, attn: Tensor) -> Tensor:
        """States (B, F, W) of the findings by the text encoder, from `text_cache` where there is one."""
        return self.bert_encoder(ids, attn) if self.text_cache is None else self.text_cache.read(ids, attn)

    def fuse(self, batch: TensorMap, encoded: Encoded, regions: Tensor, valid: Tensor) -> Tensor:
        """Report-decoder states (B, T, D) of the masked report, given regions (B, S, D) with valid (B, S) bool."""
        words = self.bert_feature_proj(self.bert_encoder(batch["mlm_in"], batch["report_attn"]))
        memory, overview = self.visual_memory(encoded, regions, valid)
        return self.bert_decoder(words, batch["report_attn"], memory, overview)

    def visual_memory(self, encoded: Encoded, regions: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """What the report decoder looks at: [mean region; patches] (B, 1 + V, D) and the mean patch (B, 1, D).

        Without `region_token` only the patches.
        """
        patches = self.bert_mlp(encoded.patches)
        if not self.config.region_token:
            return patches, patches.mean(dim=1, keepdim=True)
        if self.config.fixes.padding_masked:
            counted = valid[..., None].to(regions.dtype)
            mean_region = (regions * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
        else:
            mean_region = regions.mean(dim=1)
        region_token = self.config.region_share * mean_region[:, None].to(patches.dtype)
        return torch.cat([region_token, patches], dim=1), patches.mean(dim=1, keepdim=True)

    @property
    def count(self) -> Count:
        """Over which processes sentences and words are counted."""
        return count_everywhere if self.config.fixes.counted_together else count_here

    def _needs_alignment(self) -> bool:
        weights = self.config.weights
        told = (weights.alignment, weights.language, weights.study, weights.grounding, weights.questions)
        return max(*told, weights.size_prior) > 0

    def _pool(self, states: Tensor, sentence_map: Tensor) -> tuple[Tensor, Tensor]:
        """Project tokens, then average per sentence: (B, S, D) and which slots are real (B, S) bool."""
        return pool_sentences(self.align_text_mlp(states), sentence_map, max(1, int(sentence_map.max())))

    def _alignment_tokens(self, images: Tensor, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Encoder tokens (B, V, D) that sentences choose from, and their patch numbers (B, V)."""
        if self.config.fixes.unmasked_alignment and self.config.mask_ratio > 0:
            tokens = rearrange(self.encode_patches(images), "b x y z d -> b (x y z) d")
            return tokens, torch.arange(tokens.shape[1], device=images.device).expand(len(images), -1)
        return encoded.patches, encoded.masking.keep

    def _first_losses(self, batch: TensorMap, encoded: Encoded) -> tuple[dict[str, Tensor], Tensor | None]:
        """The volume losses; with `settles_early` after their backward pass, and what it owes to the encoder.

        The image decoder then keeps nothing while texts are read. Its weights have their gradient when `forward`
        returns, so the total must be what is minimised, once for each step.
        """
        if not (self.settles_early and torch.is_grad_enabled()):
            return self._volume_losses(batch, encoded), None
        cut = Cut(encoded.tokens)
        losses = self._volume_losses(batch, Encoded(cut.copy, encoded.masking))
        owed = cut.settle(self._with_total(losses)["total"])
        return {name: value.detach() for name, value in losses.items()}, owed

    def _volume_losses(self, batch: TensorMap, encoded: Encoded) -> dict[str, Tensor]:
        config, patch = self.config, self.config.vision.patch_size
        losses: dict[str, Tensor] = {}
        if max(config.weights.reconstruction, config.weights.injection) == 0:
            return losses
        decoded = self.decode(encoded, "hidden" if config.weights.reconstruction > 0 else "none")
        if decoded.voxels is not None:
            hidden = encoded.masking.hidden
            target = take_patches(self.split(batch["image"]), patch, encoded.masking.unseen)
            losses["reconstruction"] = hidden_voxel_loss(decoded.voxels, target, hidden.numel())
        if config.weights.injection > 0:
            fractions = class_fractions(batch["organ_mask"], config.classes, patch)
            logits = decoded.anatomy_logits
            is_balanced = config.fixes.balanced_injection
            losses["injection"] = (
                balanced_injection_loss(logits, fractions, self.count)
                if is_balanced
                else injection_loss(logits, fractions)
            )
        return losses

    def _with_total(self, losses: dict[str, Tensor], owed: Tensor | None = None) -> dict[str, Tensor]:
        """The losses and their weighted sum; owed: a 0 that carries the gradient of those that are settled."""
        zero = next(iter(losses.values())).new_zeros(()) if losses else self.cls_token.new_zeros(())
        start = zero if owed is None else owed
        total = sum((getattr(self.config.weights, name) * value for name, value in losses.items()), start)
        return losses | {"total": total}

    def _text_losses(self, batch: TensorMap, encoded: Encoded, aligned: Aligned) -> dict[str, Tensor]:
        weights, losses = self.config.weights, {}
        with torch.autocast(aligned.patches.device.type, enabled=False):
            if weights.alignment > 0:
                logits = alignment_logits(aligned.sentences, aligned.selection.regions, self.config.temperature)
                losses["alignment"] = alignment_loss(
                    logits, aligned.valid, self.config.fixes.padding_masked, self.count
                )
            if weights.study > 0:
                losses["study"] = self._study_loss(batch["findings_ids"], aligned)
            if weights.grounding > 0 and "sentence_target" in batch:
                losses["grounding"] = self._grounding_loss(batch, aligned)
            if weights.questions > 0 and "asked_target" in batch:
                losses["questions"] = self._question_loss(batch, aligned)
            if weights.size_prior > 0:
                losses["size_prior"] = size_prior_loss(aligned.size_logit, aligned.valid, self.count)
        if weights.language > 0:
            losses["language"] = self._language_loss(batch, encoded, aligned)
        return losses

    def _study_loss(self, ids: Tensor, aligned: Aligned) -> Tensor:
        """Mean patch against mean sentence over the studies, of all processes, that have a sentence."""
        counted = aligned.valid[..., None].float()
        reports = (aligned.sentences * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
        told = aligned.valid.any(dim=1)
        mode: GatherMode = "full_grad" if self.config.fixes.counted_together else "none"
        gather = plan_gather(int(told.sum()), mode, ids.device)
        volumes, reports = gather(aligned.patches.mean(dim=1)[told]), gather(reports[told])
        keys = gather(report_keys(ids)[told])
        if len(keys) < 2:  # nothing to tell apart
            return volumes.sum() * 0.0
        return study_contrast_loss(volumes, reports, keys[:, None] == keys, self.config.temperature)

    def _grounding_loss(self, batch: TensorMap, aligned: Aligned) -> Tensor:
        """Cosines against true regions, on the patches that the alignment saw."""
        cosine = aligned.selection.cosine
        slots = min(cosine.shape[1], batch["sentence_target"].shape[1])  # a batch may pad one further than the other
        cosine, target = cosine[:, :slots], batch["sentence_target"][:, :slots]
        valid = batch["sentence_target_valid"][:, :slots] & aligned.valid[:, :slots]
        present = target.any(dim=-1)
        target = target.gather(2, repeat(aligned.places, "b v -> b s v", s=slots))
        valid = valid & (target.any(dim=-1) == present)  # a region that is hidden is not one that is absent
        terms, loss = self.config.grounding_terms, cosine.new_zeros(())
        if terms != "presence":
            loss = loss + region_softmax_loss(cosine, target, valid, self.config.temperature, self.count)
        if terms != "softmax":
            loss = loss + region_presence_loss(self.presence_logits(cosine), target, valid, self.count)
        return loss

    def _question_loss(self, batch: TensorMap, aligned: Aligned) -> Tensor:
        """Claims read alone, as an engine reads them; they are no sentences of the report and align with nothing."""
        asked = batch["asked_valid"]
        sentences = aligned.patches.new_zeros(*asked.shape, aligned.patches.shape[-1])
        if bool(asked.any()):
            vectors = self.embed_sentences(batch["asked_ids"][asked], batch["asked_attn"][asked])
            sentences = sentences.masked_scatter(asked[..., None], vectors)
        cosine = cosine_to_patches(sentences, aligned.patches)
        target = batch["asked_target"]
        is_true = target.any(dim=-1)
        target = target.gather(2, repeat(aligned.places, "b v -> b q v", q=asked.shape[1]))
        seen = asked & (target.any(dim=-1) == is_true)
        return question_loss(self.presence_logits(cosine), target, seen, self.count)

    def _language_loss(self, batch: TensorMap, encoded: Encoded, aligned: Aligned) -> Tensor:
        """Cross-entropy of the report's tokens; the vocabulary is only computed where it counts."""
        states = self.fuse(batch, encoded, aligned.selection.regions, aligned.valid)
        predictions, is_everywhere = self.bert_decoder.cls.predictions, not self.config.fixes.language_on_masked_only
        if is_everywhere:
            labels = batch["report_ids"].flatten()
            return mean_over_words(predictions.sum_losses(states.flatten(0, 1), labels), len(labels))
        counted = batch["mlm_labels"] >= 0
        labels = batch["mlm_labels"][counted]
        return mean_over_words(predictions.sum_losses(states[counted], labels), len(labels), self.count)


def study_vector(projected: Tensor) -> Tensor:
    """Unit vector of whole volumes from projected patches (B, V, D) -> (B, D); what the study contrast compares."""
    return F.normalize(projected.mean(dim=1), dim=-1)
