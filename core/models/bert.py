"""BERT from its parts, with Hugging Face's parameter names, so that CXR-BERT's weights load by name."""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.dropout import Dropout, drop
from core.models.linear import Linear
from core.models.vit import require_divides
from core.models.word_loss import sum_word_losses

EPS = 1e-12
"""Epsilon of every LayerNorm of BERT."""


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT; the defaults are CXR-BERT's."""

    vocab_size: int = 30522
    """Entries of the word-piece vocabulary."""
    width: int = 768
    """Features per token."""
    depth: int = 12
    """Layers."""
    heads: int = 12
    """Attention heads; must divide `width`."""
    mlp_width: int = 3072
    """Hidden width of the feed-forward part."""
    positions: int = 512
    """Longest text in tokens."""
    dropout: float = 0.25
    """Dropout after embeddings, attention and feed-forward."""
    attention_dropout: float = 0.1
    """Dropout on attention weights."""
    token_types: bool = True
    """Whether a token-type embedding (always type 0) is added; ASG's text encoder has none."""

    def __post_init__(self) -> None:
        require_divides(self.heads, self.width)
        if min(self.vocab_size, self.positions, self.mlp_width) < 1 or self.depth < 0:
            raise ConfigError(f"BERT sizes must be positive, got {self}.")


def attend(query: Tensor, key: Tensor, value: Tensor, key_is_real: Tensor | None, dropout: float) -> Tensor:
    """Scaled dot-product attention over heads, (B, H, N, d); key_is_real (B, M) bool, False = never attended."""
    is_cpu = query.device.type == "cpu" and not torch.compiler.is_compiling()
    if key_is_real is not None and is_cpu and bool(key_is_real.all()):
        key_is_real = None
    mask = None if key_is_real is None else key_is_real[:, None, None, :]
    if not (dropout and is_cpu):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    # With dropout PyTorch's own takes the same way on a CPU, but draws and keeps float32 factors.
    scores = (query / query.shape[-1] ** 0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return drop(scores.softmax(dim=-1), dropout) @ value


def cut_padding(is_real: Tensor) -> Tensor:
    """Without the columns behind the batch's last real token: (B, T) bool -> (B, M), 1 <= M <= T."""
    places = torch.arange(1, is_real.shape[1] + 1, device=is_real.device)
    return is_real[:, : max(1, int((places * is_real).max()))]


class SelfAttention(nn.Module):
    """Queries from one sequence, keys and values from another (or the same); no output projection."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.attention_dropout
        self.query, self.key, self.value = (Linear(config.width, config.width) for _ in range(3))

    def forward(self, states: Tensor, memory: Tensor, memory_is_real: Tensor | None = None) -> Tensor:
        """states (B, N, D), memory (B, M, D), memory_is_real (B, M) bool -> (B, N, D)."""
        dropout = self.dropout if self.training else 0.0
        mixed = attend(
            self._split(self.query(states)),
            self._split(self.key(memory)),
            self._split(self.value(memory)),
            memory_is_real,
            dropout,
        )
        return rearrange(mixed, "b h n d -> b n (h d)")

    def probabilities(self, states: Tensor, memory: Tensor) -> Tensor:
        """The attention weights themselves, for reading out where words look: (B, heads, N, M), rows sum to 1."""
        query, key = self._split(self.query(states)), self._split(self.key(memory))
        return (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(dim=-1)

    def _split(self, states: Tensor) -> Tensor:
        return rearrange(states, "b n (h d) -> b h n d", h=self.heads)


class ResidualOutput(nn.Module):
    """Linear, dropout, add, LayerNorm: the end of both halves of a BERT layer."""

    def __init__(self, width_in: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dense = Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, residual: Tensor, of_gelu: bool = False) -> Tensor:
        """states (..., width_in), residual (..., width); of_gelu: a GELU comes first."""
        changed = self.dense.of_gelu(states) if of_gelu else self.dense(states)
        return self.LayerNorm(residual + self.dropout(changed))


class BertAttention(nn.Module):
    """Self-attention with its residual output: (B, T, D) -> (B, T, D).

    is_real (B, M) bool may be shorter than the text, see `cut_padding`: nothing attends to tokens behind it.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = ResidualOutput(config.width, config.width, config.dropout)

    def forward(self, states: Tensor, is_real: Tensor | None) -> Tensor:
        memory = states if is_real is None else states[:, : is_real.shape[1]]
        return self.output(self.self(states, memory, is_real), states)


class Intermediate(nn.Module):
    """Linear: (..., D) -> (..., mlp_width). The GELU that follows is computed with the layer after it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(config.width, config.mlp_width)

    def forward(self, states: Tensor) -> Tensor:
        return self.dense(states)


class BertLayer(nn.Module):
    """Post-norm transformer layer: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = Intermediate(config)
        self.output = ResidualOutput(config.mlp_width, config.width, config.dropout)

    def forward(self, states: Tensor, is_real: Tensor | None) -> Tensor:
        states = self.attention(states, is_real)
        return self.output(self.intermediate(states), states, of_gelu=True)


class BertStack(nn.Module):
    """The layers of a BERT: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.depth))

    def forward(self, states: Tensor, is_real: Tensor | None) -> Tensor:
        seen = None if is_real is None else cut_padding(is_real)
        for layer in self.layer:
            states = layer(states, seen)
        return states


class BertEmbeddings(nn.Module):
    """Word + position + token-type (always 0) embedding: ids (B, T) int64 -> (B, T, D).

    `places` (B, T) int64 replaces the ordinary position numbers 0..T-1.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.width, padding_idx=0)  # padding learns nothing
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.token_type_embeddings = nn.Embedding(2, config.width) if config.token_types else None
        self.LayerNorm = nn.LayerNorm(config.width, eps=EPS)
        self.dropout = Dropout(config.dropout)

    def forward(self, ids: Tensor, places: Tensor | None = None) -> Tensor:
        length, longest = ids.shape[1], self.position_embeddings.num_embeddings
        if length > longest:
            raise ConfigError(f"A text has {length} tokens, the text encoder takes at most {longest}: shorten it.")
        places = torch.arange(length, device=ids.device) if places is None else places
        states = self.word_embeddings(ids) + self.position_embeddings(places)
        if self.token_type_embeddings is not None:
            states = states + self.token_type_embeddings.weight[0]
        return self.dropout(self.LayerNorm(states))


