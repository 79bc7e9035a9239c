"""The training set of a segmenter: crops around labelled and unlabelled voxels, flipped and turned."""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from core.errors import ConfigError, StudyError
from core.preprocess import AIR_HU, Size3
from core.tasks.view import TaskView, show, thin_out, thin_out_labels
from trainers.batch import Sample
from trainers.finetuning.decathlon import SegCase
from trainers.finetuning.volumes import read_ct, read_labels_beside
from trainers.folder import save_array

MOST_MARKED = 50_000
"""Labelled voxels that are kept as places for crops."""
TRIES = 20
"""Draws of a voxel without label before any voxel is taken."""


@dataclass(frozen=True)
class CropConfig:
    """Which crops are shown, and how they are varied."""

    per_case: int = 4
    """Crops of each case in an epoch."""
    marked: float = 1.0
    """Weight of crops around a labelled voxel."""
    unmarked: float = 1.0
    """Weight of crops around one without label."""
    flip_chance: float = 0.2
    """Per axis; a flip from left to right swaps left and right labels too."""
    turn_chance: float = 0.2
    """Of a quarter, half or three-quarter turn around the body's axis."""

    def __post_init__(self) -> None:
        if self.per_case < 1 or min(self.marked, self.unmarked) < 0 or self.marked + self.unmarked <= 0:
            raise ConfigError("crops: per_case must be at least 1; marked and unmarked weights, not both 0.")
        if not 0 <= min(self.flip_chance, self.turn_chance) <= max(self.flip_chance, self.turn_chance) <= 1:
            raise ConfigError("crops: chances must lie in [0, 1].")


class ThinCase(NamedTuple):
    """A case at the view's spacing, memory-mapped."""

    hu: np.ndarray  # (X, Y, Z) int16
    labels: np.ndarray  # (X, Y, Z) uint8
    marked: np.ndarray  # (M, 3) int16, some of the labelled voxels


class ThinCases:
    """Cases at a view's spacing, made once and kept."""

    def __init__(self, view: TaskView, classes: int, cache: Path) -> None:
        key = hashlib.sha256(json.dumps(view.made_from).encode()).hexdigest()[:16]
        self.view, self.classes, self.folder = view, classes, cache / f"cases-{key}"

    def prepare(self, cases: Sequence[SegCase]) -> dict[str, str]:
        """Make what is not there yet; names of the cases that cannot be used, with the reason."""
        skipped = {}
        for case in tqdm(cases, unit="CT", desc="resampling", disable=not sys.stderr.isatty()):
            try:
                self.read(case)
            except StudyError as error:
                skipped[case.name] = " ".join(str(error).split())
        return skipped

    def read(self, case: SegCase) -> ThinCase:
        """The case; StudyError when its files cannot be used."""
        facts = [f"{file.name}:{(told := file.stat()).st_size}:{told.st_mtime_ns}" for file in case]
        stem = f"{case.name}-{hashlib.sha256(' '.join([*facts, str(self.classes)]).encode()).hexdigest()[:12]}"
        paths = [self.folder / f"{stem}.{kind}.npy" for kind in ("hu", "labels", "marked")]
        if not all(path.is_file() for path in paths):
            self.folder.mkdir(parents=True, exist_ok=True)
            for path, array in zip(paths, self._make(case), strict=True):
                save_array(path, array)
        hu, labels, marked = (np.load(path, mmap_mode="r", allow_pickle=False) for path in paths)
        return ThinCase(hu, labels, marked)

    def _make(self, case: SegCase) -> ThinCase:
        volume = read_ct(case.image)
        labels = read_labels_beside(case.label, volume, self.classes)
        hu, grid = thin_out(volume, self.view)
        thin = thin_out_labels(labels, volume.grid, grid, self.view)
        marked = np.argwhere(thin > 0).astype(np.int16)
        if len(marked) > MOST_MARKED:
            marked = marked[np.random.default_rng(0).choice(len(marked), MOST_MARKED, replace=False)]
        return ThinCase(hu, thin, marked)


class CropStudies:
    """Crops of `roi` voxels; an item depends on nothing but the seed, the epoch and its index."""

    def __init__(
        self, thin: ThinCases, cases: Sequence[SegCase], config: CropConfig, swap: np.ndarray | None, seed: int
    ) -> None:
        """swap: class numbers in a mirrored CT (`side_swap`); None = never flip from left to right."""
        self.thin, self.cases, self.config, self.swap, self.seed = thin, tuple(cases), config, swap, seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self.cases) * self.config.per_case

    def set_epoch(self, epoch: int) -> None:
        """Choose crops and flips from now on."""
        self._epoch = epoch

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, self._epoch, index])
        case, view = self.cases[index % len(self.cases)], self.thin.view
        found = self.thin.read(case)
        start = draw_start(found, view.size, self.config, rng)
        hu = cut(found.hu, start, view.size, AIR_HU)
        labels = cut(found.labels, start, view.size, 0)
        hu, labels = vary((hu, labels), self.config, self.swap, rng)
        image = torch.from_numpy(np.ascontiguousarray(show(hu, view)))[None]
        return {"study_id": case.name, "image": image, "voxel_class": torch.from_numpy(np.ascontiguousarray(labels))}


def draw_start(case: ThinCase, size: Size3, config: CropConfig, rng: np.random.Generator) -> Size3:
    """First voxel of a crop around a labelled voxel, or one without label, as their weights have it."""
    share = config.marked / (config.marked + config.unmarked)
    if len(case.marked) and rng.random() < share:
        centre = case.marked[rng.integers(len(case.marked))].astype(int)
    else:
        for _ in range(TRIES):
            centre = rng.integers(0, case.labels.shape)
            if case.labels[tuple(centre)] == 0:
                break
    last = np.maximum(0, np.array(case.hu.shape) - np.array(size))
    x, y, z = np.clip(centre - np.array(size) // 2, 0, last).tolist()
    return x, y, z


def cut(array: np.ndarray, start: Size3, size: Size3, fill: int) -> np.ndarray:
    """A box of `size` from `start`, filled up evenly on both sides where the array is shorter: (X, Y, Z)."""
    box = np.asarray(array[tuple(slice(at, at + n) for at, n in zip(start, size, strict=True))])
    gaps = [n - have for n, have in zip(size, box.shape, strict=True)]
    return np.pad(box, [(gap // 2, gap - gap // 2) for gap in gaps], constant_values=fill) if max(gaps) else box


def vary(
    arrays: tuple[np.ndarray, np.ndarray], config: CropConfig, swap: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """CT and labels (X, Y, Z), flipped per axis and turned around z; a crop that is not square is turned by halves."""
    hu, labels = arrays
    wanted = rng.random(3) < config.flip_chance
    if swap is not None and wanted[0]:
        hu, labels = hu[::-1], swap[labels[::-1]]
    axes = tuple(axis for axis in (1, 2) if wanted[axis])
    hu, labels = np.flip(hu, axes), np.flip(labels, axes)
    turns = int(rng.integers(1, 4)) if rng.random() < config.turn_chance else 0
    if hu.shape[0] != hu.shape[1]:
        turns -= turns % 2
    return np.rot90(hu, turns), np.rot90(labels, turns)
