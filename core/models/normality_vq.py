"""What an anatomy's tokens would be if it were normal: a VQ-VAE over feature tokens (ViSD-Boost spec 3.4).

Parameter names below `NormalityVQ` are the published ones.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.codebook import Codebook, CodebookConfig, Quantised
from core.models.token_sets import TokenSets

LEAST_RANGE = 1e-6
"""Tokens that are all alike have no range; they are divided by this instead."""


@dataclass(frozen=True)
class NormalityConfig:
    """Sizes and loss of the normality VQ-VAE; the defaults are ViSD-Boost's."""

    hidden: int = 512
    """Width between the tokens and the transformers."""
    code_width: int = 768
    """Features of a code, and of the transformers (E)."""
    depth: int = 2
    """Blocks of the encoder, and of the decoder."""
    heads: int = 16
    """Attention heads."""
    head_width: int = 64
    """Features of one head; heads * head_width need not be `code_width`."""
    mlp_width: int = 2048
    """Hidden width of a block's MLP."""
    dropout: float = 0.1
    """On attention weights and after each part of a block, while it trains."""
    commitment: float = 0.25
    """Weight of the pull of the encoder towards its codes (beta)."""
    data_variance: float = 0.5
    """Divides the squared reconstruction error (s)."""
    codebook: CodebookConfig = field(default_factory=CodebookConfig)
    """The codes."""

    def __post_init__(self) -> None:
        sizes = (self.hidden, self.code_width, self.depth, self.heads, self.head_width, self.mlp_width)
        if min(sizes) < 1 or self.data_variance <= 0 or self.commitment < 0 or not 0 <= self.dropout < 1:
            raise ConfigError(f"Sizes and data_variance of the normality model must be above 0, got {self}.")


class SetAttention(nn.Module):
    """Multi-head self-attention inside each set, pre-norm: (T, E) -> (T, E)."""

    def __init__(self, config: NormalityConfig) -> None:
        super().__init__()
        width, inner = config.code_width, config.heads * config.head_width
        self.heads, self.dropout = config.heads, config.dropout
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width), nn.Dropout(config.dropout))

    def forward(self, sets: TokenSets) -> Tensor:
        padded = sets.pad(self.to_qkv(self.norm(sets.values)))
        q, k, v = rearrange(padded, "n m (three h d) -> three n h m d", three=3, h=self.heads)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, sets.is_real()[:, None, None], dropout)
        return self.to_out(sets.unpad(rearrange(mixed, "n h m d -> n m (h d)")))


class SetMlp(nn.Module):
    """Pre-norm MLP on every token: (T, E) -> (T, E)."""

    def __init__(self, config: NormalityConfig) -> None:
        super().__init__()
        width, drop = config.code_width, config.dropout
        self.net = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.mlp_width),
            nn.GELU(),
            nn.Dropout(drop),
            nn.Linear(config.mlp_width, width),
            nn.Dropout(drop),
        )

    def forward(self, sets: TokenSets) -> Tensor:
        return self.net(sets.values)


class SetTransformer(nn.Module):
    """Pre-norm blocks and a last norm, each set for itself, no position code: (T, E) -> (T, E)."""

    def __init__(self, config: NormalityConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleList([SetAttention(config), SetMlp(config)]) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.code_width)

    def forward(self, sets: TokenSets) -> Tensor:
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            for part in layer:
                sets = sets._replace(values=sets.values + part(sets))
        return self.norm(sets.values)


class NormalityEncoder(nn.Module):
    """Two linear layers and a transformer: sets of (T, D) -> (T, E)."""

    def __init__(self, config: NormalityConfig, width: int) -> None:
        super().__init__()
        self.input1, self.input2 = nn.Linear(width, config.hidden), nn.Linear(config.hidden, config.code_width)
        self.transformer = SetTransformer(config)

    def forward(self, sets: TokenSets) -> Tensor:
        return self.transformer(sets._replace(values=self.input2(self.input1(sets.values))))


