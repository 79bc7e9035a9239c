"""ASAP's training step as the published code computes it, to measure ours against.

The weights, layers and losses of `ASAP` with the released preset, and the same numbers; how they are reached follows
the published code place by place (ASAP spec 2, 3 and 7.2) and shares no forward pass with `core.models`, so that what
is made faster there stays slow here. Where that code hands work to a library the fast path of its pinned versions is
taken, as it would be: fused attention in timm's blocks and in the BERTs of transformers.
"""

from collections.abc import Mapping

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from core.models.asap import ASAP
from core.models.asap_config import ASAPConfig
from core.models.bert import BertLayer, FeatureHead, MlmHead, ResidualOutput, SelfAttention, initialise_bert
from core.models.fusion import FusionLayer
from core.models.vit import Block


class PublishedStep(ASAP):
    """`ASAP` with the published forward pass."""

    def __init__(self, config: ASAPConfig) -> None:
        super().__init__(config)
        if not config.fixes.no_unused_weights:  # there they start as numbers, as all others do
            self.bert_decoder.bert.apply(initialise_bert)
            self.bert_topk_mlp.apply(initialise_bert)
            self.bert_encoder.cls.predictions.transform.apply(initialise_bert)
            self.bert_encoder.cls_projection_head.apply(initialise_bert)

    def forward(self, batch: Mapping[str, Tensor], noise: Tensor | None = None) -> dict[str, Tensor]:
        """Losses by name and `total`, as `ASAP.forward`."""
        images = batch["image"]
        noise = torch.rand(len(images), self.config.vision.patches) if noise is None else noise
        latent, hidden, restore = self._encode(images, noise)
        findings = self._read(batch["findings_ids"], batch["findings_attn"])  # all 512 places, padding included
        report = self._read(batch["mlm_in"], batch["report_attn"])
        alignment, regions = self._align(latent, findings, batch["findings_sent"].long())
        voxels, anatomy = self._decode(latent, restore)
        losses = self._volume_losses(images, batch["organ_mask"], voxels, anatomy, hidden)
        losses["alignment"] = alignment
        losses["language"] = self._language_loss_of(latent, report, regions, batch)
        return losses | {"total": torch.stack(list(losses.values())).sum()}

    # -------------------------------------------------------------------- volumes

    def _encode(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (B, 1 + V, D), 1 = hidden (B, L) float32, and the places of all patches (B, L)."""
        cut = self._cut(images)
        volumes = cut.reshape(-1, *self.vision.patch_size, 1).permute(0, 4, 1, 2, 3).contiguous()
        patches = self.patch_embed.proj(volumes).flatten(1).reshape(len(images), cut.shape[1], -1)  # one by one
        patches = patches + self.pos_embed[:, 1:]
        order = noise.argsort(dim=1)
        restore = order.argsort(dim=1)
        visible = int(noise.shape[1] * (1 - self.config.mask_ratio))
        keep = repeat(order[:, :visible], "b v -> b v d", d=patches.shape[2])
        hidden = torch.ones_like(noise)
        hidden[:, :visible] = 0
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(images), -1, -1)
        tokens = torch.cat([cls, patches.gather(1, keep)], dim=1)
        for block in self.blocks:
            tokens = _pass_block(block, tokens)
        return self.norm(tokens), hidden.gather(1, restore), restore

    def _decode(self, latent: Tensor, restore: Tensor) -> tuple[Tensor, Tensor]:
        """Voxels (B, L, P) and anatomy logits (B, L, C) of all patches, hidden or not."""
        seen = _apply(self.decoder_embed, latent)
        missing = self.mask_token.repeat(len(seen), restore.shape[1] + 1 - seen.shape[1], 1)
        filled = torch.cat([seen[:, 1:], missing], dim=1)
        filled = filled.gather(1, repeat(restore, "b l -> b l d", d=seen.shape[2]))
        tokens = torch.cat([seen[:, :1], filled], dim=1) + self.decoder_pos_embed
        outputs = []
        for block in self.decoder_blocks:
            tokens = _pass_block(block, tokens)
            outputs.append(tokens)
        narrow = _apply(self.decoder_injection_pred_layer_0, outputs[self.decoder.injection_block][:, 1:])
        narrow = F.relu(self.decoder_injection_pred_norm(narrow), inplace=True)
        anatomy = _apply(self.decoder_injection_pred_layer_1, narrow)
        return _apply(self.decoder_pred_layer, self.decoder_norm(tokens[:, 1:])), anatomy

    def _volume_losses(  # type: ignore[override]
        self, images: Tensor, labels: Tensor, voxels: Tensor, anatomy: Tensor, hidden: Tensor
    ) -> dict[str, Tensor]:
        """The reconstruction over the whole volume times a voxel mask, and class shares by an int64 one-hot."""
        grid, patch = self.vision.grid, self.vision.patch_size
        mask = torch.kron(hidden.reshape(-1, *grid), torch.ones(patch))[:, None]
        volume = self._uncut(voxels)
        reconstruction = F.mse_loss(volume * mask, images * mask)
        counts = F.one_hot(self._cut(labels[:, None]).long(), self.config.classes).sum(dim=2)
        shares = counts / counts.sum(dim=2, keepdim=True)
        injection = F.binary_cross_entropy_with_logits(anatomy, shares)
        return {"reconstruction": reconstruction, "injection": injection}

    def _cut(self, volumes: Tensor) -> Tensor:
        """(B, 1, X, Y, Z) -> (B, L, P)."""
        px, py, pz = self.vision.patch_size
        return rearrange(volumes, "b 1 (x px) (y py) (z pz) -> b (x y z) (px py pz)", px=px, py=py, pz=pz).contiguous()

    def _uncut(self, patches: Tensor) -> Tensor:
        """(B, L, P) -> (B, 1, X, Y, Z)."""
        (x, y, _), (px, py, pz) = self.vision.grid, self.vision.patch_size
        cut = "b (x y z) (px py pz) -> b 1 (x px) (y py) (z pz)"
        return rearrange(patches, cut, x=x, y=y, px=px, py=py, pz=pz).contiguous()

    # ---------------------------------------------------------------------- texts

    def _read(self, ids: Tensor, is_real: Tensor) -> Tensor:
        """Last states (B, T, D) of the frozen text encoder, whose word logits are computed for nobody."""
        parts = self.bert_encoder.bert.embeddings
        states = parts.word_embeddings(ids) + parts.position_embeddings.weight[: ids.shape[1]]
        if parts.token_type_embeddings is not None:
            states = states + parts.token_type_embeddings(torch.zeros_like(ids))
        states = F.dropout(parts.LayerNorm(states), parts.dropout.p, parts.training)
        for layer in self.bert_encoder.bert.encoder.layer:
            states = _pass_layer(layer, states, _mask(is_real))
        if hasattr(self.bert_encoder, "cls"):
            _guess_words(self.bert_encoder.cls, states)
        return states

    def _align(self, latent: Tensor, findings: Tensor, sentence_of_token: Tensor) -> tuple[Tensor, Tensor]:
        """The alignment loss, and the regions (B, S, D) of all slots, gathered from copies for every sentence."""
        patches = _project(self.finding_align_img_mlp, latent[:, 1:])
        words, slot = _project(self.align_text_mlp, findings[:, 1:]), sentence_of_token[:, 1:]
        sentences = _mean_by_slot(words, slot)
        exponent = 3 * _apply(self.regression_head, sentences)[..., 0].sigmoid() + self.config.log2_size_min
        counts = 2 ** exponent.int()
        most = int(counts.max())
        unit = patches / patches.norm(dim=-1, keepdim=True)
        cosine = sentences / (sentences.norm(dim=-1, keepdim=True) + 1e-8) @ unit.transpose(1, 2)
        best, places = cosine.topk(most, dim=2)
        copies = repeat(patches, "b v d -> b s v d", s=sentences.shape[1])
        chosen = copies.gather(2, repeat(places, "b s k -> b s k d", d=patches.shape[2]))
        within = torch.arange(most) < counts[..., None]
        regions = (chosen * within[..., None].int()).sum(dim=2) / counts[..., None]
        _similarity_map(best * within, places, slot, patches.shape[1])
        return _contrast(sentences, regions, slot, self.config.temperature), regions

    def _language_loss_of(self, latent: Tensor, report: Tensor, regions: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean cross-entropy over all places, padding included."""
        patches = _apply(self.bert_mlp, latent[:, 1:])
        memory = torch.cat([self.config.region_share * regions.mean(dim=1, keepdim=True), patches], dim=1)
        states, mask = _project(self.bert_feature_proj, report), _mask(batch["report_attn"])
        body = self.bert_decoder.bert
        states = _pass_fusion(body.fusion_layer, states, mask, memory, patches.mean(dim=1, keepdim=True))
        for layer in body.encoder.layer:
            states = _pass_layer(layer, states, mask)
        logits = _guess_words(self.bert_decoder.cls, states)
        return F.cross_entropy(logits.flatten(0, 1), batch["report_ids"].flatten(), reduction="none").mean()


def _apply(layer: nn.Linear, values: Tensor) -> Tensor:
    """PyTorch's own linear layer, whichever class holds the weights."""
    return F.linear(values, layer.weight, layer.bias)


def _mask(is_real: Tensor) -> Tensor:
    """What transformers adds to attention scores: (B, 1, T, T), 0 or the lowest number."""
    lowest = torch.finfo(torch.float32).min
    return torch.where(is_real.bool(), 0.0, lowest)[:, None, None, :].expand(-1, -1, is_real.shape[1], -1)


def _heads(states: Tensor, heads: int) -> Tensor:
    return rearrange(states, "b n (h d) -> b h n d", h=heads)


def _pass_block(block: nn.Module, tokens: Tensor) -> Tensor:
    """timm's pre-norm block: every intermediate is kept for the backward pass."""
    assert isinstance(block, Block)
    qkv = _apply(block.attn.qkv, block.norm1(tokens))
    query, key, value = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=block.attn.heads)
    mixed = rearrange(F.scaled_dot_product_attention(query, key, value), "b h n d -> b n (h d)")
    tokens = tokens + _apply(block.attn.proj, mixed)
    return tokens + _apply(block.mlp.fc2, F.gelu(_apply(block.mlp.fc1, block.norm2(tokens))))


