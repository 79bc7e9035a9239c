"""fVLM (arXiv 2501.14548): each organ of a CT compared with what its report says of that organ."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.models.abnormal_pairs import add_similar, mix_predictions
from core.models.checkpoint import rename_weight
from core.models.contrast import Gather, Temperature, plan_gather
from core.models.fvlm_config import FVLMConfig
from core.models.level_vit import LevelVisionTransformer3d
from core.models.organ_pool import QueryPool, organ_intact, organ_tokens
from core.models.organ_text import (
    Comparison,
    OrganLabels,
    compare,
    embed_organ_texts,
    organ_loss,
    plan_comparisons,
    require_organs,
    wanted_texts,
)
from core.models.text import TextEncoder

TensorMap = Mapping[str, Tensor]

PUBLISHED_NAMES: tuple[tuple[str, str], ...] = (
    (r"^temp$", "temperature.value"),
    (r"^(query_tokens$|attention\.|vision_projs\.)", r"pool.\1"),
    (r"^(visual_encoder\.)patch_embedding\.patch_embeddings\.", r"\1patch_embed.proj."),
    (r"^(visual_encoder\.)patch_embedding\.position_embeddings$", r"\1pos_embed"),
    (r"^(visual_encoder\.blocks\.\d+\.)attn\.out_proj\.", r"\1attn.proj."),
    (r"^(visual_encoder\.blocks\.\d+\.)mlp\.linear([12])\.", r"\1mlp.fc\2."),
    (r"^text_encoder\.", "text_encoder.bert."),
)
"""Patterns of names in the published file and what replaces them; the first that fits is taken, others stay."""

PUBLISHED_UNUSED = r"^text_encoder\.(cls\.|pooler\.|embeddings\.(position_ids$|token_type_embeddings\.))"
"""Names in the published file that nothing reads: the frozen language head, and token types that are never added."""


def rename_published(name: str) -> str | None:
    """Our name of a weight of the published file, None for one that nothing reads."""
    return rename_weight(name, PUBLISHED_NAMES, PUBLISHED_UNUSED)


class Lesson(NamedTuple):
    """What one step is about, for whichever model learns or teaches."""

    batch: TensorMap
    labels: OrganLabels
    comparisons: list[Comparison]
    gather: Gather


class TextTower(nn.Module):
    """Texts as unit vectors: encoder, first token, projection."""

    def __init__(self, config: FVLMConfig) -> None:
        super().__init__()
        self.config = config
        self.text_encoder = TextEncoder(config.text)
        self.text_proj = nn.Linear(config.text.width, config.embed)

    def embed_texts(self, ids: Tensor, attn: Tensor) -> Tensor:
        """Unit vectors (N, E) of texts: ids (N, T) int64, [CLS] first, attn (N, T) bool, True = real token."""
        return F.normalize(self.text_proj(self.text_encoder(ids, attn)[:, 0]), dim=-1)

    def embed_wanted(self, lesson: Lesson) -> Tensor:
        """Vectors (B, O, E) of the texts that are compared, zeros elsewhere."""
        wanted = wanted_texts(lesson.labels, lesson.comparisons)
        return embed_organ_texts(lesson.batch, wanted, self.embed_texts, self.config.texts_once)


class OrganTower(TextTower):
    """Both encoders, the organ pooling and the temperature: one fVLM without its losses."""

    def __init__(self, config: FVLMConfig) -> None:
        super().__init__(config)
        organs, width = len(config.organs), config.vision.width
        self.visual_encoder = LevelVisionTransformer3d(config.vision)
        self.pool = QueryPool(organs, width, config.embed, config.pool_heads, config.pool_dropout)
        self.temperature = Temperature(config.temperature)

    def encode_patches(self, images: Tensor) -> Tensor:
        """Patch tokens after the last norm: (B, 1, X, Y, Z) -> (B, gx, gy, gz, D)."""
        return self.visual_encoder.encode_patches(images)

    def flag_tokens(self, mask: Tensor) -> Tensor:
        """Patches that each organ touches: mask (B, X, Y, Z) of organ numbers -> (B, O, L) bool, L as the tokens'."""
        vision = self.config.vision
        return organ_tokens(vision.turn(mask), len(self.config.organs), vision.inner_patch)

    def pool_organs(self, images: Tensor, flags: Tensor) -> Tensor:
        """Organs' tokens of all levels pooled by their queries, before any projection: -> (B, O, D).

        images (B, 1, X, Y, Z), flags (B, O, L) bool. Zeros where an organ has no token.
        """
        levels = self.visual_encoder(images)
        return self.pool(torch.cat(levels, dim=1), flags.repeat(1, 1, len(levels)))

    def organ_embed(self, batch: TensorMap) -> Tensor:
        """Unit vectors (B, O, E) of the organs in `image` and `organ_mask`; meaningless where one is absent."""
        pooled = self.pool_organs(batch["image"], self.flag_tokens(batch["organ_mask"]))
        return torch.stack([self.pool.project(pooled[:, o], o) for o in range(pooled.shape[1])], dim=1)

    def similarities(self, lesson: Lesson) -> list[Tensor]:
        """Image x text over the temperature, (n, n), for each comparison."""
        flags = self.flag_tokens(lesson.batch["organ_mask"]) & lesson.labels.intact[..., None]
        pooled, texts = self.pool_organs(lesson.batch["image"], flags), self.embed_wanted(lesson)
        temperature = self.temperature()
        with torch.autocast(pooled.device.type, enabled=False):  # bf16 over 0.07 would be a coarse staircase
            images = {c.organ: self.pool.project(pooled[:, c.organ].float(), c.organ) for c in lesson.comparisons}
            return [
                compare(images[c.organ], texts[:, c.organ], c, lesson.gather, temperature) for c in lesson.comparisons
            ]


