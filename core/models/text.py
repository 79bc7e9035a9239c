"""The text encoder: a BERT whose last hidden state is all that is used, frozen or trained."""

from torch import Tensor, nn

from core.models.bert import BertConfig, BertEmbeddings, BertStack, FeatureHead, MlmHead, initialise_bert
from core.models.unread import leave_untouched


class BertBody(nn.Module):
    """Embeddings and layers: ids (B, T) int64, is_real (B, T) bool -> last hidden state (B, T, D).

    `places` (B, T) int64 replaces the ordinary position numbers.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertStack(config)

    def forward(self, ids: Tensor, is_real: Tensor, places: Tensor | None = None) -> Tensor:
        return self.encoder(self.embeddings(ids, places), is_real)


class TextEncoder(nn.Module):
    """CXR-BERT's layout: the body, and on request the two heads that nobody here calls but its weights contain."""

    def __init__(self, config: BertConfig, unused_heads_width: int | None = None) -> None:
        """unused_heads_width: width of CXR-BERT's CLS projection head; None leaves both unused heads out."""
        super().__init__()
        self.config = config
        self.bert = BertBody(config)
        if unused_heads_width is not None:
            self.cls = MlmHead(config)
            self.cls.predictions.decoder.weight = self.bert.embeddings.word_embeddings.weight  # tied, as published
            self.cls_projection_head = FeatureHead(config.width, unused_heads_width)
        self.apply(initialise_bert)
        if unused_heads_width is not None:
            leave_untouched(self.cls.predictions.transform)
            leave_untouched(self.cls_projection_head)
        self._always_eval = False

    def freeze(self, always_eval: bool = True) -> "TextEncoder":
        """Stop training of all weights; `always_eval` keeps dropout off even while the model around it trains."""
        self.requires_grad_(False)
        self._always_eval = always_eval
        return self.train(self.training)

    def train(self, mode: bool = True) -> "TextEncoder":
        super().train(mode and not self._always_eval)
        return self

    @property
    def is_frozen(self) -> bool:
        """Whether no weight of it trains."""
        return not any(p.requires_grad for p in self.parameters())

    def forward(self, ids: Tensor, is_real: Tensor) -> Tensor:
        """Last hidden state (B, T, D) of ids (B, T) int64; is_real (B, T) bool, True = not padding."""
        return self.bert(ids, is_real)


def mean_state(states: Tensor, attn: Tensor) -> Tensor:
    """Mean of the real tokens but the first: states (S, T, W), attn (S, T) bool -> (S, W); 0 for [CLS] alone."""
    counted = attn.clone()
    counted[:, 0] = False
    return (states * counted[..., None]).sum(dim=1) / counted.sum(dim=1, keepdim=True).clamp(min=1)