def _finish(part: ResidualOutput, states: Tensor, residual: Tensor) -> Tensor:
    return part.LayerNorm(F.dropout(_apply(part.dense, states), part.dropout.p, part.training) + residual)


def _attend(part: SelfAttention, states: Tensor, memory: Tensor, mask: Tensor, fused: bool) -> Tensor:
    """Attention of a BERT: fused as in transformers, or with scores and probabilities written out."""
    query = _heads(_apply(part.query, states), part.heads)
    key, value = (_heads(_apply(layer, memory), part.heads) for layer in (part.key, part.value))
    share = part.dropout if part.training else 0.0
    if fused:
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=share)
    else:
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + mask
        mixed = F.dropout(scores.softmax(dim=-1), share) @ value
    return rearrange(mixed, "b h n d -> b n (h d)")


def _pass_layer(layer: nn.Module, states: Tensor, mask: Tensor) -> Tensor:
    assert isinstance(layer, BertLayer)
    mixed = _attend(layer.attention.self, states, states, mask, fused=True)
    states = _finish(layer.attention.output, mixed, states)
    return _finish(layer.output, F.gelu(_apply(layer.intermediate.dense, states)), states)


def _pass_fusion(layer: FusionLayer, states: Tensor, mask: Tensor, memory: Tensor, overview: Tensor) -> Tensor:
    """Self-attention, cross-attention written out with an empty mask, feed-forward."""
    mixed = _attend(layer.attention.self, states, states, mask, fused=True)
    states = _finish(layer.attention.output, mixed, states)
    everywhere = torch.zeros(len(memory), 1, 1, memory.shape[1])
    context = _attend(layer.cross_self_attention, states, memory, everywhere, fused=False)
    states = _finish(layer.out_layer, context + _apply(layer.gap_mlp, overview), states)
    return _finish(layer.output, F.gelu(_apply(layer.intermediate.dense, states)), states)


