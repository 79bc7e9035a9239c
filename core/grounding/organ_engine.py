"""fVLM or ViSD-Boost as a grounding engine: sentences against the organs they name (docs/weights.md)."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from core.anatomy.masks import OrganMasks
from core.errors import ReportError
from core.grounding.asap_engine import EngineSpec
from core.grounding.calibration import Calibration
from core.grounding.engine import OrganFeatures, OrganPrompt, PatchFeatures
from core.grounding.normality import NormalityMap
from core.grounding.organ_view import OrganView, read_organs
from core.grounding.view import ViewConfig, turn
from core.models.fvlm import FVLM
from core.models.organ_cells import OrganCells, read_cells
from core.models.organ_scores import FVLM_EVALUATION, VISD_EVALUATION, Evaluation, judge_volume
from core.models.tokens import ReportTokenizer
from core.models.visd import VISD
from core.organ_map import OrganMap
from core.progress import Progress, silent
from core.report.mentions import read_sentence
from core.report.organ_statement import TEMPLATE
from core.volume import Volume

MAX_TOKENS = 384
"""Tokens of one text (fVLM spec 4.2); longer ones are cut."""
TEXTS_AT_ONCE = 32
PUBLISHED_CROP = (352, 256, 112)
"""Voxels (x, y, z) of the published training crop, to which the published windows of the evaluation belong."""


class OrganEngine:
    """See `GroundingEngine` and `OrganJudge`. Weights are read-only; safe to share between threads."""

    needs_masks = True

    def __init__(
        self,
        name: str,
        model: FVLM | VISD,
        tokenizer: ReportTokenizer,
        view: ViewConfig,
        organs: OrganMap,
        device: str = "cpu",
    ) -> None:
        self.name, self.spec, self.view, self.organs = name, EngineSpec(name, view), view, organs
        self._model = model.to(device).eval()
        self._tokenizer = tokenizer
        self._device = torch.device(device)
        self._texts = min(MAX_TOKENS, model.config.text.positions)

    @torch.inference_mode()
    def embed_volume(
        self, volume: Volume, masks: OrganMasks | None = None, progress: Progress = silent
    ) -> PatchFeatures:
        """Every patch of the organs' box as each organ. StudyError without masks of any of the organs."""
        progress(0.0, "Placing the model's view on the organs")
        view = read_organs(volume, masks, self.organs, self.view)
        progress(0.2, "Encoding the CT")
        cells = self._read(view)
        whole = cells.whole.float().cpu().numpy()
        organs = OrganFeatures(self.organs, self._back(cells.vectors), self._back(cells.shares), whole)
        every = organs.read_as(range(len(self.organs)))
        study = F.normalize(torch.from_numpy(organs.whole).sum(dim=0), dim=-1).numpy()
        return PatchFeatures(every.vectors, view.patches, every.covered, study, self.name, organs)

    @torch.inference_mode()
    def embed_sentences(self, sentences: Sequence[str]) -> np.ndarray:
        """(S, D) float32 unit vectors, each sentence read alone as an organ's text; 0 for one without a word."""
        if not sentences:
            raise ReportError("There is no sentence to read. Expected at least one.")
        vectors = torch.zeros(len(sentences), self._model.config.embed)
        ids, attn = self._tokenizer.encode_closed(sentences, self._texts)
        has_words = (attn.sum(dim=1) > 2).nonzero()[:, 0]  # [CLS] and [SEP] alone say nothing
        for part in has_words.split(TEXTS_AT_ONCE):
            longest = int(attn[part].sum(dim=1).max())
            tokens, is_real = ids[part, :longest].to(self._device), attn[part, :longest].to(self._device)
            vectors[part] = self._model.embed_texts(tokens, is_real).float().cpu()
        return vectors.numpy()

    def embed_report(self, sentences: Sequence[str]) -> np.ndarray:
        """(D,) float32 unit vector: the mean over the organs of what the report says of each, as in training."""
        texts = []
        for number, organ in enumerate(self.organs.names, start=1):
            said = [text for text in sentences if number in _organs_in(self.organs, text)]
            texts.append(" ".join(said) or TEMPLATE.format(organ))
        mean = self.embed_sentences(texts).sum(axis=0)
        return (mean / max(float(np.linalg.norm(mean)), 1e-9)).astype(np.float32)

    @property
    def calibration(self) -> Calibration:
        """How its scores become chances, where that was measured."""
        return self.spec.calibration

    def presence_probability(self, score: float, negated_score: float) -> float:
        """Softmax over a sentence and its negation, as in the published evaluation; not calibrated for sentences."""
        logit = (score - negated_score) / float(self._model.temperature.value)
        return 1 / (1 + math.exp(-min(max(logit, -50.0), 50.0)))

    def prompts(self) -> Mapping[str, OrganPrompt]:
        """The published prompts, for the organs that this model has."""
        asked = [prompt for prompt in self._evaluation().prompts if prompt.organ in self.organs.names]
        return {one.disease: OrganPrompt(one.organ, one.positive, one.negative) for one in asked}

    @torch.inference_mode()
    def judge_findings(
        self, volume: Volume, masks: OrganMasks | None, progress: Progress = silent
    ) -> Mapping[str, float]:
        """Probability of each finding by the published protocol: each organ alone in a window of its own."""
        view = read_organs(volume, masks, self.organs, self.view)
        evaluation = self._evaluation()
        asked = [text for prompt in evaluation.prompts for text in (prompt.negative, prompt.positive)]
        prompts = torch.from_numpy(self.embed_sentences(asked)).unflatten(0, (-1, 2)).to(self._device)
        progress(0.1, "Judging organ by organ")
        image, mask = self._tensors(view)
        found = judge_volume(self._model, image[0, 0], mask[0], prompts, evaluation).cpu().numpy()
        named = zip(evaluation.prompts, found.tolist(), strict=True)
        return {prompt.disease: value for prompt, value in named if not math.isnan(value)}

    def _evaluation(self) -> Evaluation:
        """Prompts and window; a model of other crops than the published has its own crop for a window."""
        evaluation = FVLM_EVALUATION if isinstance(self._model, FVLM) else VISD_EVALUATION
        if self.view.image_size == PUBLISHED_CROP:
            return evaluation
        return evaluation._replace(window=self.view.image_size, patch=self.view.patch_size)

    def _tensors(self, view: OrganView) -> tuple[torch.Tensor, torch.Tensor]:
        """Image (1, 1, X, Y, Z) float32 and mask (1, X, Y, Z) int64 on the model's axes."""
        image, mask = (torch.from_numpy(turn(part, self.view)) for part in (view.image, view.mask))
        return image[None, None].to(self._device), mask[None].long().to(self._device)

    def _read(self, view: OrganView) -> OrganCells:
        image, mask = self._tensors(view)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            return read_cells(self._model, image, mask)

    def _back(self, cells: torch.Tensor) -> np.ndarray:
        """(O, X, Y, Z, ...) on the model's axes as float32 on axes RAS."""
        return np.stack([turn(organ, self.view) for organ in cells.float().cpu().numpy()])


class NormalityEngine(OrganEngine):
    """ViSD-Boost, which also knows what its organs look like when they are normal; see `NormalityJudge`."""

    _model: VISD

    @torch.inference_mode()
    def measure_normality(self, volume: Volume, masks: OrganMasks | None, progress: Progress = silent) -> NormalityMap:
        """Every patch of the organs' box against its normal version. StudyError without masks of any of the organs."""
        progress(0.0, "Placing the model's view on the organs")
        view = read_organs(volume, masks, self.organs, self.view)
        progress(0.2, "Comparing organs with normal ones")
        image, mask = self._tensors(view)
        distances = self._back(self._model.anomaly_map(image, mask)[0])
        inside = self._back(self._model.organ_places(mask)[0]) > 0
        return NormalityMap(distances, inside, view.patches, self.organs, self.name)


@lru_cache(maxsize=65536)
def _organs_in(organs: OrganMap, sentence: str) -> tuple[int, ...]:
    """Organs, from 1, that a sentence is about."""
    named = read_sentence(sentence).organs
    return tuple(sorted({organ for name in named for organ in organs.organs_of(name)}))
