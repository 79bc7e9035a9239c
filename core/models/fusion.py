"""Report decoding from text that looks at patches: ASAP's fusion module (spec 2.8), one layer then a small BERT."""

from torch import Tensor, nn

from core.models.bert import (
    BertAttention,
    BertConfig,
    BertEmbeddings,
    BertStack,
    Intermediate,
    MlmHead,
    ResidualOutput,
    SelfAttention,
    cut_padding,
    initialise_bert,
)
from core.models.unread import leave_untouched


class FusionLayer(nn.Module):
    """Text attends to itself, then to a visual memory, and adds one global token to every word."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = BertAttention(config)
        self.cross_self_attention = SelfAttention(config)
        self.gap_mlp = nn.Linear(config.width, config.width)
        self.out_layer = ResidualOutput(config.width, config.width, config.dropout)
        self.intermediate = Intermediate(config)
        self.output = ResidualOutput(config.mlp_width, config.width, config.dropout)

    def forward(self, states: Tensor, is_real: Tensor, memory: Tensor, overview: Tensor) -> Tensor:
        """states (B, T, D), is_real (B, T) bool or cut, memory (B, M, D), overview (B, 1, D) -> (B, T, D)."""
        states = self.attention(states, is_real)
        context = self.cross_self_attention(states, memory) + self.gap_mlp(overview)
        states = self.out_layer(context, states)
        return self.output(self.intermediate(states), states, of_gelu=True)


class Pooler(nn.Module):
    """Never called; its weights exist in the published layout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)


class FusionBody(nn.Module):
    """Fusion layer and BERT layers: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: BertConfig, unused_weights: bool) -> None:
        super().__init__()
        if unused_weights:
            self.embeddings = BertEmbeddings(config)
            self.pooler = Pooler(config.width)
        self.fusion_layer = FusionLayer(config)
        self.encoder = BertStack(config)

    def forward(self, states: Tensor, is_real: Tensor, memory: Tensor, overview: Tensor) -> Tensor:
        return self.encoder(self.fusion_layer(states, cut_padding(is_real), memory, overview), is_real)


class ReportDecoder(nn.Module):
    """Masked words from text and patches; `cls` turns the chosen states into vocabulary logits."""

    def __init__(self, config: BertConfig, unused_weights: bool = False) -> None:
        """unused_weights: also hold the 24 M numbers of the published layout that no computation reads."""
        super().__init__()
        self.bert = FusionBody(config, unused_weights)
        self.cls = MlmHead(config)
        self.apply(initialise_bert)
        if unused_weights:
            leave_untouched(self.bert.embeddings)
            leave_untouched(self.bert.pooler)

    def forward(self, states: Tensor, is_real: Tensor, memory: Tensor, overview: Tensor) -> Tensor:
        """Hidden states (B, T, D) of text states (B, T, D) given memory (B, M, D) and overview (B, 1, D)."""
        return self.bert(states, is_real, memory, overview)
