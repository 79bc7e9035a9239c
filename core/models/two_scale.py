"""ASAP at two scales: patches that know the chest, and cells of a few voxels in which each sentence is found.

All of ASAP's losses stay on the patches. The transformer's tokens enter a convolutional pyramid, which gives every
cell a unit vector; a sentence, read alone as an engine reads it, has one too. Its score in a cell is the mean of two
cosines, of cells of 2 voxels and of cells of 4.
"""

import math

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.asap import ASAP, TensorMap
from core.models.asap_config import ASAPConfig
from core.models.bert import FeatureHead
from core.models.claim_losses import ClaimLosses, anatomy_loss, claim_losses
from core.models.losses import TINY
from core.models.mae import draw_noise, patchify
from core.models.pyramid import CELL, Cells, Pyramid
from core.models.text import mean_state
from core.models.text_cache import SentenceMemory
from core.models.vit import Size3, initialise_linear

TINY_LENGTH = 1e-6
"""Keeps the direction of a vector of length 0 at 0."""
ABSENT_KINDS = 4
"""Kinds of finding that are not there and are asked about, drawn anew for each study and step."""

TRAIT_DROPOUT = 0.1


def build_asap(config: ASAPConfig) -> ASAP:
    """The model of a config: with a pyramid, or patches alone."""
    return ASAP(config) if config.pyramid is None else TwoScaleASAP(config)


