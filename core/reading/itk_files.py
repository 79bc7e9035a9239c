"""NRRD and MetaImage through SimpleITK, after the checks that it leaves out: detached data, truncation, colour."""

import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.errors import StudyError
from core.progress import Progress, silent
from core.reading.limits import ReadLimits
from core.reading.scan import HuArray, Scan, geometry_warnings, require_affine, require_size

IMAGE_IO = {"nrrd": "NrrdImageIO", "metaimage": "MetaImageIO"}
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SLAB_SLICES = 32
HEADER_BYTES = 2**16
META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "FLOAT": 4, "DOUBLE": 8, "LONG_LONG": 8}
META_FIELDS = {"ndims", "dimsize", "elementtype", "elementdatafile"}
NRRD_FIELDS = {"type", "dimension", "sizes", "encoding"}
KNOWN_SPACES = ("right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "RAS", "LAS", "LPS")
MM_PER_UNIT = {"mm": 1.0, "m": 1000.0, "cm": 10.0, "um": 0.001}


class ItkFacts(NamedTuple):
    """What the header says, checked."""

    shape: tuple[int, int, int]
    affine: np.ndarray  # (4, 4), source voxel -> RAS+ mm
    modality: str
    warnings: tuple[str, ...]
    done: tuple[str, ...]


def read_itk_facts(path: Path, kind: str, limits: ReadLimits) -> ItkFacts:
    """Read and check the header alone. kind: "nrrd" or "metaimage"."""
    fields = _text_fields(path)
    _require_fields(path, kind, fields)
    _require_beside(path, fields)
    reader = _reader(path, kind)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise StudyError(
            f"{path.name}: the header cannot be read ({_last_line(error)}). Export the file again."
        ) from error
    shape = _shape_of(reader, path.name)
    require_size(shape, limits.voxels, path.name)
    if kind == "metaimage":
        _require_all_bytes(path, fields, shape)
    affine, done = _affine_of(reader, fields, path.name)
    warnings = _orientation_warnings(kind, fields) + geometry_warnings(affine, shape)
    keys = reader.GetMetaDataKeys()
    modality = reader.GetMetaData("0008|0060").strip() if "0008|0060" in keys else "unknown"
    return ItkFacts(shape, affine, modality, tuple(warnings), tuple(done))


def read_itk(path: Path, kind: str, limits: ReadLimits, progress: Progress = silent) -> Scan:
    """Read a .nrrd, .nhdr, .mha or .mhd, (I, J, K) as stored. kind: "nrrd" or "metaimage"."""
    import SimpleITK as sitk  # noqa: N813  (half a second, needed for these formats only)

    facts = read_itk_facts(path, kind, limits)
    progress(0.1, "Reading voxels")
    try:
        image = _reader(path, kind).Execute()
    except RuntimeError as error:
        raise StudyError(f"{path.name} is truncated or damaged ({_last_line(error)}). Copy it again.") from error
    stored = sitk.GetArrayViewFromImage(image).transpose(2, 1, 0)  # (K, J, I) -> (I, J, K)
    array = HuArray(facts.shape)
    for start in range(0, facts.shape[2], SLAB_SLICES):
        array.put(start, stored[:, :, start : start + SLAB_SLICES])
        progress(0.6 + 0.4 * start / facts.shape[2], "Converting voxels")
    warnings = (*facts.warnings, *array.notes())
    return Scan(array.values, facts.affine, facts.modality, "", (path.name,), warnings, facts.done)


def _reader(path: Path, kind: str):  # type: ignore[no-untyped-def]
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(IMAGE_IO[kind])
    reader.SetFileName(str(path))
    return reader


def _text_fields(path: Path) -> dict[str, str]:
    """Header lines "key = value" or "key: value" with lower-case keys, up to the blank line or the data."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    fields: dict[str, str] = {}
    position = 0
    for line in head.splitlines(keepends=True):
        position += len(line)
        text = line.decode("latin-1").strip()
        if not text:
            break
        cut = min((at for at in (text.find("="), text.find(":")) if at > 0), default=0)
        if cut:
            fields[text[:cut].strip().lower()] = text[cut + 1 :].lstrip("=").strip()
        if fields.keys() & {"elementdatafile"}:
            break
    fields["header bytes"] = str(position)
    return fields


def _require_fields(path: Path, kind: str, fields: dict[str, str]) -> None:
    needed = META_FIELDS if kind == "metaimage" else NRRD_FIELDS
    missing = needed - fields.keys()
    if missing:
        raise StudyError(f"{path.name}: the header lacks {', '.join(sorted(missing))}. It is damaged: export it again.")


def _require_beside(path: Path, fields: dict[str, str]) -> None:
    """Refuse headers that point at data anywhere but in one file beside them: they could read any file."""
    for key in ("elementdatafile", "data file", "datafile"):
        name = fields.get(key, "LOCAL")
        if name.upper() == "LOCAL":
            continue
        if Path(name).name != name or "\\" in name or name.upper().startswith("LIST") or "%" in name:
            raise StudyError(
                f"{path.name} points to its voxels at {name!r}. Expected one file beside it: keep both in one folder "
                "or zip, or save as .mha or .nrrd with the voxels inside."
            )
        if not os.path.isfile(path.parent / name):  # False, not an error, for impossible names
            raise StudyError(f"{path.name} needs its voxels in {name}, which is not beside it. Give both, in one zip.")


def _shape_of(reader, name: str) -> tuple[int, int, int]:  # type: ignore[no-untyped-def]
    size, components = list(reader.GetSize()), reader.GetNumberOfComponents()
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if components != 1:
        raise StudyError(
            f"{name} has {components} values per voxel (colour?). Expected one grey value: give the CT itself."
        )
    if len(size) != 3 or min(size) < 2 or reader.GetDimension() != 3:
        raise StudyError(
            f"{name} has {reader.GetDimension()} dimensions ({' x '.join(str(n) for n in size)}). Expected one volume "
            "of three with at least 2 voxels each: give one CT, not a picture or a series over time."
        )
    return int(size[0]), int(size[1]), int(size[2])


def _affine_of(reader, fields: dict[str, str], name: str) -> tuple[np.ndarray, list[str]]:  # type: ignore[no-untyped-def]
    affine = np.eye(4)
    affine[:3, :3] = np.array(reader.GetDirection()).reshape(3, 3) * np.array(reader.GetSpacing())
    affine[:3, 3] = reader.GetOrigin()
    units = set(fields.get("space units", '"mm"').replace('"', " ").split())
    scale = MM_PER_UNIT.get(units.pop()) if len(units) == 1 else None
    if scale is None:
        raise StudyError(f"{name}: space units {fields['space units']} are not understood. Save it again in mm.")
    affine = np.diag([scale] * 3 + [1.0]) @ LPS_TO_RAS @ affine
    done = [] if scale == 1 else [f"Header unit converted to mm (x {scale:g})."]
    return require_affine(affine, name), done


def _orientation_warnings(kind: str, fields: dict[str, str]) -> list[str]:
    if kind == "metaimage":
        missing = not fields.keys() & {"transformmatrix", "orientation", "rotation"}
        spaced = bool(fields.keys() & {"elementspacing", "elementsize"})
    else:
        missing = fields.get("space", "") not in KNOWN_SPACES or "space directions" not in fields
        spaced = bool(fields.keys() & {"space directions", "spacings"})
    found = ["No orientation in the header: left and right cannot be assured."] if missing else []
    return found if spaced else [*found, "No voxel size in the header: millimetres and millilitres cannot be trusted."]


def _require_all_bytes(path: Path, fields: dict[str, str], shape: tuple[int, int, int]) -> None:
    """MetaIO fills a truncated volume up with whatever was in memory; so count the bytes here."""
    data_name = fields.get("elementdatafile", "LOCAL")
    is_local = data_name.upper() == "LOCAL"
    data = path if is_local else path.parent / data_name
    start = int(fields["header bytes"]) if is_local else max(0, _whole(fields.get("headersize", "0")))
    element = fields.get("elementtype", "").removeprefix("MET_").removeprefix("U").removesuffix("_ARRAY")
    needed = int(np.prod(shape, dtype=np.int64)) * META_BYTES.get(element, 1)
    if fields.get("compresseddata", "").lower() in ("true", "1"):
        found = _inflated_size(data, start, needed)
    else:
        found = data.stat().st_size - start
    if found < needed:
        raise StudyError(f"{path.name} holds {found} of {needed} bytes of voxels: it is truncated. Copy it again.")


def _whole(text: str) -> int:
    return int(text) if text.lstrip("-").isdigit() else 0


def _inflated_size(path: Path, start: int, enough: int) -> int:
    """Bytes that the zlib or gzip stream at `start` gives, counting no further than `enough`."""
    engine, size = zlib.decompressobj(47), 0
    with path.open("rb") as file:
        file.seek(start)
        while size < enough and (packed := file.read(2**20)):
            try:
                size += len(engine.decompress(packed))
            except zlib.error as error:
                raise StudyError(f"{path.name}: the packed voxels are damaged ({error}). Copy it again.") from error
    return size


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1][-160:] if str(error).strip() else "no reason given"