class MlmTransform(nn.Module):
    """Linear, GELU, LayerNorm before the vocabulary: (..., D) -> (..., D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)

    def forward(self, states: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(states)))


class MlmPredictions(nn.Module):
    """States to vocabulary logits: (..., D) -> (..., vocab). `bias` and `decoder.bias` are one parameter."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.transform = MlmTransform(config.width)
        self.decoder = Linear(config.width, config.vocab_size)
        self.bias = self.decoder.bias

    def forward(self, states: Tensor) -> Tensor:
        return self.decoder(self.transform(states))

    def sum_losses(self, states: Tensor, labels: Tensor) -> Tensor:
        """Sum of the cross-entropies of states (N, D) against labels (N,) int64."""
        return sum_word_losses(self.transform(states), self.decoder.weight, self.decoder.bias, labels)


class MlmHead(nn.Module):
    """Holds the predictions under the name that published weights use."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.predictions = MlmPredictions(config)

    def forward(self, states: Tensor) -> Tensor:
        return self.predictions(states)


class FeatureHead(nn.Module):
    """Projection of the alignment, phi(x) = W2 LN(GELU(W1 x + b1)) + b2 (ASAP spec 2.6): (..., in) -> (..., out)."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.dense_to_hidden = Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)
        self.dense_to_output = Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        return self.dense_to_output(self.LayerNorm(F.gelu(self.dense_to_hidden(states))))


def initialise_bert(module: nn.Module, std: float = 0.02) -> None:
    """BERT's own start: normal(0, std) for linear and embedding weights, zero biases; LayerNorm is left at 1, 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
