"""Tag names that ask an image's patches whether they are there: ASG's internal representation learning."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.errors import ConfigError

EPS = 1e-5
"""Epsilon of every LayerNorm of the decoder."""


@dataclass(frozen=True)
class TagDecoderConfig:
    """Sizes of the tag decoder; the defaults are ASG's."""

    layers: int = 4
    """Decoder layers."""
    heads: int = 4
    """Attention heads; must divide the encoder's width."""
    mlp_width: int = 1024
    """Hidden width of the feed-forward part."""
    dropout: float = 0.1
    """Dropout in every layer."""

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.mlp_width) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(f"Sizes of the tag decoder must be positive and dropout in [0, 1), got {self}.")


class PreNormDecoder(nn.Module):
    """Layers of self-attention among queries, cross-attention to a memory and an MLP, each after a LayerNorm."""

    def __init__(self, width: int, config: TagDecoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                width, config.heads, config.mlp_width, config.dropout, batch_first=True, norm_first=True
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Queries (B, K, D), memory (B, L, D) -> (B, K, D)."""
        for layer in self.layers:
            queries = layer(queries, memory)
        return self.norm(queries)


class TagDecoder(nn.Module):
    """One logit per tag from frozen embeddings of the tags' names and an image's patches (ASG spec 4, IRL)."""

    tag_queries: Tensor

    def __init__(self, width: int, tags: int, config: TagDecoderConfig) -> None:
        super().__init__()
        self.decoder = PreNormDecoder(width, config)
        self.mlp_head = nn.Sequential(nn.Linear(width, 1))
        self.register_buffer("tag_queries", torch.randn(tags, width))

    def set_queries(self, embedded: Tensor) -> None:
        """Fix what the tags ask with: embedded (K, D), one row per tag name; all rows must differ."""
        if embedded.shape != self.tag_queries.shape:
            expected = tuple(self.tag_queries.shape)
            raise ConfigError(f"Embedded tag names have shape {tuple(embedded.shape)}; expected {expected}.")
        if len(embedded.unique(dim=0)) < len(embedded):
            raise ConfigError(
                "Two tag names have the same embedding, so they could not be told apart: the vocabulary knows neither. "
                "Choose other names, or a vocabulary with these words."
            )
        self.tag_queries.copy_(embedded)

    def forward(self, patches: Tensor) -> Tensor:
        """Patch tokens (B, L, D) of the encoder -> logits (B, K) in the order of the tags."""
        queries = self.tag_queries.to(patches.dtype).expand(len(patches), -1, -1)
        return self.mlp_head(self.decoder(queries, patches))[..., 0]
