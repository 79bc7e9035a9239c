"""Masks that a person brings along."""

import zlib
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

from core.anatomy.masks import OrganMasks
from core.errors import StudyError
from core.structures import BY_NAME, BY_NUMBER
from core.volume import Grid, Volume

ENGINE = "provided"


def load_masks(path: Path, volume: Volume, names: Mapping[int, str] | None = None, engine: str = ENGINE) -> OrganMasks:
    """Read a NIfTI label map that lies on the CT's own grid.

    names: number in the file -> structure name; without it TotalSegmentator's numbers are assumed.
    engine: who made them.
    Raises StudyError when the file cannot be read, has another grid, or holds numbers without a name.
    """
    numbers, grid = read_label_map(path)
    _require_same_grid(path, grid, volume)
    labels, notes = name_labels(numbers, names, path.name)
    return OrganMasks(volume.from_source_array(labels), engine, notes=notes)


def read_label_map(path: Path) -> tuple[np.ndarray, Grid]:
    """Numbers (I, J, K) as a NIfTI file stores them, any dtype, and their grid; StudyError for anything else."""
    image = _open(path)
    if len(image.shape) != 3 or image.affine is None:
        raise StudyError(f"{path.name} has shape {image.shape}: expected one 3-D label map.")
    a, b, c = image.shape
    return _numbers(path, image), Grid((int(a), int(b), int(c)), np.asarray(image.affine, np.float64))


def name_labels(numbers: np.ndarray, names: Mapping[int, str] | None, file: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Label numbers of a file -> numbers of `core.structures` (uint8, same shape), and what a person should know.

    names: number in the file -> structure name; None takes TotalSegmentator's numbers. StudyError for fractions,
    negative numbers, and numbers that no table has.
    """
    values = _distinct(numbers)
    if not np.array_equal(values, np.rint(values)) or values.min() < 0:
        raise StudyError(f"{file} holds fractions or negative numbers: expected whole label numbers from 0.")
    table, notes = _translation([int(value) for value in values if value], names, file)
    lut = np.zeros(int(values.max()) + 1, np.uint8)
    for number, ours in table.items():
        lut[number] = ours
    return lut[numbers if numbers.dtype.kind in "iu" else numbers.astype(np.int64)], notes


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """The values that occur, ascending; bytes are counted slab by slab, ten times faster than sorting them."""
    if numbers.dtype != np.uint8:
        return np.unique(numbers)
    counts = np.zeros(256, np.int64)
    for start in range(0, numbers.shape[2], 16):
        counts += np.bincount(numbers[:, :, start : start + 16].ravel(order="K"), minlength=256)
    return np.flatnonzero(counts)


def _open(path: Path) -> nib.nifti1.Nifti1Image:
    try:
        return nib.nifti1.load(path)
    except (OSError, nib.filebasedimages.ImageFileError) as error:
        raise StudyError(f"{path.name} cannot be read as a NIfTI mask ({error}). Expected .nii or .nii.gz.") from error


def _numbers(path: Path, image: nib.nifti1.Nifti1Image) -> np.ndarray:
    """The voxels as stored; a file cut short while copying is refused."""
    try:
        return np.asanyarray(image.dataobj)
    except (OSError, EOFError, zlib.error) as error:
        raise StudyError(f"{path.name} ends too early ({error}). Copy or export the mask again.") from error


def _require_same_grid(path: Path, grid: Grid, volume: Volume) -> None:
    """Refuse a mask whose voxels lie elsewhere than the CT's."""
    if not lies_on(grid, volume.source):
        found = f"{grid.shape} voxels of {_words(grid.spacing_mm)} mm"
        expected = f"{volume.source.shape} voxels of {_words(volume.source.spacing_mm)} mm at the same place"
        raise StudyError(f"{path.name} is not on the CT's grid: found {found}, expected {expected}. Resample it first.")


def lies_on(grid: Grid, other: Grid) -> bool:
    """Whether no corner voxel is farther than a tenth of a voxel away."""
    if grid.shape != other.shape:
        return False
    corners = [[0, 0, 0], np.array(grid.shape) - 1, [grid.shape[0] - 1, 0, 0], [0, grid.shape[1] - 1, 0]]
    distance_mm = np.abs(grid.to_mm(corners) - other.to_mm(corners)).max()
    return bool(distance_mm <= 0.1 * min(other.spacing_mm))


def _words(spacing_mm: tuple[float, float, float]) -> str:
    return " x ".join(f"{edge:.2f}" for edge in spacing_mm)


def _translation(
    values: list[int], names: Mapping[int, str] | None, file: str
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Number in the file -> our number, and what a person should know."""
    if names is None:
        strange = [value for value in values if value not in BY_NUMBER]
        if strange:
            raise StudyError(
                f"{file} holds label {strange[0]}, which TotalSegmentator's table does not have: "
                "give a table of label names with the mask."
            )
        return {value: value for value in values}, ("Label numbers are taken as TotalSegmentator's.",)
    unnamed = [value for value in values if value not in names]
    unknown = [names[value] for value in values if value in names and names[value] not in BY_NAME]
    notes = []
    if unnamed:
        notes.append(f"Labels without a name were left out: {', '.join(map(str, unnamed))}.")
    if unknown:
        notes.append(f"Structures this program does not know were left out: {', '.join(unknown)}.")
    kept = {value: BY_NAME[names[value]].number for value in values if names.get(value) in BY_NAME}
    return kept, tuple(notes)
