"""A tiny untrained encoder, and CTs whose label can be seen."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from core.models.asap import ASAP
from core.models.asap_config import tiny
from core.models.model_file import ModelFacts, save_model
from core.models.tokens import train_wordpiece

FACTS = {
    "spacing_mm": "[3.0, 3.0, 6.0]",
    "window_hu": "[-1000.0, 1000.0]",
    "shown_as": "[-1.0, 1.0]",
    "crop": "[32, 32, 16]",
}


def write_encoder(folder: Path, seed: int = 0) -> Path:
    """A run folder as trainers.pretrain leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_wordpiece(["a nodule in the left lower lobe"], 200)
    torch.manual_seed(seed)
    save_model(
        folder / "model.safetensors", ASAP(tiny(tokenizer.vocab_size)), tokenizer, ModelFacts("asap", "tiny", FACTS)
    )
    return folder


def write_ct(path: Path, bright: bool, seed: int, shape: tuple[int, int, int] = (36, 34, 20)) -> np.ndarray:
    """Noise around -600 HU, with a block of 300 HU where `bright`; returns where the block is (file axes)."""
    rng = np.random.default_rng(seed)
    hu = rng.normal(-600, 60, shape)
    block = np.zeros(shape, bool)
    corner = rng.integers(8, 14, 2)
    block[corner[0] : corner[0] + 12, corner[1] : corner[1] + 12, 5:15] = True
    if bright:
        hu[block] = rng.normal(300, 60, int(block.sum()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.nifti1.save(nib.nifti1.Nifti1Image(hu.astype(np.int16), np.diag([-3.0, -3.0, 6.0, 1.0])), path)
    return block


def write_list(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_label_task(root: Path, patients: int = 12, test: int = 6) -> tuple[Path, Path]:
    """volumes/ and two lists, "bright" and its opposite among the labels; two studies of the first patient."""
    lists = []
    for side, count in (("train", patients), ("valid", test)):
        rows: list[list[object]] = []
        for number in range(count):
            for study in "ab"[: 2 if number == 0 else 1]:
                name = f"{side}_{number}_{study}_1.nii.gz"
                bright = number % 2
                write_ct(root / "volumes" / side / name, bool(bright), 100 * count + number)
                rows.append([name, bright, 1 - bright if number != 1 else 1])
        lists.append(write_list(root / f"{side}.csv", ["VolumeName", "Bright", "Other"], rows))
    return lists[0], lists[1]


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())
