"""Where the parts of a training item come from, and the training set that joins them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError
from core.organ_map import find_organ_map
from trainers.batch import Sample
from trainers.crops import Crop, DataView, show, tell_padding

_SEGMENT = "python -m asap_viewer segment CT --out DATA/masks/STUDY.nii.gz, for every study"
_BUILD = "python -m trainers.builders {0} --reports DATA/reports.csv --out DATA/{1}"
_ORGAN_TEXT, _TRIPLETS = _BUILD.format("organ-text", "organ_text.json"), _BUILD.format("triplets", "triplets.csv")
BUILDERS = {
    "organ_mask": _SEGMENT,
    "organ_present": _SEGMENT,
    "organ_intact": _SEGMENT,
    "organ_ids": _ORGAN_TEXT,
    "organ_text_id": _ORGAN_TEXT,
    "organ_abnormal": _BUILD.format("organ-state", "organ_state.json"),
    "sent_organ": _TRIPLETS,
    "tags": _TRIPLETS,
    "mlm_weight": _BUILD.format("distill", "distilled.csv"),
    **dict.fromkeys(
        "asked_ids asked_attn asked_traits asked_region asked_target asked_valid region_cells cell_class kind_region "
        "sentence_target sentence_target_valid".split(),
        "only the data engine has it: --data synthetic",
    ),
}
"""Batch field -> command that makes the files it is read from."""


class ImageSource(Protocol):
    """Gives crops of CTs and, where it has them, of their organ masks."""

    @property
    def study_ids(self) -> Sequence[str]:
        """The studies it can read, in an order that never changes."""
        ...

    def read(self, study_id: str, rng: np.random.Generator) -> Crop:
        """The study as it is shown this time; every draw comes from `rng`."""
        ...


class FieldSource(Protocol):
    """Gives some fields of the batch, see `trainers.batch`."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that `make` returns."""
        ...

    def check(self, study_ids: Sequence[str]) -> None:
        """Refuse, before training, studies it has nothing for; the ConfigError names the builder to run."""
        ...

    def make(self, crop: Crop, rng: np.random.Generator) -> Mapping[str, Tensor]:
        """The fields of the crop's study without a batch axis; every draw comes from `rng`."""
        ...


class RecipeStudies:
    """An image source and field sources as one training set (`trainers.batches.Studies`).

    An item is a function of the view's seed, the epoch and its index.
    """

    def __init__(self, images: ImageSource, sources: Sequence[FieldSource], view: DataView) -> None:
        self.images, self.sources, self.view = images, tuple(sources), view
        self._epoch, self._organ_of = 0, find_organ_map(view.organ_map).lut()
        self._busy = self.sources
        for source in self.sources:
            source.check(images.study_ids)

    def __len__(self) -> int:
        return len(self.images.study_ids)

    def set_epoch(self, epoch: int) -> None:
        """Choose crops, mirrors and masked words from now on."""
        self._epoch = epoch

    def want(self, fields: Iterable[str]) -> None:
        """Let sources rest that give none of these fields."""
        wanted = set(fields)
        self._busy = tuple(source for source in self.sources if wanted & set(source.fields))

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.view.seed, self._epoch, index])
        crop = self.images.read(self.images.study_ids[index], rng)
        image = show(crop.hu, self.view)
        if rng.random() < self.view.offset_chance:
            most = 0.05 * (self.view.shown_as[1] - self.view.shown_as[0])
            image = image + np.float32(rng.uniform(-most, most))
        sample: dict[str, Tensor | str] = {"study_id": crop.study_id, "note": tell_padding(crop, self.view)}
        sample["image"] = torch.from_numpy(np.ascontiguousarray(image))[None]
        if crop.structures is not None:
            sample["organ_mask"] = torch.from_numpy(np.ascontiguousarray(self._organ_of[crop.structures]))
        for source in self._busy:
            sample |= source.make(crop, rng)
        return sample


def require_fields(requires: Iterable[str], offered: Iterable[str], builders: Mapping[str, str] = BUILDERS) -> None:
    """Refuse sources that lack what a recipe reads; ConfigError names each input and the command that makes it."""
    missing = sorted(set(requires) - set(offered))
    if missing:
        how = [f"{name} ({builders[name]})" if name in builders else name for name in missing]
        raise ConfigError(f"The recipe needs inputs that the data folder does not have: {'; '.join(how)}.")