class TwoScaleASAP(ASAP):
    """ASAP with a `Pyramid`; images come with one channel, or split into windows."""

    def __init__(self, config: ASAPConfig) -> None:
        super().__init__(config)
        if config.pyramid is None:
            raise ConfigError("A model of two scales needs a pyramid in its config; ASAP itself has none.")
        self.cells = config.pyramid
        self.pyramid = Pyramid(config.pyramid, config.vision.channels, config.vision.width)
        self._claim_fields = ("asked_ids", "asked_attn", *(("asked_traits",) if config.pyramid.traits else ()))
        self.claim_head = FeatureHead(config.text.width + config.pyramid.traits, config.pyramid.embed)
        self.claim_head.apply(initialise_linear)
        self.claim_scale = nn.Parameter(torch.tensor(12.0))
        self.claim_bias = nn.Parameter(torch.tensor(-4.0))
        self.sentence_memory = SentenceMemory(self.bert_encoder) if config.text_frozen else None

    # ------------------------------------------------------------------ inference

    def embed_patches(self, images: Tensor) -> Tensor:
        """As a product of patches and weights: for patches of 16 voxels that is far faster than a convolution."""
        images, kernel = self.split(images), self.patch_embed.proj
        weight = rearrange(kernel.weight, "d c x y z -> d (x y z c)")
        code = self._positions(tuple(n // p for n, p in zip(images.shape[2:], self.vision.patch_size, strict=True)))
        return F.linear(patchify(images, self.vision.patch_size), weight, kernel.bias) + code[:, 1:]

    def look(self, images: Tensor) -> tuple[Tensor, Cells]:
        """Patch tokens (B, gx, gy, gz, D) after the last norm, and the cells that know them; nothing is hidden."""
        images = self.split(images)
        seen = self.pyramid.descend(images)
        patches = self.embed_patches(images) + rearrange(seen.patches, "b d x y z -> b (x y z) d")
        x, y, _ = seen.patches.shape[2:]
        tokens = rearrange(self.norm(self.run_blocks(patches))[:, 1:], "b (x y z) d -> b x y z d", x=x, y=y)
        return tokens, self.pyramid.rise(seen, tokens)

    def encode_patches(self, images: Tensor) -> Tensor:
        return self.look(images)[0]

    def embed_cells(self, cells: Cells) -> Tensor:
        """Unit vectors (B, x, y, z, E) of cells of 2 voxels; products with those of sentences are scores."""
        fine = F.normalize(cells.fine.float(), dim=1, eps=TINY_LENGTH)
        middle = F.normalize(cells.middle.float(), dim=1, eps=TINY_LENGTH)
        middle = repeat(middle, "b e x y z -> b (x p) (y q) (z r) e", p=2, q=2, r=2)
        return torch.cat([rearrange(fine, "b e x y z -> b x y z e"), middle], dim=-1) * math.sqrt(0.5)

    def embed_claims(self, ids: Tensor, attn: Tensor, traits: Tensor | None = None) -> Tensor:
        """Unit vectors (S, E) of sentences that are read alone.

        ids (S, T) int64, attn (S, T) bool, [CLS] first; traits (S, V) float32, what `core.report.traits` says of them,
        for a model with traits.
        """
        read = self.sentence_memory.read if self.sentence_memory is not None else self.read_sentences
        states = read(ids, attn)
        with torch.autocast(states.device.type, enabled=False):
            told = states.float()
            if traits is not None:  # some are left out in training: a parser misses some of what is said
                told = torch.cat([told, F.dropout(traits, TRAIT_DROPOUT, self.training)], dim=1)
            fine, middle = self.claim_head(told).split([self.cells.fine, self.cells.middle], dim=-1)
            parts = [F.normalize(part, dim=-1, eps=TINY_LENGTH) for part in (fine, middle)]
        return torch.cat(parts, dim=-1) * math.sqrt(0.5)

    def read_sentences(self, ids: Tensor, attn: Tensor) -> Tensor:
        """Mean token state (S, W) of each sentence, [CLS] left out."""
        return mean_state(self.bert_encoder(ids, attn), attn)

    def claim_logits(self, score: Tensor) -> Tensor:
        """Trained yes or no of a score."""
        return self.claim_scale * score + self.claim_bias

    # ------------------------------------------------------------------- training

    def forward(self, batch: TensorMap, noise: Tensor | None = None) -> dict[str, Tensor]:
        """Losses by name and their weighted `total`, as `ASAP.forward`, and those of the cells."""
        config = self.config
        batch = {**batch, "image": self.split(batch["image"])}
        images = batch["image"]
        noise = draw_noise(batch, config.vision.patches) if noise is None else noise
        encoded = self.encode_visible(images, noise, config.mask_ratio)
        losses, owed = self._first_losses(batch, encoded)
        tokens, cells = self.look(images)
        if self._needs_alignment():
            patches = rearrange(tokens, "b x y z d -> b (x y z) d")
            places = torch.arange(patches.shape[1], device=images.device).expand(len(images), -1)
            losses |= self._text_losses(batch, encoded, self.align(batch, encoded, (patches, places)))
        with torch.autocast(images.device.type, enabled=False):
            losses |= self._claim_losses(batch, cells) | self._anatomy_losses(batch, cells)
        return self._with_total(losses, owed)

    def scores(self, rows: tuple[Tensor, Tensor], grid: Size3, claims: Tensor) -> Tensor:
        """Scores (Q, M) of claims (Q, E) in the cells of one study, counted x-major.

        The same as products with `embed_cells`, but no unit vector of a cell is ever made. rows: what the pyramid says
        of cells of 2 voxels (M, E1) and of 4 (M/8, E2); grid: of the latter.
        """
        x, y, z = grid
        fine, middle = claims.split([self.cells.fine, self.cells.middle], dim=-1)
        near, wide = _cosine(rows[0], fine), _cosine(rows[1], middle)
        wide = repeat(wide, "q (x y z) -> q (x p) (y r) (z s)", x=x, y=y, z=z, p=2, r=2, s=2)
        return (near + rearrange(wide, "q x y z -> q (x y z)")) * math.sqrt(0.5)

    def _claim_losses(self, batch: TensorMap, cells: Cells) -> dict[str, Tensor]:
        weights = self.config.weights
        if max(weights.place, weights.extent, weights.presence) == 0 or "region_cells" not in batch:
            return {}
        found, grid = [], cells.middle.shape[2:]
        rows = list(zip(_rows(cells.fine), _rows(cells.middle), strict=True))
        for study, asked in enumerate(batch["asked_valid"]):
            if not bool(asked.any()):
                continue
            claims = self.embed_claims(*(batch[name][study][asked] for name in self._claim_fields))
            score = self.scores(rows[study], (grid[0], grid[1], grid[2]), claims)
            share = shares_of(batch["region_cells"][study], batch["asked_region"][study][asked])
            found.append(claim_losses(self.claim_logits(score), score / self.config.temperature, share))
        return self._mean(found)

    def _anatomy_losses(self, batch: TensorMap, cells: Cells) -> dict[str, Tensor]:
        weights = self.config.weights
        losses: dict[str, Tensor] = {}
        if cells.anatomy is None:
            return losses
        told = [rows.split([self.cells.structures, self.cells.kinds], dim=1) for rows in _rows(cells.anatomy)]
        if weights.structures > 0 and "cell_class" in batch:
            every = slice(int(torch.randint(4, ())), None, 4)  # a quarter of the cells says nearly the same
            each = [
                anatomy_loss(structures[every].float(), classes[every])
                for (structures, _), classes in zip(told, batch["cell_class"], strict=True)
            ]
            losses["structures"] = torch.stack(each).mean()
        if weights.kinds > 0 and "kind_region" in batch:
            found = []
            for (_, kinds), regions, kind in zip(told, batch["region_cells"], batch["kind_region"], strict=True):
                asked = asked_kinds(kind)
                chosen = kinds[:, asked].float().T.contiguous()
                found.append(claim_losses(chosen, chosen, shares_of(regions, kind[asked])))
            means = self._mean(found)
            losses["kinds"] = 0.2 * means["place"] + means["extent"] + means["presence"]
        return losses

    def _mean(self, found: list[ClaimLosses]) -> dict[str, Tensor]:
        """The losses of all studies per claim; presence weighs true and false claims the same."""
        zero = self.claim_scale.new_zeros(())
        true, false = (
            self.count(zero + sum(getattr(one, name) for one in found)).clamp(min=TINY) for name in ("true", "false")
        )
        place, extent, missed, imagined = (
            sum((getattr(one, name) for one in found), zero) for name in ("place", "extent", "missed", "imagined")
        )
        return {"place": place / true, "extent": extent / true, "presence": (missed / true + imagined / false) / 2}


def shares_of(regions: Tensor, numbers: Tensor) -> Tensor:
    """Share of each cell inside chosen regions: regions (R, M) uint8 voxels per cell, numbers (Q,), below 0 = nowhere;
    (Q, M) float32."""
    share = torch.zeros(len(numbers), regions.shape[1], device=regions.device)
    there = numbers >= 0
    share[there] = regions[numbers[there].long()].float() / CELL**3
    return share


def asked_kinds(regions: Tensor) -> Tensor:
    """Numbers of the kinds that a study is asked about: all that are there and a few that are not.

    regions (K,) integer: -1 = not there, -2 = nobody knows.
    """
    there = (regions >= 0).nonzero()[:, 0]
    absent = (regions == -1).nonzero()[:, 0]
    drawn = absent[torch.randperm(len(absent))[:ABSENT_KINDS].to(absent.device)]
    return torch.cat([there, drawn])


def _rows(cells: Tensor) -> tuple[Tensor, ...]:
    """(B, E, x, y, z), channels last in memory, as B times (M, E) without a copy, also on the way back."""
    return rearrange(cells, "b e x y z -> b (x y z) e").unbind(0)


def _cosine(rows: Tensor, claims: Tensor) -> Tensor:
    """Products (Q, M) of claims (Q, E) with the directions of rows (M, E)."""
    rows = rows.float()
    return claims @ rows.T / rows.norm(dim=1).clamp(min=TINY_LENGTH)
