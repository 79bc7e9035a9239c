"""A model of recipe asg as a grounding engine: patches and words in its local space, studies in its global one."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from core.grounding.asap_engine import AsapEngine, EngineSpec
from core.grounding.view import Reading
from core.models.asg import ASG
from core.models.tokens import ReportTokenizer


class AsgEngine(AsapEngine):
    """See `GroundingEngine`. What differs from ASAP: the study is CLS's vector, the report one text."""

    def __init__(self, model: ASG, tokenizer: ReportTokenizer, spec: EngineSpec, device: str = "cpu") -> None:
        super().__init__(model, tokenizer, spec, device)
        self._asg = model

    @torch.inference_mode()
    def embed_report(self, sentences: Sequence[str]) -> np.ndarray:
        """(D,) float32 unit vector of the whole report, as the study contrast is trained."""
        encoded = self._tokenizer.encode_sentences(sentences, self._asg.config.text.positions)
        ids, attn = encoded.ids[None].to(self._device), encoded.attn[None].to(self._device)
        return F.normalize(self._asg.embed_texts(ids, attn)[0].float(), dim=-1).cpu().numpy()

    def _study(self, _projected: torch.Tensor, readings: Sequence[Reading]) -> np.ndarray:
        image = torch.from_numpy(readings[0].image)[None, None].to(self._device)
        return self._asg.image_embed(image)[0].float().cpu().numpy()