class FVLM(OrganTower):
    """The model with its losses. For co-teaching it holds a second tower, `twin`, and trains both in turn.

    A batch is a mapping with the tensors that `trainers.batch` lists; `forward` returns the losses by organ.
    """

    steps: Tensor

    def __init__(self, config: FVLMConfig) -> None:
        super().__init__(config)
        kind = config.abnormal.kind
        if kind in ("coteach", "ema_self"):
            self.twin = OrganTower(config)  # weights drawn anew: in co-teaching it must err differently
        elif kind == "text_ema":
            self.text_teacher = TextTower(config)
        if kind != "none":
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        if (slow := self._slow_copy()) is not None:
            slow.requires_grad_(False)

    def set_stage(self, _name: str) -> None:
        """Begin a training, of one stage only: copies start as what was loaded into this model's own parts."""
        if (slow := self._slow_copy()) is not None:
            _follow(slow, self, 0.0)
        elif self.config.abnormal.kind == "coteach" and self.config.abnormal.same_encoders:
            _follow(self.twin.visual_encoder, self.visual_encoder, 0.0)
            _follow(self.twin.text_encoder, self.text_encoder, 0.0)

    def forward(self, batch: TensorMap) -> dict[str, Tensor]:
        """Loss by organ, 0 for organs that are not compared in this step, and their sum as "total" (spec 5)."""
        lesson = self.plan(batch)
        student = self._student()
        losses = {organ: batch["image"].new_zeros(()) for organ in self.config.organs}
        if lesson.comparisons:
            logits = student.similarities(lesson)
            for comparison, own, targets in zip(lesson.comparisons, logits, self._targets(lesson), strict=True):
                loss = organ_loss(own, *targets)
                # Times 0 and not left out: processes that share shards must have gradients of the same weights.
                losses[self.config.organs[comparison.organ]] = loss if comparison.counts else loss * 0
        total = sum(losses.values(), batch["image"].new_zeros(()))
        if not total.requires_grad:  # nothing to learn here, but a loss must have a gradient: zeros
            total = total + student.text_proj.bias.sum() * 0
        return losses | {"total": total}

    def plan(self, batch: TensorMap) -> Lesson:
        """Which organs of which samples, of all processes, are compared with which targets."""
        config, mask = self.config, batch["organ_mask"]
        require_organs(batch, len(config.organs))
        intact = organ_intact(config.vision.turn(mask), len(config.organs))
        labels = OrganLabels(intact, batch["organ_abnormal"], batch["organ_text_id"])
        gather = plan_gather(len(mask), config.gather, mask.device)
        return Lesson(batch, labels, plan_comparisons(labels, gather, config.targets), gather)

    def after_step(self) -> None:
        """Change roles, or let the slow copy follow; the training loop calls it after every optimiser step."""
        if self.config.abnormal.kind != "none":
            self.steps += 1
        if (slow := self._slow_copy()) is not None:
            _follow(slow, self, self.config.abnormal.momentum)

    def _slow_copy(self) -> TextTower | None:
        """The part of this model that follows another part, if there is one."""
        kind = self.config.abnormal.kind
        if kind == "ema_self":
            return self.twin
        return self.text_teacher if kind == "text_ema" else None

    def _student(self) -> OrganTower:
        """Who learns in this step: the twin in every other one of co-teaching's."""
        takes_turns = self.config.abnormal.kind == "coteach" and self.training
        return self.twin if takes_turns and int(self.steps) % 2 else self

    def _share(self) -> float:
        """How much the other model's predictions count now."""
        pairs = self.config.abnormal
        return pairs.share * min(1.0, int(self.steps) / pairs.ramp_steps if pairs.ramp_steps else 1.0)

    def _targets(self, lesson: Lesson) -> Sequence[tuple[Tensor, Tensor]]:
        """Targets of image -> text and of text -> image for each comparison, corrected where that is switched on."""
        kind, plain = self.config.abnormal.kind, [(c.targets, c.targets) for c in lesson.comparisons]
        if kind == "none" or not self.training:
            return plain
        if kind == "text_ema":
            return [(t, t) for t in self._text_targets(lesson)]
        teacher, share = self.twin if self._student() is self else self, self._share()
        with torch.no_grad(), _evaluating(teacher):
            taught = teacher.similarities(lesson)
        return [
            (
                mix_predictions(c.targets, logits, c.abnormal, share),
                mix_predictions(c.targets, logits.T, c.abnormal, share),
            )
            for c, logits in zip(lesson.comparisons, taught, strict=True)
        ]

    @torch.no_grad()
    def _text_targets(self, lesson: Lesson) -> list[Tensor]:
        """Targets in which texts that the slow copy finds alike are positives."""
        with _evaluating(self.text_teacher):
            texts = self.text_teacher.embed_wanted(lesson).float()
        temperature = self.temperature.value
        alike = [
            compare(texts[:, c.organ], texts[:, c.organ], c, lesson.gather, temperature) for c in lesson.comparisons
        ]
        return [add_similar(c.targets, a, c.abnormal) for c, a in zip(lesson.comparisons, alike, strict=True)]


@torch.no_grad()
def _follow(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """theta' <- m theta' + (1 - m) theta, by name."""
    current = dict(fast.named_parameters())
    for name, parameter in slow.named_parameters():
        parameter.lerp_(current[name], 1 - momentum)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout."""
    was = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was)
