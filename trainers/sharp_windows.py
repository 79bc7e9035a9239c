"""Which part of a crop ECAMP super-resolves: where words about findings look, the organs they name, or the middle."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError
from core.models.checkpoint import write_atomically
from core.models.ecamp_config import ECAMPConfig
from core.preprocess import Size3
from core.report.parse import parse_report
from core.retrieval.table import ReportRow
from core.structures import parts_of
from trainers.builders.csv_rows import read_rows
from trainers.crops import Crop, CropPlace, box_of
from trainers.fine_volumes import FineVolumes
from trainers.report_tokens import read_sentences

COLUMNS = ("study_id", "x", "y", "z")
WINDOWS = "sr_window.csv"
"""Optional file of a data folder: the voxel in the middle of each study's window, at the training spacing."""


class WindowSizes(NamedTuple):
    """Sizes (x, y, z) that place a window."""

    crop: Size3  # voxels
    patch: Size3  # voxels
    window: Size3  # patches
    grid: Size3  # patches

    @classmethod
    def of(cls, config: ECAMPConfig) -> "WindowSizes":
        """Those of a model."""
        return cls(config.image_size, config.image_patch, config.window, config.vision.grid)

    def corner_around(self, voxel: Sequence[float]) -> Size3:
        """First patch of the window around a voxel of the crop, pushed inside the crop."""
        x, y, z = (
            min(max(math.floor((at + 0.5) / patch - window / 2 + 0.5), 0), grid - window)
            for at, patch, window, grid in zip(voxel, self.patch, self.window, self.grid, strict=True)
        )
        return x, y, z

    def box_of(self, corner: Size3) -> tuple[Size3, Size3]:
        """First voxel and size of the window in the crop's voxels."""
        (a, b, c), (p, q, r), (u, v, w) = corner, self.patch, self.window
        return (a * p, b * q, c * r), (u * p, v * q, w * r)

    def middle_of(self, corner: Sequence[int]) -> Size3:
        """The crop's voxel in the middle of the window."""
        x, y, z = (
            min(int((first + window / 2) * patch), n - 1)
            for first, window, patch, n in zip(corner, self.window, self.patch, self.crop, strict=True)
        )
        return x, y, z


def into_crop(voxel: Size3, place: CropPlace, size: Size3) -> Size3:
    """A voxel of the volume in the crop as it is shown; may lie outside."""
    x, y, z = (
        size[a] - 1 - (voxel[a] - place.start[a]) if place.flipped[a] else voxel[a] - place.start[a] for a in range(3)
    )
    return x, y, z


def into_volume(voxel: Size3, place: CropPlace, size: Size3) -> Size3:
    """Inverse of `into_crop`."""
    x, y, z = ((size[a] - 1 - voxel[a] if place.flipped[a] else voxel[a]) + place.start[a] for a in range(3))
    return x, y, z


class WindowMemory:
    """The voxel of the volume in the middle of each study's window: a moving average of where it was found."""

    def __init__(self, momentum: float = 0.0) -> None:
        """momentum: share of its old place that a window keeps."""
        self.momentum, self.middles = momentum, dict[str, Size3]()

    def learn(self, found: Mapping[str, Size3]) -> None:
        """Move each study's window towards where it was found now."""
        for study_id, new in found.items():
            old = self.middles.get(study_id, new)
            x, y, z = (
                math.floor(self.momentum * a + (1 - self.momentum) * b + 0.5) for a, b in zip(old, new, strict=True)
            )
            self.middles[study_id] = (x, y, z)

    def write(self, path: Path) -> None:
        """Keep the windows as CSV, whole or not at all."""
        text = io.StringIO(newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows([study_id, *self.middles[study_id]] for study_id in sorted(self.middles))
        write_atomically(path, text.getvalue().encode())

    def read(self, path: Path) -> None:
        """Take the windows of a file that `write` wrote, and forget all others."""
        self.middles = {}
        for place, cells in read_rows(path, COLUMNS):
            try:
                self.middles[cells["study_id"]] = (int(cells["x"]), int(cells["y"]), int(cells["z"]))
            except ValueError as error:
                raise ConfigError(f"{place}: expected whole voxel numbers in x, y and z.") from error


class SharpWindows:
    """A `trainers.sources.FieldSource` of window corners."""

    def __init__(
        self, rows: Mapping[str, ReportRow], config: ECAMPConfig, folder: Path, fine: FineVolumes | None = None
    ) -> None:
        """folder: may hold sr_window.csv, where windows begin that follow the attention. fine: gives sharp targets."""
        self.rows, self.how, self.every, self.fine = rows, config.sr.window_from, config.sr.refresh_epochs, fine
        self.sizes = WindowSizes.of(config)
        self.memory = WindowMemory(config.sr.momentum)
        if (folder / WINDOWS).is_file():
            self.memory.read(folder / WINDOWS)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what `make` returns."""
        made = ("sr_corner", "crop_start", "crop_flipped")
        return made if self.fine is None else (*made, "image_hr")

    def check(self, study_ids: Sequence[str]) -> None:
        """Every study has a window: in the middle, where nothing better is known."""

    def make(self, crop: Crop, rng: np.random.Generator) -> dict[str, Tensor]:  # noqa: ARG002  (nothing is drawn)
        corner = self.corner(crop)
        made = {
            "sr_corner": torch.tensor(corner, dtype=torch.int16),
            "crop_start": torch.tensor(crop.place.start, dtype=torch.int32),
            "crop_flipped": torch.tensor(crop.place.flipped),
        }
        if self.fine is not None:
            made["image_hr"] = self.fine.cut(crop, *self.sizes.box_of(corner))
        return made

    def corner(self, crop: Crop) -> Size3:
        """First patch of the crop's window."""
        sizes, middle = self.sizes, None
        if self.how == "attn" and crop.study_id in self.memory.middles:
            middle = into_crop(self.memory.middles[crop.study_id], crop.place, sizes.crop)
        if self.how == "organ":
            middle = self._middle_of_organs(crop)
        if middle is None:
            x, y, z = ((grid - window) // 2 for grid, window in zip(sizes.grid, sizes.window, strict=True))
            return x, y, z
        return sizes.corner_around(middle)

    def _middle_of_organs(self, crop: Crop) -> Size3 | None:
        """Middle of the box around the organs that the report finds something in; None when the crop shows none."""
        if crop.structures is None:
            raise ConfigError(
                "Windows on organs (sr.window_from organ) need masks; use the preset organ, which reads masks/."
            )
        numbers = organs_with_findings(self.rows[crop.study_id], crop.is_mirrored)
        box = box_of(np.isin(crop.structures, sorted(numbers)))
        if box is None:
            return None
        x, y, z = ((part.start + part.stop - 1) // 2 for part in box)
        return x, y, z


def organs_with_findings(row: ReportRow, is_mirrored: bool) -> set[int]:
    """Numbers of the structures in which a report finds something, read by rule; as a mirrored study says it."""
    text = " ".join(read_sentences(row.text, is_mirrored))
    mentions = [mention for sentence in parse_report(text).sentences for mention in sentence.mentions] if text else []
    organs = {organ for mention in mentions if mention.existence == "present" for organ in mention.organs}
    return {number for organ in organs for number in parts_of(organ)}
