"""Findings of organs by zero-shot comparison with prompts: windows, which organs can be judged, probabilities.

The protocol of fVLM's and ViSD-Boost's public evaluation (fVLM spec 7). Sizes are on whatever axes the volume has.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from core.models.organ_pool import organ_cut
from core.models.vit import Size3


class Prompt(NamedTuple):
    """One question asked of one organ."""

    organ: str
    disease: str
    negative: str
    positive: str

    @property
    def column(self) -> str:
        """Heading of its probabilities in the published tables."""
        return "_".join(self)


def _asked(organ: str, *diseases: str) -> list[Prompt]:
    return [Prompt(organ, disease, f"Not {disease}.", f"{disease}.") for disease in diseases]


FVLM_PROMPTS: tuple[Prompt, ...] = (
    *_asked("lung", "Emphysema"),
    Prompt("lung", "Atelectasis", "Not Atelectatic.", "Atelectatic."),
    Prompt("lung", "Lung nodule", "Not Nodule.", "Nodule."),
    Prompt("lung", "Lung opacity", "Not Opacity.", "Opacity."),
    Prompt("lung", "Pulmonary fibrotic sequela", "Not Pulmonary fibrotic.", "Pulmonary fibrotic."),
    *_asked("lung", "Pleural effusion", "Mosaic attenuation pattern", "Peribronchial thickening", "Consolidation"),
    *_asked("lung", "Bronchiectasis", "Interlobular septal thickening"),
    *_asked("heart", "Cardiomegaly", "Pericardial effusion", "Coronary artery wall calcification"),
    *_asked("esophagus", "Hiatal hernia"),
    *_asked("aorta", "Arterial wall calcification"),
)
"""Sixteen of CT-RATE's eighteen findings, as fVLM's evaluation asks for them."""

VISD_PROMPTS: tuple[Prompt, ...] = tuple(
    _asked(prompt.organ, prompt.disease)[0] if prompt.disease in ("Lung nodule", "Lung opacity") else prompt
    for prompt in FVLM_PROMPTS
)
"""The same findings as ViSD-Boost's evaluation asks for them: nodule and opacity by their whole names (its spec 5)."""

FVLM_WINDOW: Size3 = (352, 288, 112)
"""Smallest window (x, y, z) around an organ in fVLM's evaluation; wider along y than its training crop."""
VISD_WINDOW: Size3 = (352, 256, 112)
"""The same in ViSD-Boost's evaluation."""


class Evaluation(NamedTuple):
    """A published zero-shot evaluation."""

    prompts: tuple[Prompt, ...]
    window: Size3  # (x, y, z) voxels, least size around an organ
    patch: Size3  # (x, y, z) voxels, windows are filled up to multiples of it


FVLM_EVALUATION = Evaluation(FVLM_PROMPTS, FVLM_WINDOW, (32, 16, 16))
VISD_EVALUATION = Evaluation(VISD_PROMPTS, VISD_WINDOW, (32, 32, 16))

BORDER = 2
"""An organ with voxels this close to the window's faces counts as cut off."""
LEAST_INSIDE = 0.9
"""Share of an organ that the window must hold."""


def place_window(first: Size3, last: Size3, volume: Size3, least: Size3) -> tuple[Size3, Size3]:
    """Start and size of the window centred on an organ from voxel `first` to `last`, both inside it.

    Per axis the size is the larger of `least` and last - first (as released, one voxel short), at most the volume's;
    a window that would stick out is moved back in.
    """
    starts, sizes = [], []
    for low, high, n, at_least in zip(first, last, volume, least, strict=True):
        size = min(max(at_least, high - low), n)
        starts.append(min(max((low + high) // 2 - size // 2, 0), n - size))
        sizes.append(size)
    return (starts[0], starts[1], starts[2]), (sizes[0], sizes[1], sizes[2])


def cut_organ(image: Tensor, mask: Tensor, organ: int, least: Size3, patch: Size3) -> tuple[Tensor, Tensor]:
    """The window around one organ (its number, from 1), with nothing but that organ in the mask.

    image (X, Y, Z) as the model reads it, mask (X, Y, Z) -> (1, 1, x, y, z), (1, x, y, z), filled up with zeros at the
    far ends to whole patches. The organ must be in the mask.
    """
    places = (mask == organ).nonzero()
    first, last = places.amin(dim=0).tolist(), places.amax(dim=0).tolist()
    start, size = place_window(
        (first[0], first[1], first[2]),
        (last[0], last[1], last[2]),
        (mask.shape[0], mask.shape[1], mask.shape[2]),
        least,
    )
    box = tuple(slice(at, at + length) for at, length in zip(start, size, strict=True))
    missing = [-length % step for length, step in zip(size, patch, strict=True)]
    amount = [part for gap in reversed(missing) for part in (0, gap)]
    only = torch.where(mask[box] == organ, mask[box], 0)
    return F.pad(image[box], amount)[None, None], F.pad(only, amount)[None]


def can_judge(mask: Tensor, whole_sizes: Tensor, waived: int | None = None) -> Tensor:
    """Which organs a window shows well enough: mask (B, X, Y, Z), whole_sizes (B, O) voxels -> (B, O) bool.

    An organ must stay away from the window's faces and have 90 % of its whole size inside. waived: 0-based organ that
    is judged in any case, provided that it is there: the one the window was made for.
    """
    organs = whole_sizes.shape[1]
    inside = torch.stack([(mask == o).flatten(1).sum(dim=1) for o in range(1, organs + 1)], dim=1)
    is_whole = ~organ_cut(mask, organs, BORDER) & (inside >= LEAST_INSIDE * whole_sizes)
    if waived is not None:
        is_whole[:, waived] = True
    return is_whole & (inside > 0)


def prompt_probabilities(organ: Tensor, prompts: Tensor, temperature: float) -> Tensor:
    """Softmax over [negative, positive]: organ (..., E), prompts (..., 2, E), unit vectors -> (..., 2)."""
    return (torch.einsum("...e,...ke->...k", organ, prompts) / temperature).softmax(dim=-1)


class OrganModel(Protocol):
    """A model that compares organs with texts, such as FVLM and VISD; `config` names its organs."""

    config: Any
    temperature: Any

    def organ_embed(self, batch: Mapping[str, Tensor]) -> Tensor:
        """`image` (B, 1, X, Y, Z) and `organ_mask` (B, X, Y, Z) -> unit vectors (B, O, E)."""
        ...


@torch.no_grad()
def judge_volume(model: OrganModel, image: Tensor, mask: Tensor, prompts: Tensor, evaluation: Evaluation) -> Tensor:
    """Probability of each finding that an evaluation asks for: (P,), NaN where the organ is not in the volume.

    image (X, Y, Z) as the model reads it, mask (X, Y, Z) of the model's organ numbers, prompts (P, 2, E) unit vectors,
    [negative, positive]. Each organ is seen alone, in a window of its own.
    """
    found = torch.full((len(prompts),), torch.nan, device=prompts.device)
    for index, name in enumerate(model.config.organs):
        asked = [number for number, prompt in enumerate(evaluation.prompts) if prompt.organ == name]
        if not asked or not bool((mask == index + 1).any()):
            continue
        window, only = cut_organ(image, mask, index + 1, evaluation.window, evaluation.patch)
        vector = model.organ_embed({"image": window, "organ_mask": only})[0, index]
        found[asked] = prompt_probabilities(vector, prompts[asked], float(model.temperature.value))[:, 1]
    return found
