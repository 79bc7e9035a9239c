"""ViSD-Boost (arXiv 2508.03742): organs contrasted by sight, modelled when normal, then aligned with their texts.

Three stages, each with its own loss and its own frozen parts (`VISD.set_stage`). Inside, volumes lie (Z, Y, X) as in
the published weights; batches and results are (X, Y, Z).
"""

import copy
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.checkpoint import rename_weight
from core.models.contrast import TargetRule, Temperature, plan_gather
from core.models.fvlm import PUBLISHED_UNUSED
from core.models.normality_vq import NormalityVQ, Reconstruction
from core.models.organ_pool import organ_intact, organ_tokens
from core.models.organ_text import (
    OrganLabels,
    compare,
    embed_organ_texts,
    organ_loss,
    plan_comparisons,
    require_organs,
    wanted_texts,
)
from core.models.paired_pool import PairedPool
from core.models.text import TextEncoder
from core.models.token_sets import TokenSets, token_sets
from core.models.view_contrast import OrganQueue, Views, view_contrast
from core.models.visd_config import VISDConfig
from core.models.visd_encoders import LevelEncoder, build_encoder

TensorMap = Mapping[str, Tensor]

TRAINED: dict[str, tuple[str, ...]] = {
    "contrast": ("visual_encoder.", "pool.query_tokens", "pool.attention.", "pool.vision_projs.", "temperature."),
    "normality": ("normality.",),
    "alignment": ("visual_encoder.", "pool.", "text_encoder.", "text_proj.", "temperature."),
}
"""Beginnings of the names of the weights that train in each stage; all others are frozen."""

PUBLISHED_NAMES: tuple[tuple[str, str], ...] = (
    (r"^temp$", "temperature.value"),
    (r"^(query_tokens$|attention\.|vision_projs\.|res_projs[12]\.)", r"pool.\1"),
    (r"^(encoder|decoder|vq_layer|id_projs)\.", r"normality.\1."),
    (r"^text_encoder\.", "text_encoder.bert."),
)
"""Patterns of names in the two published files and what replaces them; the first that fits is taken, others stay."""


def rename_published(name: str) -> str | None:
    """Our name of a weight of the published files, None for one that nothing reads."""
    return rename_weight(name, PUBLISHED_NAMES, PUBLISHED_UNUSED)


class OrganTokens(NamedTuple):
    """Last-level tokens of every (sample, organ) pair that has any, each pair a set."""

    sets: TokenSets
    sample: Tensor  # (N,) int64
    organ: Tensor  # (N,) int64, 0-based
    place: Tensor  # (T,) int64, number of each token in its level

    def spread(self, values: Tensor, base: Tensor) -> Tensor:
        """Values (T, ...) put at their places into a copy of base (B, O, L, ...)."""
        owner = self.sets.owner
        return base.index_put((self.sample[owner], self.organ[owner], self.place), values.to(base.dtype))


class Described(NamedTuple):
    """What the model sees in the organs of a batch."""

    vectors: Tensor  # (B, O, E) unit vectors; meaningless where an organ is absent
    present: Tensor  # (B, O) bool, True = the organ has a token
    tokens: OrganTokens
    normal: Reconstruction


def take_organs(level: Tensor, flags: Tensor) -> OrganTokens:
    """Tokens of a level (B, L, D) by organ, flags (B, O, L) bool."""
    sample, organ = flags.any(dim=-1).nonzero(as_tuple=True)
    pair, place = flags[sample, organ].nonzero(as_tuple=True)
    return OrganTokens(token_sets(level[sample[pair], place], pair, len(sample)), sample, organ, place)


class Teacher(nn.Module):
    """A copy of encoder and pooling that follows them slowly, and what it saw last if that is wanted."""

    def __init__(self, visual_encoder: LevelEncoder, pool: PairedPool, config: VISDConfig) -> None:
        super().__init__()
        self.visual_encoder, self.pool = copy.deepcopy(visual_encoder), copy.deepcopy(pool)
        self.queue = OrganQueue(config.queue, len(config.organs), config.embed) if config.queue else None
        self.requires_grad_(False)

    @torch.no_grad()
    def follow(self, visual_encoder: LevelEncoder, pool: PairedPool, momentum: float) -> None:
        """theta' <- m theta' + (1 - m) theta; running statistics are its own."""
        for own, other in ((self.visual_encoder, visual_encoder), (self.pool, pool)):
            for mine, theirs in zip(own.parameters(), other.parameters(), strict=True):
                mine.lerp_(theirs, 1 - momentum)


