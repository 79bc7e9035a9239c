"""ASAP's training step with the published code's way of computing, to measure ours against.

Same layers, shapes, weights and losses as `ASAP` with the released preset, and the same numbers; only how they are
reached differs, as specified from the published code: one convolution per patch, int64 one-hot anatomy labels,
a voxel mask built for the whole volume, regions gathered from an expanded copy of the patches for every sentence and a
token-by-patch similarity map that nothing reads, word logits of the frozen text encoder on both texts, attention of the
fusion layer and the BERTs with its probabilities kept, plain linear layers, and AdamW tensor by tensor.
"""

from collections.abc import Mapping

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

import core.models.bert
from core.models.asap import ASAP, Aligned
from core.models.linear import Linear
from core.models.losses import injection_loss
from core.models.mae import Encoded, patchify, unpatchify
from core.models.selection import Selection, cosine_to_patches, patch_counts
from core.models.text import TextEncoder


def attend_openly(query: Tensor, key: Tensor, value: Tensor, key_is_real: Tensor | None, dropout: float) -> Tensor:
    """Attention of heads (B, H, N, d) with its probabilities (B, H, N, M) in memory."""
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if key_is_real is not None:
        scores = scores + (~key_is_real[:, None, None, :]) * torch.finfo(scores.dtype).min
    return F.dropout(scores.softmax(dim=-1), dropout) @ value


class PublishedStep(ASAP):
    """`ASAP` with forward passes as the published code takes them."""

    def embed_patches(self, images: Tensor) -> Tensor:
        """Each patch is a volume of its own to the convolution."""
        px, py, pz = self.vision.patch_size
        cut = rearrange(images, "b c (x px) (y py) (z pz) -> (b x y z) c px py pz", px=px, py=py, pz=pz)
        patches = self.patch_embed.proj(cut.contiguous()).flatten(1)
        return rearrange(patches, "(b l) d -> b l d", b=len(images)) + self.pos_embed[:, 1:]

    def _volume_losses(self, batch: Mapping[str, Tensor], encoded: Encoded) -> dict[str, Tensor]:
        patch, grid = self.config.vision.patch_size, self.config.vision.grid
        decoded = self.decode(encoded)
        assert decoded.voxels is not None
        volume = unpatchify(decoded.voxels, patch, grid)
        hidden = encoded.masking.hidden.float().view(-1, 1, *grid)
        mask = torch.kron(hidden, torch.ones(1, 1, *patch, device=hidden.device))
        gap = ((volume - batch["image"]) ** 2 * mask).mean()
        labels = patchify(batch["organ_mask"][:, None].long(), patch)
        shares = F.one_hot(labels, self.config.classes).float().mean(dim=2)
        return {"reconstruction": gap, "injection": injection_loss(decoded.anatomy_logits, shares)}

    def read_findings(self, ids: Tensor, attn: Tensor) -> Tensor:
        """States of the findings as long as the text encoder takes them, padding included, and unused word logits."""
        padding = self.config.text.positions - ids.shape[1]
        states = self.bert_encoder(F.pad(ids, (0, padding)), F.pad(attn, (0, padding)))
        self.bert_encoder.cls(states)
        return states[:, : ids.shape[1]]

    def align(self, batch: Mapping[str, Tensor], encoded: Encoded) -> Aligned:
        """As in `ASAP`, with regions gathered from copies."""
        aligned = super().align(batch, encoded)
        return aligned._replace(selection=self._select(aligned.sentences, aligned.patches, aligned.size_logit))

    def _select(self, sentences: Tensor, patches: Tensor, size_logit: Tensor) -> Selection:
        cosine = cosine_to_patches(sentences, patches)
        counts = patch_counts(size_logit, self.size_rule)
        most = int(counts.max())
        best = cosine.topk(most, dim=-1).indices
        copies = repeat(patches, "b v d -> b s v d", s=sentences.shape[1])
        chosen = copies.gather(2, repeat(best, "b s k -> b s k d", d=patches.shape[2]))
        within = (torch.arange(most) < counts[..., None])[..., None]
        return Selection(cosine, cosine, (chosen * within).sum(dim=2) / counts[..., None])

    def fuse(self, batch: Mapping[str, Tensor], encoded: Encoded, regions: Tensor, valid: Tensor) -> Tensor:
        """As in `ASAP`, with the text encoder's unused word logits."""
        hook = self.bert_encoder.register_forward_hook(_read_words)
        try:
            return super().fuse(batch, encoded, regions, valid)
        finally:
            hook.remove()


def _read_words(encoder: TextEncoder, _given: object, states: Tensor) -> None:
    encoder.cls(states)


def compute_as_published() -> None:
    """Let this process's BERTs keep their attention probabilities, and linear layers take PyTorch's usual library."""
    core.models.bert.attend = attend_openly
    Linear.forward = nn.Linear.forward  # type: ignore[method-assign]
    Linear.of_gelu = lambda self, values: nn.Linear.forward(self, F.gelu(values))  # type: ignore[method-assign]
