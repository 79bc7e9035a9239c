"""NIfTI-1 and NIfTI-2, gzipped or not, straight into int16: no float copy, no more bytes than the header promises."""

import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import nibabel as nib
import numpy as np
from isal import igzip, igzip_lib
from nibabel.spatialimages import HeaderDataError

from core.errors import StudyError
from core.progress import Progress, silent
from core.reading.limits import ReadLimits
from core.reading.scan import DAMAGE, HuArray, Scan, geometry_warnings, require_affine, require_size

IsalError = cast("type[Exception]", igzip_lib.IsalError)  # its stub calls the class an instance
GZIP_DAMAGE = (*DAMAGE, zlib.error, IsalError)
SLAB_BYTES = 2**25
"""Bytes turned into voxels at a time."""
PIECE_BYTES = 2**20
"""Bytes unpacked at a time: what stays in the processor's cache is unpacked a third faster."""
MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""xyzt_units of the header (unknown, metre, mm, micron) -> mm; the standard's default is mm."""
Header = nib.Nifti1Header | nib.Nifti2Header


class NiftiFacts(NamedTuple):
    """What the header says, checked."""

    shape: tuple[int, int, int]
    dtype: np.dtype
    slope: float
    intercept: float
    offset: int  # bytes before the first voxel
    affine: np.ndarray  # (4, 4), source voxel -> RAS+ mm
    description: str
    warnings: tuple[str, ...]
    done: tuple[str, ...]


def read_facts(path: Path, limits: ReadLimits) -> NiftiFacts:
    """Read and check the header alone; StudyError says why the file cannot be used."""
    try:
        with open_plain(path) as stream:
            header = _parse_header(stream, path.name)
    except GZIP_DAMAGE as error:
        raise StudyError(
            f"{path.name}: the NIfTI header is damaged ({error}). Copy or export the file again."
        ) from error
    return _check_header(header, limits, path.name)


