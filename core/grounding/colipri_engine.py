"""Microsoft's COLIPRI as a grounding engine, through its own package (MIT; requirements-colipri.txt).

Its image transform, patch features and pooling are the package's. Only its BERT is built here from its sizes, because
the package would fetch CXR-BERT's code and weights, which COLIPRI's own file replaces anyway.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel.orientations as nio
import numpy as np
import torch
from einops import rearrange
from torch.nn import functional as F

from core.anatomy.masks import OrganMasks
from core.anatomy.torchvision_shim import make_torchvision_importable
from core.errors import CheckpointError, ReportError
from core.grounding.calibration import Calibration
from core.grounding.engine import PatchFeatures
from core.models.tokens import ReportTokenizer, find_vocabulary
from core.progress import Progress, silent
from core.resample import lies_inside
from core.volume import Grid, Volume, ras_axes

MAX_TOKENS = 512
TEXTS_AT_ONCE = 32
BERT = {
    "_target_": "transformers.BertModel",
    "add_pooling_layer": False,
    "config": {"_target_": "transformers.BertConfig", "vocab_size": 30522},
}
"""CXR-BERT's sizes; what is not named is BERT-base's."""


class ColipriEngine:
    """See `GroundingEngine`. `model` and `processor` are the package's."""

    name = "colipri"
    needs_masks = False

    def __init__(self, model: Any, processor: Any, tokenizer: ReportTokenizer, device: str = "cpu") -> None:
        self._model = model.to(device).eval()
        self._processor = processor
        self._tokenizer = tokenizer
        self._device = torch.device(device)
        self._calibration = Calibration(margin_weight=1 / float(model.softmax_temperature))

    @torch.no_grad()  # not inference mode: the package copies weights into new layers to pool densely
    def embed_volume(
        self,
        volume: Volume,
        masks: OrganMasks | None = None,  # noqa: ARG002  (its field of view is the middle of the scan)
        progress: Progress = silent,
    ) -> PatchFeatures:
        """Its dense features: 768 numbers for each of 24 x 24 x 24 patches of 16 mm, as the package is set."""
        import torchio

        progress(0.0, "Preparing the CT for COLIPRI")
        hu = torch.from_numpy(np.ascontiguousarray(volume.hu))[None].float()
        image = self._processor.process_images(torchio.ScalarImage(tensor=hu, affine=volume.affine))[0]
        progress(0.1, "Encoding the CT")
        encoder = self._model.image_encoder
        tokens = encoder.projector(encoder.encode(self._processor.to_images_batch([image])))
        dense = encoder.pooler.to_dense().to(tokens.device)(tokens)
        pooled = encoder.pooler(rearrange(tokens, "b c x y z -> b (x y z) c"))
        vectors = rearrange(F.normalize(dense.float(), dim=1)[0], "c x y z -> x y z c").cpu().numpy()
        vectors, grid = in_ras(vectors, np.asarray(image.affine), encoder.patch_size)
        study = F.normalize(pooled.float(), dim=1)[0].cpu().numpy()
        return PatchFeatures(vectors, grid, lies_inside(grid, volume.grid), study, self.name)

    @torch.no_grad()
    def embed_sentences(self, sentences: Sequence[str]) -> np.ndarray:
        """(S, D) float32 unit vectors, each sentence read alone."""
        if not sentences:
            raise ReportError("There is no sentence to read. Expected at least one.")
        ids, attn = self._tokenizer.encode_closed(sentences, MAX_TOKENS)
        parts = zip(ids.split(TEXTS_AT_ONCE), attn.split(TEXTS_AT_ONCE), strict=True)
        vectors = torch.cat([self._model.encode_text(tokens, is_real.long()) for tokens, is_real in parts])
        return F.normalize(vectors.float(), dim=1).cpu().numpy()

    def embed_report(self, sentences: Sequence[str]) -> np.ndarray:
        """(D,) float32 unit vector of the report as one text."""
        return self.embed_sentences([" ".join(sentences)])[0]

    @property
    def calibration(self) -> Calibration:
        """The package's temperature; how often it is wrong was not measured."""
        return self._calibration

    def presence_probability(self, score: float, negated_score: float) -> float:
        """Softmax over a sentence and its negation by the model's own temperature, as the package classifies."""
        return self._calibration.probability(score, negated_score)


def in_ras(vectors: np.ndarray, affine: np.ndarray, patch: tuple[int, int, int]) -> tuple[np.ndarray, Grid]:
    """Patch vectors (I, J, K, D) of an image with `affine`, and the grid of their centres, both on axes RAS."""
    patches = affine @ np.diag([*patch, 1.0])
    patches[:3, 3] = (affine @ [*((np.array(patch) - 1) / 2), 1.0])[:3]
    axes, shape = ras_axes(patches), vectors.shape[:3]
    turned = np.ascontiguousarray(nio.apply_orientation(vectors, axes))
    grid = Grid((turned.shape[0], turned.shape[1], turned.shape[2]), patches @ nio.inv_ornt_aff(axes, shape))
    return turned, grid


def open_colipri(folder: Path, device: str = "cpu") -> ColipriEngine:
    """From model.safetensors, as Microsoft publishes it, and CXR-BERT's vocabulary; nothing is fetched."""
    make_torchvision_importable()  # the package's ViT comes from timm, which imports it
    from colipri import get_model, get_processor
    from colipri.checkpoint import load_model_config

    vocabulary = find_vocabulary(folder)
    if vocabulary is None:
        raise CheckpointError(
            f"{folder.name} holds no vocabulary; expected CXR-BERT's, as vocab.txt or tokenizer.json."
        )
    config = load_model_config()
    config.text_encoder.backbone = BERT
    model = get_model(folder / "model.safetensors", config=config)
    empty = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if empty:
        raise CheckpointError(
            f"{folder.name}/model.safetensors lacks {len(empty)} of COLIPRI's weights, such as {empty[0]}. Expected "
            "the file that Microsoft publishes for this version of the package."
        )
    return ColipriEngine(model, get_processor(image_only=True), ReportTokenizer.from_file(vocabulary), device)
