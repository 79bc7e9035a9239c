"""Masks of findings from NIfTI files, put on the axes of their CT and refused where they lie elsewhere."""

import re
import zlib
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import nibabel.orientations as nio
import numpy as np

from core.anatomy.provided import lies_on
from core.errors import ConfigError, StudyError
from core.volume import Grid, Volume, ras_axes, ras_grid

NIFTI = (".nii", ".nii.gz")
NO_PLACE = np.eye(4)
"""Affine of files that say nothing of where they lie."""


class FindingMask(NamedTuple):
    """Which voxels of a file are a finding."""

    path: Path
    labels: str = ""  # "" = above 0; "6" or "6 7 8" = these values; ">=2" = at least this

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its file."""
        return (self.path,)

    def check(self, ct: Grid | None) -> None:
        """StudyError for a missing file, or one that does not lie on the CT's grid; ConfigError for unknown labels."""
        choose_labels(np.zeros(1), self.labels)
        found = grid_of(self.path)
        if found is None:
            raise StudyError(f"{self.path.name} has shape {open_nifti(self.path).shape}; expected one 3-D mask.")
        if ct is not None:
            require_grid(found, ct, self.path.name)

    def read(self, volume: Volume) -> np.ndarray:
        """(X, Y, Z) bool on the CT's RAS grid. StudyError for a file that is damaged or on another grid."""
        values, affine = read_values(self.path)
        if values.ndim != 3:
            raise StudyError(f"{self.path.name} has shape {values.shape}; expected one 3-D mask.")
        return place_on(volume, choose_labels(values, self.labels), affine, self.path.name)


def choose_labels(values: np.ndarray, labels: str) -> np.ndarray:
    """Where values are those of `labels`, as `FindingMask` tells; ConfigError for words that are none of them."""
    wanted = labels.strip()
    if not wanted:
        return values > 0
    if re.fullmatch(r">=\s*\d+", wanted):
        return values >= int(wanted[2:])
    if re.fullmatch(r"\d+([\s;,]+\d+)*", wanted):
        return np.isin(values, [int(value) for value in re.split(r"[\s;,]+", wanted)])
    raise ConfigError(f"The labels of a mask are {labels!r}; expected nothing, '6', '6 7 8' or '>=2'.")


def read_values(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels as stored and the affine (4, 4); StudyError for a missing or damaged file."""
    image = open_nifti(path)
    try:
        return np.asanyarray(image.dataobj), np.asarray(image.affine, np.float64)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise StudyError(f"{path.name} cannot be read ({error}). Copy the file again.") from error


def open_nifti(path: Path) -> nib.nifti1.Nifti1Image:
    """The image without its voxels; StudyError for a missing or damaged file."""
    if not path.is_file():
        raise StudyError(f"{path} does not exist; expected a NIfTI file. Check its name.")
    try:
        return nib.nifti1.load(path)
    except (OSError, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise StudyError(f"{path.name} cannot be read as NIfTI ({error}). Expected .nii or .nii.gz.") from error


def grid_of(path: Path) -> Grid | None:
    """Where a 3-D NIfTI lies, from its header; None for other shapes."""
    image = open_nifti(path)
    if len(image.shape) != 3:
        return None
    a, b, c = image.shape
    return Grid((int(a), int(b), int(c)), np.asarray(image.affine, np.float64))


def place_on(volume: Volume, mask: np.ndarray, affine: np.ndarray, name: str) -> np.ndarray:
    """A mask (I, J, K) bool on the CT's RAS axes, (X, Y, Z), whatever axes both files were stored along.

    StudyError where its voxels are not those of the CT.
    """
    grid = Grid((int(mask.shape[0]), int(mask.shape[1]), int(mask.shape[2])), affine)
    require_grid(grid, volume.source, name)
    return np.ascontiguousarray(nio.apply_orientation(mask, ras_axes(grid.affine)))


def require_grid(grid: Grid, ct: Grid, name: str) -> None:
    """StudyError unless both grids hold the same voxels, along any axes."""
    if lies_on(ras_grid(grid), ras_grid(ct)):
        return
    raise StudyError(
        f"{name} is not on the grid of its CT: found {_describe(grid)}, expected {_describe(ct)}. Resample the mask to "
        "the CT."
    )


def _describe(grid: Grid) -> str:
    edges = " x ".join(f"{edge:.2f}" for edge in grid.spacing_mm)
    corner = ", ".join(f"{value:.1f}" for value in grid.to_mm((0, 0, 0)))
    return f"{' x '.join(map(str, grid.shape))} voxels of {edges} mm, {grid.orientation}, the first at ({corner}) mm"


def is_without_place(affine: np.ndarray) -> bool:
    """Whether a file says nothing of where it lies."""
    return bool(np.allclose(affine, NO_PLACE))
