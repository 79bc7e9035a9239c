"""NIfTI on the grid of the file that a CT came from: fast, atomic, with its place in the patient."""

import io
from pathlib import Path
from typing import IO

import nibabel as nib
import numpy as np
from isal import igzip

from core.errors import ConfigError
from core.export.replacing import replacing
from core.volume import Grid, Volume

GZIP_LEVEL = 1
"""isal's level 1 is 16 times faster than gzip 6 and 4% larger (512x512x300 int16)."""
DTYPES = (np.uint8, np.uint16, np.int16, np.float32)
SCANNER = 1
"""NIFTI_XFORM_SCANNER_ANAT: the affine gives places in the patient as the scanner did."""


def write_nifti(path: Path, array: np.ndarray, grid: Grid, description: str = "") -> None:
    """Write an array (I, J, K) that lies on `grid` to .nii or .nii.gz; the file appears whole or not at all.

    bool becomes uint8; otherwise uint8, uint16, int16 or float32 without NaN. ConfigError if it cannot be written.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ConfigError(f"The output is named {path.name!r}. Expected a name ending in .nii.gz or .nii.")
    array, header = _storable(array, grid, description)
    with replacing(path) as file:
        _write(file, array, header, path.name.endswith(".gz"))


def write_on_source(path: Path, array: np.ndarray, volume: Volume, description: str = "") -> None:
    """Write an array (X, Y, Z) on a volume's RAS grid in the axes and on the grid of the volume's source file."""
    write_nifti(path, volume.to_source(array), volume.source, description)


def nifti_bytes(array: np.ndarray, grid: Grid, description: str = "") -> bytes:
    """What `write_nifti` writes to a .nii.gz, as bytes for a download."""
    array, header = _storable(array, grid, description)
    sink = io.BytesIO()
    _write(sink, array, header, is_gzipped=True)
    return sink.getvalue()


def _storable(array: np.ndarray, grid: Grid, description: str) -> tuple[np.ndarray, nib.Nifti1Header]:
    array = array.astype(np.uint8) if array.dtype == bool else array
    if array.shape != tuple(grid.shape):
        raise ValueError(f"array {array.shape} is not on its grid {grid.shape}")
    if array.dtype not in DTYPES:
        raise ValueError(f"{array.dtype} is none of {[np.dtype(one).name for one in DTYPES]}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("array holds NaN or infinity")
    header = nib.Nifti1Header()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_xyzt_units("mm")
    header["descrip"] = description.encode("ascii", "replace")[:79]
    header.set_sform(grid.affine, SCANNER)
    _set_qform(header, grid.affine)
    header.set_slope_inter(1, 0)
    header["vox_offset"] = 352
    return array, header


def _set_qform(header: nib.Nifti1Header, affine: np.ndarray) -> None:
    """The same placement as a quaternion; left out (code 0) where the axes are sheared and it would differ."""
    header.set_qform(affine, SCANNER, strip_shears=True)
    corner = np.array([*header.get_data_shape(), 1.0])
    if np.abs((header.get_qform() - affine) @ corner).max() > 0.01:
        header["qform_code"] = 0


def _write(file: IO[bytes], array: np.ndarray, header: nib.Nifti1Header, is_gzipped: bool) -> None:
    """Header and voxels, a few slices at a time so that no second copy of the array is made."""
    sink: IO[bytes] = file
    if is_gzipped:
        sink = igzip.IGzipFile("", "wb", GZIP_LEVEL, file, 0)  # type: ignore[assignment]  # no name, no time: same bytes
    sink.write(header.binaryblock + b"\0\0\0\0")
    for start in range(0, array.shape[2], 16):  # several at a time: a C-ordered array is read whole lines at once
        sink.write(array[:, :, start : start + 16].tobytes(order="F"))
    if is_gzipped:
        sink.close()
