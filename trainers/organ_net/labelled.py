"""Labelled CT to draw samples from: HU and the net's classes on one RAS grid."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from core.anatomy.organ_net import CLASSES
from core.errors import ConfigError
from core.structures import BY_NAME, STRUCTURES, parts_of
from core.volume import Volume

UNKNOWN = 255
"""In files and in classes: voxels whose structure nobody knows; no loss."""


@dataclass(frozen=True, eq=False)
class LabelledScan:
    """One patient."""

    name: str
    hu: Tensor
    """(X, Y, Z) float32 HU, axes Right, Anterior, Superior."""
    classes: Tensor
    """(X, Y, Z) uint8 numbers of `core.anatomy.organ_net.CLASSES`; 255 where unknown."""
    spacing_mm: tuple[float, float, float]
    """Voxel edges."""


def class_table() -> np.ndarray:
    """(256,) uint8: number of `core.structures` -> number of the net's class."""
    table = np.zeros(256, np.uint8)
    table[UNKNOWN] = UNKNOWN
    for at, name in enumerate(CLASSES[1:], start=1):
        if name in BY_NAME:
            table[list(parts_of(name))] = at
        else:
            table[[s.number for s in STRUCTURES if s.name in (f"{name}_left", f"{name}_right")]] = at
    return table


def read_labelled(ct: Path, organs: Path) -> LabelledScan:
    """Read a CT and its organ masks (numbers of `core.structures`), on one grid in any orientation.

    Raises ConfigError when the two are not on one grid.
    """
    image, labels = nib.nifti1.load(ct), nib.nifti1.load(organs)
    numbers = np.asanyarray(labels.dataobj).astype(np.uint8)
    if numbers.shape != image.shape or not np.allclose(image.affine, labels.affine, atol=1e-3):
        raise ConfigError(f"{organs} is not on the grid of {ct}: make both from the same CT.")
    hu = np.clip(np.asanyarray(image.dataobj), -1024, 3071).astype(np.int16)
    volume = Volume.from_source(hu, image.affine)
    classes = class_table()[volume.from_source_array(numbers)]
    return LabelledScan(
        ct.parent.name,
        torch.from_numpy(volume.hu.astype(np.float32)),
        torch.from_numpy(np.ascontiguousarray(classes)),
        volume.grid.spacing_mm,
    )
