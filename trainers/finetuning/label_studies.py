"""Training sets for classifiers: of features that are kept, and of CTs."""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from core.errors import StudyError
from core.preprocess import centre_start, crop_and_pad
from core.tasks.view import TaskView, show, thin_out
from trainers.batch import Sample
from trainers.finetuning.lists import LabelTable
from trainers.finetuning.volumes import CtFiles, stem_of
from trainers.folder import save_array


def label_fields(table: LabelTable, index: int, exclusive: bool) -> dict[str, Tensor]:
    """The label of a study as `trainers.batch` names it."""
    row = table.labels[index]
    if exclusive:
        return {"label_class": torch.tensor(int(row.argmax()))}
    return {"label": torch.from_numpy(row.astype(np.float32))}


class FeatureStudies:
    """Pooled features (N, F) and labels in memory."""

    def __init__(self, features: np.ndarray, table: LabelTable, exclusive: bool) -> None:
        self.features, self.table, self.exclusive = torch.from_numpy(features), table, exclusive

    def __len__(self) -> int:
        return len(self.table.ids)

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is alike."""

    def __getitem__(self, index: int) -> Sample:
        feature: Sample = {"study_id": self.table.ids[index], "feature": self.features[index]}
        return {**feature, **label_fields(self.table, index, self.exclusive)}


class ThinCts:
    """CTs at a view's spacing, made once and kept as memory-mapped arrays."""

    def __init__(self, files: CtFiles, view: TaskView, cache: Path) -> None:
        key = hashlib.sha256(json.dumps(view.made_from).encode()).hexdigest()[:16]
        self.files, self.view, self.folder = files, view, cache / f"thin-{key}"

    def prepare(self, ids: Sequence[str]) -> dict[str, str]:
        """Make what is not there yet; the studies that cannot be used, with the reason."""
        skipped = {}
        for study_id in tqdm(ids, unit="CT", desc="resampling", disable=not sys.stderr.isatty()):
            try:
                self.read(study_id)
            except StudyError as error:
                skipped[study_id] = " ".join(str(error).split())
        return skipped

    def read(self, study_id: str) -> np.ndarray:
        """(X, Y, Z) int16 HU; StudyError when the CT cannot be used."""
        path = self.folder / f"{stem_of(study_id).replace('/', '__')}-{self.files.fingerprint(study_id)}.npy"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            save_array(path, thin_out(self.files.read(study_id), self.view)[0])
        kept: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return kept


class CtStudies:
    """CTs with labels; with `shift` the box is moved from the middle by as many voxels at most, anew each epoch."""

    def __init__(self, cts: ThinCts, table: LabelTable, exclusive: bool, shift: int = 0, seed: int = 0) -> None:
        self.cts, self.table, self.exclusive, self.shift, self.seed = cts, table, exclusive, shift, seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self.table.ids)

    def set_epoch(self, epoch: int) -> None:
        """Choose where the boxes lie from now on."""
        self._epoch = epoch

    def __getitem__(self, index: int) -> Sample:
        study_id, view = self.table.ids[index], self.cts.view
        hu = self.cts.read(study_id)
        shape = (hu.shape[0], hu.shape[1], hu.shape[2])
        start = np.array(centre_start(shape, view.size))
        if self.shift:
            rng = np.random.default_rng([self.seed, self._epoch, index])
            moved = start + rng.integers(-self.shift, self.shift + 1, 3)
            start = np.clip(moved, 0, np.maximum(0, np.array(shape) - np.array(view.size)))
        box = crop_and_pad(hu, (int(start[0]), int(start[1]), int(start[2])), view.size, view.pad_hu)
        image = torch.from_numpy(np.ascontiguousarray(show(box, view)))[None]
        return {"study_id": study_id, "image": image, **label_fields(self.table, index, self.exclusive)}