class NormalityDecoder(nn.Module):
    """A transformer and two linear layers: sets of (T, E) -> (T, D)."""

    def __init__(self, config: NormalityConfig, width: int) -> None:
        super().__init__()
        self.transformer = SetTransformer(config)
        self.output1, self.output2 = nn.Linear(config.code_width, config.hidden), nn.Linear(config.hidden, width)

    def forward(self, sets: TokenSets) -> Tensor:
        return self.output2(self.output1(self.transformer(sets)))


class Normalised(NamedTuple):
    """Tokens brought to [-1/2, 1/2] by the least and greatest value of their set over all tokens and features."""

    values: Tensor  # (T, D)
    minimum: Tensor  # (N,)
    range: Tensor  # (N,), at least LEAST_RANGE

    def undo(self, values: Tensor, owner: Tensor) -> Tensor:
        """Values (T, D) of the normalised space in the space of the tokens."""
        return (values + 0.5) * self.range[owner, None] + self.minimum[owner, None]


class Reconstruction(NamedTuple):
    """Every step from tokens to what they would be in a normal anatomy."""

    normalised: Normalised
    encoder_in: TokenSets  # the condition token of each set, then its normalised tokens
    latent: Tensor  # (T, E) encoder output z
    quantised: Quantised
    decoded: Tensor  # (T, D) in the normalised space
    restored: Tensor  # (T, D) in the space of the tokens

    @property
    def anomaly(self) -> Tensor:
        """How far each token is from normal, ||X_l - Xhat_l|| in the normalised space: (T,)."""
        return (self.normalised.values - self.decoded).norm(dim=-1)


def normalise_sets(sets: TokenSets) -> Normalised:
    """(X - min X) / max(X - min X) - 1/2, minimum and maximum over each set's tokens and features together."""
    minimum = sets.minima(sets.values.amin(dim=1))
    spread = (sets.maxima(sets.values.amax(dim=1)) - minimum).clamp(min=LEAST_RANGE)
    values = (sets.values - minimum[sets.owner, None]) / spread[sets.owner, None] - 0.5
    return Normalised(values, minimum, spread)


class NormalityVQ(nn.Module):
    """Encoder, codes and decoder of anatomies that are known to be normal; knows each anatomy by its number."""

    def __init__(self, config: NormalityConfig, organs: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.id_projs = nn.Linear(1, width)
        self.encoder = NormalityEncoder(config, width)
        self.vq_layer = Codebook(config.codebook, organs, config.code_width)
        self.decoder = NormalityDecoder(config, width)

    def forward(self, sets: TokenSets, organ: Tensor) -> Reconstruction:
        """Sets of level-4 tokens (T, D) and the organ (N,) int64, 0-based, of each set."""
        sets = sets._replace(values=sets.values.float())  # half precision would tear minimum and range apart
        normalised = normalise_sets(sets)
        conditioned = sets._replace(values=normalised.values).with_first(self.id_projs(organ[:, None].float()))
        latent = conditioned._replace(values=self.encoder(conditioned)).without_first().values
        with torch.autocast(latent.device.type, enabled=False):
            quantised = self.vq_layer(latent.float(), organ[sets.owner])
        decoded = self.decoder(sets._replace(values=quantised.passed)).float()
        restored = normalised.undo(decoded, sets.owner)
        return Reconstruction(normalised, conditioned, latent, quantised, decoded, restored)

    def losses(self, found: Reconstruction, sets: TokenSets) -> dict[str, Tensor]:
        """Reconstruction and commitment (spec 4, S2): mean over tokens and features of each set, then over sets."""
        missed = (found.normalised.values - found.decoded).square().mean(dim=1) / self.config.data_variance
        strayed = (found.latent.float() - found.quantised.vectors).square().mean(dim=1) * self.config.commitment
        count = max(1, sets.number)
        return {
            "reconstruction": sets.means(missed).sum() / count,
            "commitment": sets.means(strayed).sum() / count,
        }