class VISD(nn.Module):
    """The whole model; `published_names` maps its parameters to those of the published files."""

    def __init__(self, config: VISDConfig) -> None:
        super().__init__()
        self.config = config
        organs, width = len(config.organs), config.token_width
        self.visual_encoder = build_encoder(config)
        self.pool = PairedPool(organs, width, config.embed, config.pool_heads, config.pool_dropout)
        self.normality = NormalityVQ(config.normality, organs, width)
        self.text_encoder = TextEncoder(config.text)
        self.text_proj = nn.Linear(config.text.width, config.embed)
        self.temperature = Temperature(config.temperature)
        self.stage = "alignment"
        self.set_stage("alignment")

    # ---------------------------------------------------------------------- stages

    def set_stage(self, name: str) -> None:
        """Freeze and unfreeze for a stage; "contrast" begins with a teacher that equals the encoder."""
        if name not in TRAINED:
            raise ConfigError(f"ViSD-Boost has no stage {name!r}; expected one of {', '.join(TRAINED)}.")
        self.stage = name
        self.teacher = Teacher(self.visual_encoder, self.pool, self.config) if name == "contrast" else None
        for parameter_name, parameter in self.named_parameters():
            parameter.requires_grad_(parameter_name.startswith(TRAINED[name]))
        self.train(self.training)

    def end_stage(self) -> None:
        """Drop what only training needs: the weights are then those of the config, whichever stage ended."""
        self.set_stage("alignment")

    def train(self, mode: bool = True) -> "VISD":
        """Frozen parts stay in evaluation: no dropout, no running statistics, no codebook updates."""
        super().train(mode)
        trained = TRAINED[self.stage]
        for name, child in self.named_children():
            if not any(start.startswith(f"{name}.") for start in trained) and name != "teacher":
                child.eval()
        return self

    def after_step(self) -> None:
        """Let the teacher follow; the training loop calls it after every optimiser step."""
        if self.teacher is not None:
            self.teacher.follow(self.visual_encoder, self.pool, self.config.momentum)

    def forward(self, batch: TensorMap) -> dict[str, Tensor]:
        """Losses of the present stage by name, and "total"; fields as in `trainers.batch`."""
        loss_of = {"contrast": self._contrast, "normality": self._normality, "alignment": self._alignment}
        losses = loss_of[self.stage](batch)
        return losses | {"total": sum(losses.values(), batch["image"].new_zeros(()))}

    # ------------------------------------------------------------------- inference

    def encode_patches(self, images: Tensor) -> Tensor:
        """The encoder's last map, before any projection: (B, 1, X, Y, Z) -> (B, gx, gy, gz, C)."""
        return self.visual_encoder.encode_patches(images)

    def organ_embed(self, batch: TensorMap) -> Tensor:
        """Unit vectors (B, O, E) of the organs in `image` and `organ_mask`; meaningless where one is absent."""
        return self.describe(batch["image"], batch["organ_mask"]).vectors

    def embed_texts(self, ids: Tensor, attn: Tensor) -> Tensor:
        """Unit vectors (N, E) of texts: ids (N, T) int64, [CLS] first, attn (N, T) bool, True = real token."""
        return F.normalize(self.text_proj(self.text_encoder(ids, attn)[:, 0]), dim=-1)

    def anomaly_map(self, images: Tensor, mask: Tensor) -> Tensor:
        """How far each place of each organ is from normal: (B, 1, X, Y, Z), (B, X, Y, Z) -> (B, O, gx, gy, gz).

        ||X_l - Xhat_l|| in the space where the organ's features span [-1/2, 1/2]; 0 outside the organ.
        """
        encoder, turned = self.visual_encoder, self.visual_encoder.turn(mask)
        tokens = take_organs(encoder.last_level(images), self._flags(mask, None)[-1])
        grid = [n // step for n, step in zip(turned.shape[1:], encoder.strides[-1], strict=True)]
        empty = images.new_zeros(len(images), len(self.config.organs), math.prod(grid))
        found = tokens.spread(self.normality(tokens.sets, tokens.organ).anomaly, empty)
        return encoder.turn(found.unflatten(-1, grid))

    def organ_places(self, mask: Tensor) -> Tensor:
        """Which places of the last level touch which organ: (B, X, Y, Z) -> (B, O, gx, gy, gz) bool."""
        turned, step = self.visual_encoder.turn(mask), self.visual_encoder.strides[-1]
        grid = [n // s for n, s in zip(turned.shape[1:], step, strict=True)]
        return self.visual_encoder.turn(self._flags(mask, None)[-1].unflatten(-1, grid))

    def describe(self, images: Tensor, mask: Tensor, wanted: Tensor | None = None) -> Described:
        """Organs fused with what they would be if normal: images (B, 1, X, Y, Z), mask (B, X, Y, Z) of organ numbers.

        wanted (B, O) bool: organs that are looked at, all when not given.
        """
        levels, flags = self.visual_encoder(images), self._flags(mask, wanted)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.gradient_through_normal):
            tokens = take_organs(levels[-1], flags[-1])
            normal = self.normality(tokens.sets, tokens.organ)
        base = levels[-1][:, None].expand(-1, len(self.config.organs), -1, -1)
        pooled = self.pool.pool_levels(levels, flags, tokens.spread(normal.restored, base))
        return Described(self.pool.project_all(pooled), flags[-1].any(dim=-1), tokens, normal)

    def _flags(self, mask: Tensor, wanted: Tensor | None) -> list[Tensor]:
        """Which tokens of each level touch each organ: mask (B, X, Y, Z) -> (B, O, L) bool, False where not wanted."""
        turned, organs, strides = self.visual_encoder.turn(mask), len(self.config.organs), self.visual_encoder.strides
        of_stride = {stride: organ_tokens(turned, organs, stride) for stride in set(strides)}
        if wanted is not None:
            of_stride = {stride: flags & wanted[..., None] for stride, flags in of_stride.items()}
        return [of_stride[stride] for stride in strides]

    # ---------------------------------------------------------------------- losses

    def _contrast(self, batch: TensorMap) -> dict[str, Tensor]:
        """Stage 1: organs of one view against the teacher's of the other."""
        assert self.teacher is not None
        known = batch["organ_abnormal"] >= 0
        usable = self._intact(batch["organ_mask"]) & self._intact(batch["organ_mask_v2"]) & known
        online = self._embed_plainly(self, batch["image"], self._flags(batch["organ_mask"], usable))
        with torch.no_grad():
            momentum = self._embed_plainly(self.teacher, batch["image_v2"], self._flags(batch["organ_mask_v2"], usable))
        views = Views(online, momentum, usable, batch["organ_abnormal"] > 0)
        gather = plan_gather(len(usable), self.config.gather, usable.device)
        with torch.autocast(usable.device.type, enabled=False):  # bf16 over 0.07 would be a coarse staircase
            return {"contrast": view_contrast(views, self.temperature(), gather, self.teacher.queue)}

    def _normality(self, batch: TensorMap) -> dict[str, Tensor]:
        """Stage 2: restore the tokens of organs that are intact and known to be normal."""
        wanted = self._intact(batch["organ_mask"]) & (batch["organ_abnormal"] == 0)
        with torch.no_grad():
            level = self.visual_encoder.last_level(batch["image"])
            tokens = take_organs(level, self._flags(batch["organ_mask"], wanted)[-1])
        losses = self.normality.losses(self.normality(tokens.sets, tokens.organ), tokens.sets)
        counts = plan_gather(tokens.sets.number, self.config.gather, level.device).counts
        share = tokens.sets.number * len(counts) / max(1, sum(counts))  # the mean over processes is over all sets
        return {name: value * share for name, value in losses.items()}

    def _alignment(self, batch: TensorMap) -> dict[str, Tensor]:
        """Stage 3: fused organs against their texts, one loss an organ."""
        require_organs(batch, len(self.config.organs))
        labels = OrganLabels(self._intact(batch["organ_mask"]), batch["organ_abnormal"], batch["organ_text_id"])
        gather = plan_gather(len(labels.intact), self.config.gather, labels.intact.device)
        comparisons = plan_comparisons(labels, gather, TargetRule(self.config.normal_targets))
        wanted = wanted_texts(labels, comparisons)
        images = self.describe(batch["image"], batch["organ_mask"], wanted).vectors
        texts = embed_organ_texts(batch, wanted, self.embed_texts, self.config.texts_once)
        losses, temperature = dict.fromkeys(self.config.organs, images.sum() * 0), self.temperature()
        with torch.autocast(images.device.type, enabled=False):  # bf16 over 0.07 would be a coarse staircase
            for comparison in comparisons:
                organ = comparison.organ
                logits = compare(images[:, organ], texts[:, organ], comparison, gather, temperature)
                if comparison.counts:
                    losses[self.config.organs[organ]] = organ_loss(logits, comparison.targets)
        return losses

    def _intact(self, mask: Tensor) -> Tensor:
        return organ_intact(mask, len(self.config.organs))

    def _embed_plainly(self, part: "VISD | Teacher", images: Tensor, flags: list[Tensor]) -> Tensor:
        """Unit vectors (B, O, E) of organs as they are, with no normal version beside them."""
        levels = part.visual_encoder(images)
        return part.pool.project_all(part.pool.pool_levels(levels, flags))
