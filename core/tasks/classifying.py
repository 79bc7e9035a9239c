"""A fine-tuned classifier on a CT: a chance per label, and which patch speaks most for it."""

from typing import NamedTuple

import numpy as np
import torch

from core.errors import CheckpointError
from core.models.classifier import Classifier
from core.progress import Progress, silent
from core.tasks.task_file import LoadedTask
from core.tasks.view import coarse_grid, covered_share, cut_middle, show, thin_out
from core.volume import Volume


class LabelScore(NamedTuple):
    """One label of one CT."""

    name: str
    probability: float  # in [0, 1], not calibrated beyond its training
    peak_ras_mm: tuple[float, float, float] | None  # patch that adds most to the logit; None = the head tells no place
    peak_logits: float  # what that patch would make the logit without the bias if all were like it; 0 without a place


class TaskClassifier:
    """Classifies CTs as it was trained to. Weights are read-only; safe to share between threads."""

    def __init__(self, name: str, loaded: LoadedTask, device: str = "cpu") -> None:
        if not isinstance(loaded.model, Classifier):
            raise CheckpointError(f"{name} holds a model for {loaded.about.task}; expected a classifier.")
        self.name, self.about, self.view = name, loaded.about, loaded.view
        self.model, self.device = loaded.model.to(device), torch.device(device)

    @property
    def classes(self) -> tuple[str, ...]:
        """Its labels."""
        return self.about.classes

    @torch.inference_mode()
    def score(self, volume: Volume, progress: Progress = silent) -> tuple[LabelScore, ...]:
        """Every label, in the order of training. The CT is seen as one box from its middle, see `TaskView`."""
        progress(0.0, "Bringing the CT to the model's spacing")
        hu, whole = thin_out(volume, self.view)
        box_hu, box = cut_middle(hu, whole, self.view)
        progress(0.3, "Classifying the CT")
        image = torch.from_numpy(np.ascontiguousarray(show(box_hu, self.view)))[None, None].to(self.device)
        head, backbone = self.model.config.head, self.model.config.backbone
        chances = self.model.probabilities(self.model.classify(image))[0].cpu().tolist()
        if head.pool != "mean":
            return tuple(LabelScore(*pair, None, 0.0) for pair in zip(self.classes, chances, strict=True))
        parts = self.model.explain(image)[0].cpu().numpy()
        patches = coarse_grid(box, backbone.patch_size)
        is_seen = covered_share(box, whole, backbone.patch_size) >= 0.5
        parts = np.where(is_seen if is_seen.any() else True, parts, -np.inf)
        scores = []
        for name, chance, part in zip(self.classes, chances, parts, strict=True):
            at = np.unravel_index(int(part.argmax()), part.shape)
            x, y, z = patches.to_mm(at).tolist()
            scores.append(LabelScore(name, chance, (x, y, z), float(part[at])))
        return tuple(scores)