def read_nifti(path: Path, limits: ReadLimits, progress: Progress = silent) -> Scan:
    """Read a .nii or .nii.gz, (I, J, K) as stored, in HU by the header's own slope and intercept (applied once)."""
    facts = read_facts(path, limits)
    array = HuArray(facts.shape)
    try:
        with open_plain(path) as stream:
            stream.read(facts.offset)
            _fill(array, stream, facts, progress)
            stream.read(1)  # makes gzip check its sum
    except StudyError:
        raise
    except GZIP_DAMAGE as error:
        raise StudyError(f"{path.name} is truncated or damaged ({error}). Copy or download it again.") from error
    return Scan(
        array.values,
        facts.affine,
        "unknown",
        facts.description,
        (path.name,),
        (*facts.warnings, *array.notes()),
        facts.done,
    )


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading, through gzip when its first bytes say so."""
    file = path.open("rb")
    is_gzipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not is_gzipped:
        return file
    file.close()
    return cast("BinaryIO", igzip.open(path, "rb"))


def _fill(array: HuArray, stream: BinaryIO, facts: NiftiFacts, progress: Progress) -> None:
    """Slices in slabs, each read into one reused buffer."""
    width, height, depth = facts.shape
    per_slice = width * height * facts.dtype.itemsize
    count = max(1, min(depth, SLAB_BYTES // per_slice))
    buffer = bytearray(count * per_slice)
    for start in range(0, depth, count):
        slices = min(count, depth - start)
        part = memoryview(buffer)[: slices * per_slice]
        _read_exactly(stream, part)
        slab = np.frombuffer(part, facts.dtype).reshape((width, height, slices), order="F")
        array.put(start, slab, facts.slope, facts.intercept)
        progress((start + slices) / depth, f"Reading slice {start + slices} of {depth}")


def _read_exactly(stream: BinaryIO, part: memoryview) -> None:
    done = 0
    while done < len(part):
        count = stream.readinto(part[done : done + PIECE_BYTES])  # type: ignore[attr-defined]
        if not count:
            raise EOFError("fewer voxels than its header promises")
        done += count


def _parse_header(stream: BinaryIO, name: str) -> Header:
    head = stream.read(540)
    sizes = {int.from_bytes(head[:4], order): order for order in ("little", "big")}
    size, order = next(((n, o) for n, o in sizes.items() if n in (348, 540)), (0, ""))
    if len(head) < max(size, 348) or not size:
        raise StudyError(f"{name} ends within its header. Copy or download it again.")
    magic = head[344:348] if size == 348 else head[4:8]
    if magic not in (b"n+1\x00", b"n+2\x00"):
        raise StudyError(f"{name} is half of a pair (.hdr and .img). Expected a single .nii: convert the pair first.")
    kind = nib.Nifti1Header if size == 348 else nib.Nifti2Header
    return kind(head[:size], "<" if order == "little" else ">", check=False)


def _check_header(header: Header, limits: ReadLimits, name: str) -> NiftiFacts:
    shape = _shape_of(header, name)
    require_size(shape, limits.voxels, name)
    dtype = _dtype_of(header, name)
    slope, intercept = _scaling_of(header, name)
    affine, warnings = _affine_of(header, shape, name)
    unit = int(header["xyzt_units"]) % 8
    if unit not in MM_PER_UNIT:
        raise StudyError(f"{name}: unit code {unit} is none of metre, mm, micron. Save it again with mm.")
    affine = np.diag([MM_PER_UNIT[unit]] * 3 + [1.0]) @ affine
    done = [f"Header in {'metres' if unit == 1 else 'microns'}: converted to mm."] if unit in (1, 3) else []
    if (slope, intercept) != (1.0, 0.0):
        done.append(f"Header scaling applied once: {slope:g} x stored value {intercept:+g}.")
    if slope < 0:
        warnings.append("The header's scaling turns bright into dark: check that this is a CT in Hounsfield units.")
    text = bytes(header["descrip"]).split(b"\x00")[0].decode("latin-1").strip()
    offset = _offset_of(header, name)
    warnings += geometry_warnings(affine, shape)
    return NiftiFacts(shape, dtype, slope, intercept, offset, affine, text, tuple(warnings), tuple(done))


def _shape_of(header: Header, name: str) -> tuple[int, int, int]:
    dim = [int(n) for n in header["dim"]]
    if not 1 <= dim[0] <= 7:
        raise StudyError(f"{name}: the header claims {dim[0]} dimensions. The file is damaged: copy it again.")
    shape = dim[1 : dim[0] + 1]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) != 3 or min(shape) < 2:
        raise StudyError(
            f"{name} has {len(shape)} dimensions ({' x '.join(str(n) for n in shape)}). Expected one volume of three "
            "with at least 2 voxels each: give one CT, not a picture or a series over time."
        )
    return shape[0], shape[1], shape[2]


def _dtype_of(header: Header, name: str) -> np.dtype:
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise StudyError(f"{name}: unknown data type in the header. The file is damaged: copy it again.") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        found = "colour (RGB)" if dtype.fields else f"{dtype}"
        raise StudyError(f"{name} holds {found} voxels. Expected one grey value per voxel: give the CT itself.")
    return dtype


def _scaling_of(header: Header, name: str) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 or NaN means that the header holds none (NIfTI-1 standard)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isnan(slope) or slope == 0:
        return 1.0, 0.0
    intercept = 0.0 if np.isnan(intercept) else intercept
    if np.isinf(slope) or np.isinf(intercept):
        raise StudyError(f"{name}: the scaling in the header is infinite. Expected a number: save it again.")
    return slope, intercept


def _offset_of(header: Header, name: str) -> int:
    offset = float(header["vox_offset"])
    if not 0 <= offset <= 2**24:
        raise StudyError(f"{name}: the header puts the voxels at byte {offset:g}. The file is damaged: copy it again.")
    return max(int(offset), int(header["sizeof_hdr"]) + 4)  # 0 means "right after the header and its flag"


def _affine_of(header: Header, shape: tuple[int, int, int], name: str) -> tuple[np.ndarray, list[str]]:
    """sform, else qform, else voxel sizes alone: nibabel's order, with a warning where it is a guess."""
    try:
        sform, sform_code = header.get_sform(coded=True)
        qform, qform_code = header.get_qform(coded=True)
        best = header.get_best_affine()
    except (HeaderDataError, *DAMAGE) as error:
        raise StudyError(f"{name}: the header's geometry is damaged ({error}). Export the image again.") from error
    affine = require_affine(best, name)
    if not sform_code and not qform_code:
        return affine, ["No orientation in the header: left and right cannot be assured."]
    if sform_code and qform_code and _differ(sform, qform, shape):
        return affine, ["The header places the voxels in two different ways (sform and qform); the sform was used."]
    return affine, []


def _differ(sform: np.ndarray, qform: np.ndarray, shape: tuple[int, int, int]) -> bool:
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in shape])).reshape(3, -1)
    apart = (sform - qform)[:3, :3] @ corners + (sform - qform)[:3, 3:]
    return not bool(np.abs(apart).max() < 1.0)
