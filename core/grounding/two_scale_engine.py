"""ASAP at two scales as a grounding engine: cells of a few millimetres, read in one pass."""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from torch.nn import functional as F

from core.anatomy.masks import OrganMasks
from core.errors import EngineError
from core.grounding.asap_engine import GROUNDING_PARTS, AsapEngine, EngineSpec
from core.grounding.engine import PatchFeatures
from core.grounding.view import box_grid, middle_of_chest, patch_grid, read_box
from core.models.asap import study_vector
from core.models.asap_config import ASAPConfig
from core.models.tokens import ReportTokenizer
from core.models.two_scale import TwoScaleASAP
from core.progress import Progress, silent
from core.report.traits import TRAITS, TURNING, sentence_traits, turning_vectors
from core.resample import lies_inside
from core.volume import Volume


def needed_parts(config: ASAPConfig) -> tuple[str, ...]:
    """Beginnings of the names of every weight that grounding reads."""
    return GROUNDING_PARTS if config.pyramid is None else (*GROUNDING_PARTS, "pyramid.", "claim_")


SAID = 0.6
"""Share of a sentence's squared length that says what the parser read of denial, side, level and size."""


class TwoScaleEngine(AsapEngine):
    """See `GroundingEngine`. Sentences are found in cells; reports and CTs are compared by the patches' vectors.

    A sentence's vector ends in what the parser reads of it (`core.report.traits.turning_vectors`), where the cells' are
    zero: scores in a CT do not depend on it, and the cosine of two sentences does.
    """

    reads_alone = True
    """See `core.grounding.engine.ReadsAlone`."""

    def __init__(self, model: TwoScaleASAP, tokenizer: ReportTokenizer, spec: EngineSpec, device: str = "cpu") -> None:
        super().__init__(model, tokenizer, spec, device)
        if model.cells.traits not in (0, len(TRAITS)):
            raise EngineError(
                f"This model was trained on {model.cells.traits} traits of a sentence; this version reads "
                f"{len(TRAITS)} of them (core/report/traits.py). Use the version it was trained with, or train anew."
            )
        self._two_scale = model
        self._width = model.cells.embed
        self._has_traits = model.cells.traits > 0

    @torch.inference_mode()
    def embed_volume(
        self, volume: Volume, masks: OrganMasks | None = None, progress: Progress = silent
    ) -> PatchFeatures:
        """Vectors of the cells in the box around the lungs."""
        view = self.spec.view
        progress(0.0, "Placing the model's view on the chest")
        box = box_grid(middle_of_chest(volume, masks), view)
        image = torch.from_numpy(read_box(volume, box, view)[0].image)[None, None].to(self._device)
        progress(0.3, "Encoding the CT")
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            tokens, cells = self._two_scale.look(image)
        projected = self._two_scale.project_patches(rearrange(tokens.float(), "1 x y z d -> 1 (x y z) d"))
        grid = patch_grid(box, view)
        vectors = F.pad(self._two_scale.embed_cells(cells)[0], (0, len(TURNING) if self._has_traits else 0))
        return PatchFeatures(
            vectors.cpu().numpy(),
            grid,
            lies_inside(grid, volume.grid),
            study_vector(projected)[0].cpu().numpy(),
            self.name,
        )

    def embed_sentences(self, sentences: Sequence[str]) -> np.ndarray:
        """(S, D) float32 unit vectors: what is looked for in the cells, then what the parser read.

        Zeros for a sentence without a known character.
        """
        learned = super().embed_sentences(sentences)
        if not self._has_traits:
            return learned
        read = turning_vectors(sentence_traits(sentences)) * learned.any(axis=1, keepdims=True)
        return np.concatenate([learned * (1 - SAID) ** 0.5, read * SAID**0.5], axis=1)

    @torch.inference_mode()
    def embed_report(self, sentences: Sequence[str]) -> np.ndarray:
        """(D,) float32 unit vector: the mean sentence in the patches' space, as the study contrast is trained."""
        vectors = self._vectors_by(self._two_scale.embed_sentences, sentences, self._two_scale.config.vision.width)
        return study_vector(vectors[None])[0].numpy()

    def _read_sentences(self, sentences: Sequence[str]) -> torch.Tensor:
        beside = (torch.from_numpy(sentence_traits(sentences)),) if self._has_traits else ()
        return self._vectors_by(self._two_scale.embed_claims, sentences, self._width, *beside)
