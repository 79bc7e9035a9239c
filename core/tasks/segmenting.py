"""A fine-tuned segmenter as an organ engine: masks on the CT's own grid."""

import itertools
import math
import re

import numpy as np
import torch
from torch import Tensor

from core.anatomy.masks import OrganMasks
from core.errors import CheckpointError, EngineError
from core.models.unetr import Segmenter3d
from core.progress import Progress, part_of, silent
from core.resample import resample
from core.structures import BY_NAME
from core.tasks.task_file import LoadedTask
from core.tasks.view import TaskView, show, thin_out
from core.tasks.windows import place_windows, slide_network
from core.volume import Grid, Volume

SPELLINGS = {"oesophagus": "esophagus", "windpipe": "trachea", "bronchi": "airway", "vertebrae": "spine"}
OVERLAP = 0.5
"""Of neighbouring windows, along each axis."""


def structure_name(label: str) -> str:
    """The structure that a label's words mean, "" for none: "Left lung" -> lung_left, "oesophagus" -> esophagus."""
    words = [SPELLINGS.get(word, word) for word in re.findall(r"[a-z0-9]+", label.lower())]
    sides = [word for word in words if word in ("left", "right")]
    rest = [word for word in words if word not in sides]
    options = ["_".join(words), "_".join([*rest, *sides])]
    by_lower = {name.lower(): name for name in BY_NAME}  # vertebrae_T1
    return next((by_lower[option] for option in options if option in by_lower), "")


class TaskSegmenter:
    """See `core.anatomy.masks.Segmenter`. Labels that are no structures of `core.structures` are left out and told."""

    def __init__(self, name: str, loaded: LoadedTask, device: str = "cpu") -> None:
        if not isinstance(loaded.model, Segmenter3d):
            raise CheckpointError(f"{name} holds a model for {loaded.about.task}; expected a segmenter.")
        self.name, self.about, self.view = name, loaded.about, loaded.view
        self.model, self.device = loaded.model.to(device), torch.device(device)
        self.structures = tuple(structure_name(label) for label in self.about.classes)
        if not any(self.structures):
            raise EngineError(
                f"None of the labels of {name} ({', '.join(self.about.classes)}) is a structure that this program "
                "knows, see core/structures.py; the page has no name or colour for them."
            )

    def segment(self, volume: Volume, progress: Progress = silent) -> OrganMasks:
        """Masks of its structures on `volume`'s grid."""
        classes = predict_classes(self.model, volume, self.view, OVERLAP, part_of(progress, 0.0, 0.95))
        numbers = np.array([0, *(BY_NAME[name].number if name else 0 for name in self.structures)], np.uint8)
        labels = numbers[classes]
        present = set(np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist())
        known = [name for name in self.structures if name]
        missing = {name: "the model marked no voxel as it" for name in known if BY_NAME[name].number not in present}
        unknown = [label for label, name in zip(self.about.classes, self.structures, strict=True) if not name]
        notes = [f"Masks of a fine-tuned model ({self.about.facts.get('data', 'its data are not told')}); check them."]
        if unknown:
            notes.append(f"Labels that are no structures of this program were left out: {', '.join(unknown)}.")
        progress(1.0, "Organ masks ready")
        return OrganMasks(labels, self.name, missing, notes=tuple(notes))


def predict_classes(
    model: Segmenter3d, volume: Volume, view: TaskView, overlap: float = OVERLAP, progress: Progress = silent
) -> np.ndarray:
    """Class numbers (X, Y, Z) uint8 on the volume's own RAS grid, 0 = background; `model` in eval mode."""
    progress(0.0, "Bringing the CT to the model's spacing")
    hu, grid = thin_out(volume, view)
    shares = segment_thin(model, hu, view, overlap, part_of(progress, 0.05, 0.85))
    progress(0.85, "Bringing the masks to the CT's grid")
    return enlarge(shares, grid, volume.grid)


@torch.inference_mode()
def segment_thin(
    model: Segmenter3d, hu: np.ndarray, view: TaskView, overlap: float = OVERLAP, progress: Progress = silent
) -> Tensor:
    """Share of each class at each voxel of a CT at the view's spacing: (X, Y, Z) int16 HU -> (C, X, Y, Z) float32."""
    device, roi = next(model.parameters()).device, model.config.roi
    image = torch.from_numpy(np.ascontiguousarray(show(hu, view)))[None, None]
    sizes = zip(image.shape[2:], roi, strict=True)
    windows, done = math.prod(len(place_windows(max(n, w), w, overlap)) for n, w in sizes), itertools.count()

    def predict(window: Tensor) -> Tensor:
        number = next(done)
        progress(number / windows, f"Window {number + 1} of {windows}")
        return model.segment(window.to(device)).softmax(dim=1).float().cpu()

    return slide_network(predict, image, roi, overlap, fill=view.shown_as[0])[0]


def enlarge(shares: Tensor, grid: Grid, target: Grid) -> np.ndarray:
    """The likeliest class at each voxel of `target`: shares (C, X, Y, Z) on `grid` -> uint8, 0 outside `grid`.

    Shares are interpolated and then compared, so that borders lie between the coarse voxels; one class at a time.
    """
    best, labels = np.zeros(target.shape, np.float32), np.zeros(target.shape, np.uint8)
    for number, share in enumerate(shares.numpy()):
        fine = resample(share, grid, target, "linear", fill=float(number == 0))
        is_better = fine > best
        labels[is_better] = number
        best[is_better] = fine[is_better]
    return labels