def _guess_words(head: MlmHead, states: Tensor) -> Tensor:
    transform = head.predictions.transform
    states = transform.LayerNorm(F.gelu(_apply(transform.dense, states)))
    return _apply(head.predictions.decoder, states)


def _project(head: FeatureHead, states: Tensor) -> Tensor:
    return _apply(head.dense_to_output, head.LayerNorm(F.gelu(_apply(head.dense_to_hidden, states))))


def _mean_by_slot(words: Tensor, slot: Tensor) -> Tensor:
    """Mean vector of each sentence by scattering its tokens: (B, T, D), slot (B, T) 0..S -> (B, S, D)."""
    sums = words.new_zeros(len(words), int(slot.max()) + 1, words.shape[2])
    counts = words.new_zeros(len(words), sums.shape[1], 1)
    sums = sums.scatter_add(1, repeat(slot, "b t -> b t d", d=words.shape[2]), words)
    counts = counts.scatter_add(1, slot[..., None], torch.ones_like(words[..., :1]))
    return (sums / counts.clamp(min=1))[:, 1:]


def _similarity_map(best: Tensor, places: Tensor, slot: Tensor, patches: int) -> Tensor:
    """The map (B, T, V) of tokens and the patches their sentence chose, which nothing reads."""
    spread = best.new_zeros(*best.shape[:2], patches).scatter_add(2, places, best)
    spread = F.pad(spread, (0, 0, 1, 0))  # slot 0: no sentence
    return 0.02 * spread.gather(1, repeat(slot, "b t -> b t v", v=patches)).detach()


def _contrast(sentences: Tensor, regions: Tensor, slot: Tensor, temperature: float) -> Tensor:
    logits = F.normalize(sentences, dim=-1) @ F.normalize(regions, dim=-1).transpose(1, 2) / temperature
    own = torch.arange(logits.shape[1]).expand(len(logits), -1)
    valid = own < slot.max(dim=1).values[:, None]
    rows, columns = (F.cross_entropy(way, own, reduction="none") for way in (logits, logits.transpose(1, 2)))
    return rows[valid].mean() + columns[valid].mean()
