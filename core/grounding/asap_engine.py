"""A trained ASAP as a grounding engine: patches by its image head, sentences by its text head (spec section 4)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from core.anatomy.masks import OrganMasks
from core.errors import ReportError
from core.grounding.calibration import Calibration
from core.grounding.engine import PatchFeatures
from core.grounding.view import Reading, ViewConfig, box_grid, middle_of_chest, patch_grid, read_box
from core.models.asap import ASAP, study_vector
from core.models.asap_config import released
from core.models.asg import ASG
from core.models.assembly import assemble_model
from core.models.import_sources import SOURCES
from core.models.imports import fit_weights, read_source
from core.models.tokens import ReportTokenizer
from core.progress import Progress, silent
from core.resample import lies_inside
from core.volume import Volume

MAX_TOKENS = 96
"""Tokens of one sentence; longer ones are cut."""

ONE_THREAD_NUMBERS = 1 << 18
"""Numbers between two layers of the text encoder, up to which a second thread gains less than it may lose."""

GROUNDING_PARTS = SOURCES["asap"].engine
"""Beginnings of the names of every weight that grounding reads."""


@dataclass(frozen=True)
class EngineSpec:
    """engine.json: what a model folder says beyond its weights."""

    name: str
    """How the engine is chosen."""
    view: ViewConfig = field(default_factory=ViewConfig)
    """What it sees of a CT."""
    calibration: Calibration = field(default_factory=Calibration)
    """How its scores become probabilities."""


class AsapEngine:
    """See `GroundingEngine`. Weights are read-only; safe to share between threads."""

    needs_masks = False

    def __init__(self, model: ASAP | ASG, tokenizer: ReportTokenizer, spec: EngineSpec, device: str = "cpu") -> None:
        self.name = spec.name
        self.spec = spec
        self._width = model.config.heads.embed if isinstance(model, ASG) else model.config.vision.width
        self._model = model.to(device).eval()
        self._tokenizer = tokenizer
        self._device = torch.device(device)
        self._last: tuple[tuple[str, ...], torch.Tensor] = ((), torch.zeros(0))

    @torch.inference_mode()
    def embed_volume(
        self, volume: Volume, masks: OrganMasks | None = None, progress: Progress = silent
    ) -> PatchFeatures:
        """Patch vectors of the box around the lungs (spec 4, steps 1 to 3)."""
        view = self.spec.view
        progress(0.0, "Placing the model's view on the chest")
        box = box_grid(middle_of_chest(volume, masks), view)
        readings = read_box(volume, box, view)
        patches = patch_grid(box, view)
        projected = torch.empty((*patches.shape, self._width))
        n = view.subdivisions
        for done, reading in enumerate(readings):
            progress(0.1 + 0.9 * done / len(readings), "Encoding the CT")
            image = torch.from_numpy(reading.image)[None, None].to(self._device)
            # bf16 pays on a GPU only: CPUs without its instructions run it several times slower than float32
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
                tokens = self._model.encode_patches(image)
            x, y, z = reading.offset
            projected[x::n, y::n, z::n] = self._model.project_patches(tokens.float())[0].cpu()
        return PatchFeatures(
            F.normalize(projected, dim=-1).numpy(),
            patches,
            lies_inside(patches, volume.grid),
            self._study(projected, readings),
            self.name,
        )

    def embed_sentences(self, sentences: Sequence[str]) -> np.ndarray:
        """(S, D) float32 unit vectors, each sentence read alone (spec 4, step 4)."""
        return F.normalize(self._sentence_vectors(sentences), dim=-1).numpy()

    def embed_report(self, sentences: Sequence[str]) -> np.ndarray:
        """(D,) float32 unit vector: the mean sentence, as the study contrast is trained."""
        return F.normalize(self._sentence_vectors(sentences).mean(dim=0), dim=-1).numpy()

    def _study(self, projected: torch.Tensor, _readings: Sequence[Reading]) -> np.ndarray:
        """(D,) unit vector of the CT from projected patches (X, Y, Z, D)."""
        return study_vector(projected.reshape(1, -1, self._width))[0].numpy()

    @property
    def calibration(self) -> Calibration:
        """Measured on synthetic anatomy that the model was not trained on, see `trainers.calibrate`."""
        return self.spec.calibration

    def presence_probability(self, score: float, negated_score: float) -> float:
        """From the scores alone, without what `calibration` knows of the finding."""
        return self.spec.calibration.probability(score, negated_score)

    @torch.inference_mode()
    def _sentence_vectors(self, sentences: Sequence[str]) -> torch.Tensor:
        """(S, D) float32, not normalised; zeros for a sentence without a single known character."""
        if not sentences:
            raise ReportError("There is no sentence to read. Expected at least one.")
        known, found = self._last  # a query is wanted sentence by sentence and as a whole: read once
        if known != tuple(sentences):
            found = self._read_sentences(sentences)
            self._last = (tuple(sentences), found)
        return found

    def _read_sentences(self, sentences: Sequence[str]) -> torch.Tensor:
        return self._vectors_by(self._model.embed_sentences, sentences, self._width)

    def _vectors_by(
        self, embed: Callable[..., torch.Tensor], sentences: Sequence[str], width: int, *beside: torch.Tensor
    ) -> torch.Tensor:
        """What `embed` makes of token ids, attention and what comes beside them, a row a sentence: (S, width).

        Zeros for a sentence without a known character.
        """
        ids, attn = self._tokenizer.encode_prompts(sentences, MAX_TOKENS)
        has_words = attn.sum(dim=1) > 1  # [CLS] alone says nothing
        vectors = torch.zeros(len(sentences), width)
        if has_words.any():
            with _one_thread_for(ids, self._model.config.text.width):
                found = embed(*(rows[has_words].to(self._device) for rows in (ids, attn, *beside)))
            vectors[has_words] = found.float().cpu()
        return vectors


@contextmanager
def _one_thread_for(ids: torch.Tensor, width: int) -> Iterator[None]:
    """Keep a small reading of token `ids` (S, L) on the thread that wants it.

    A query takes 1 ms on one thread. On two of which other work holds one, each of its many small sums waits for that
    one: 280 ms were seen.
    """
    before = torch.get_num_threads()
    if ids.numel() * width > ONE_THREAD_NUMBERS:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def open_published(folder: Path, vocabulary: Path, device: str = "cpu") -> AsapEngine:
    """The published ViT-B from its ASAP.pth and CXR-BERT's vocabulary; only a full pre-training file can ground."""
    found = read_source([folder / "ASAP.pth"], SOURCES["asap"])
    with torch.device("meta"):
        fitted = fit_weights(found, ASAP(released()), "asap", GROUNDING_PARTS)
    model = assemble_model(ASAP, released(), fitted.weights, GROUNDING_PARTS, "ASAP.pth")
    tokenizer = ReportTokenizer.from_file(vocabulary)
    view = ViewConfig(smooth=False, clip_late=False, padding="mirror")
    return AsapEngine(model, tokenizer, EngineSpec("asap", view), device)
