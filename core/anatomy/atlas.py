"""One labelled chest CT, the pattern that is fitted to every other patient."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np

from core.anatomy.body import find_body
from core.anatomy.frame import WORK_MM, Frame, working_frame
from core.errors import ConfigError
from core.resample import resample
from core.structures import parts_of
from core.volume import Volume

CT_FILE = "ct.nii.gz"
LABELS_FILE = "organs.nii.gz"


@dataclass(frozen=True, eq=False)
class Atlas:
    """A chest CT with its organs; everything derived from it is computed once."""

    volume: Volume
    """The CT."""
    labels: np.ndarray
    """(X, Y, Z) uint8 on the CT's RAS grid, numbers of `core.structures`."""

    def __post_init__(self) -> None:
        if self.labels.shape != self.volume.shape:
            raise ConfigError(f"The atlas labels {self.labels.shape} do not fit its CT {self.volume.shape}.")
        if not np.isin(list(parts_of("lung_left")), self.labels).any():
            raise ConfigError(
                "The atlas labels hold no left lung: expected TotalSegmentator's numbers (10 to 14 lobes)."
            )

    @cached_property
    def frame(self) -> Frame:
        """The CT in the working frame."""
        return working_frame(self.volume, WORK_MM)

    @cached_property
    def frame_labels(self) -> np.ndarray:
        """(X, Y, Z) uint8, the labels in the working frame."""
        return resample(self.labels, self.volume.grid, self.frame.grid, "nearest")

    @cached_property
    def body(self) -> np.ndarray:
        """(X, Y, Z) bool, the patient in the working frame."""
        return find_body(self.frame)

    def mask(self, name: str) -> np.ndarray:
        """Where the structure or union `name` is in the working frame: (X, Y, Z) bool."""
        return np.isin(self.frame_labels, list(parts_of(name)))


def load_atlas(folder: Path) -> Atlas:
    """Read the atlas, `ct.nii.gz` and `organs.nii.gz` (TotalSegmentator's numbers), from `folder`.

    Raises ConfigError when a file is absent or the two are not on one grid.
    """
    for name in (CT_FILE, LABELS_FILE):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder} holds no {name}: expected the atlas CT and its labels there.")
    ct, labels = nib.nifti1.load(folder / CT_FILE), nib.nifti1.load(folder / LABELS_FILE)
    hu = np.clip(np.asanyarray(ct.dataobj), -1024, 3071).astype(np.int16)
    volume = Volume.from_source(hu, ct.affine)
    numbers = np.asanyarray(labels.dataobj).astype(np.uint8)
    if numbers.shape != hu.shape or not np.allclose(labels.affine, ct.affine, atol=1e-3):
        raise ConfigError(f"{folder / LABELS_FILE} is not on the grid of {CT_FILE}: make both from the same CT.")
    return Atlas(volume, volume.from_source_array(numbers))
