"""Everything in a file or folder that could be the CT: one row each, with a way to read it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import StudyError
from core.progress import Progress, silent
from core.reading.file_kinds import VOLUME_KINDS, FileKind, kind_of, refuse_kind
from core.reading.limits import ReadLimits
from core.reading.receipt import SeriesRow
from core.reading.scan import Scan


@dataclass(frozen=True, eq=False)
class Candidate:
    """One possible CT."""

    row: SeriesRow
    rank: tuple
    """Sorts the best last among usable ones of the same kind."""
    read: Callable[[Progress], Scan] | None
    """None = cannot be used; the row's reason says why."""


def find_candidates(path: Path, limits: ReadLimits, progress: Progress = silent) -> tuple[list[Candidate], list[str]]:
    """Candidates in a file or folder, best first, and warnings; StudyError where there is nothing like a CT."""
    files = _files_in(path, limits)
    kinds = {file: kind_of(file) for file in files}
    found, warnings = _dicom_candidates([f for f in files if kinds[f].name == "dicom"], limits, progress)
    volumes = [file for file in files if kinds[file].name in VOLUME_KINDS]
    found += [_volume_candidate(file, kinds[file], path, limits) for file in volumes]
    if not found:
        raise _nothing_found(path, kinds)
    return sorted(found, key=lambda one: (one.read is not None, one.rank), reverse=True), warnings


def _files_in(path: Path, limits: ReadLimits) -> list[Path]:
    """The file itself, or every file below the folder in a fixed order, links to folders not followed."""
    if not path.exists():
        raise StudyError(f"{path.name} does not exist. Check the name.")
    if path.is_file():
        files = [path]
    elif not path.is_dir():
        raise StudyError(f"{path.name} is neither a file nor a folder. Expected a CT in one of them.")
    else:
        walk = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
        files = sorted(file for file in walk if file.is_file() and not file.name.startswith("."))
    if len(files) > limits.members:
        raise StudyError(f"{path.name} holds {len(files)} files; the limit is {limits.members}. Give one series only.")
    size = sum(file.stat().st_size for file in files)
    allowed = max(limits.upload_bytes, limits.unpacked_bytes if path.is_dir() else 0)
    if size > allowed:
        raise StudyError(f"{path.name} is {size / 1e9:.2f} GB; the limit is {allowed / 1e9:.2f} GB. Crop it.")
    return files


def _nothing_found(path: Path, kinds: dict[Path, FileKind]) -> StudyError:
    if path.is_file() and kinds[path].name == "dicom":
        return StudyError(f"{path.name} is DICOM without an image, or damaged. Give the whole folder, or a zip of it.")
    if path.is_file():
        return refuse_kind(path, kinds[path])
    names = sorted({kind.name for kind in kinds.values()})
    if "zip" in names:
        return StudyError("There is no CT, but another zip inside. Unpack it and give the folder, or zip the CT alone.")
    found = f"among {len(kinds)} file{'s' * (len(kinds) > 1)} ({', '.join(names)})" if names else "in an empty folder"
    return StudyError(
        f"There is no CT {found}. Expected DICOM slices, a .nii, .nii.gz, .nrrd, .mha or .mhd with its .raw: give the "
        "folder or file that holds them."
    )


def _dicom_candidates(files: list[Path], limits: ReadLimits, progress: Progress) -> tuple[list[Candidate], list[str]]:
    if not files:
        return [], []
    from core.reading import dicom_headers, dicom_pixels, dicom_series  # pydicom: half a second, not needed for NIfTI

    headers = dicom_headers.read_headers(files, progress)
    judged = [dicom_series.judge_group(group, limits) for group in dicom_headers.group_slices(headers.slices)]
    usable = [one for one in judged if one.stack is not None]
    best = max(usable, key=dicom_series.rank_of, default=None)
    uids = [one.slices[0].text("SeriesInstanceUID") or "unnamed series" for one in judged]
    found = []
    for number, one in enumerate(judged):
        first, stack = one.slices[0], one.stack
        reason = one.reason or ("" if best is one or best is None else dicom_series.weaker_because(one, best))
        same = uids[: number + 1].count(uids[number])
        row = SeriesRow(
            f"{uids[number]}#{same}" if uids.count(uids[number]) > 1 else uids[number],
            first.text("SeriesDescription") or first.text("ProtocolName"),
            first.text("Modality") or "unknown",
            len(one.slices),
            one.spacing_mm,
            stack is not None,
            reason,
        )
        read = None if stack is None else (lambda report, stack=stack: dicom_pixels.read_stack(stack, report))
        found.append(Candidate(row, (1, *dicom_series.rank_of(one)), read))
    return found, _unreadable_warning(headers.unreadable)


def _unreadable_warning(names: list[str]) -> list[str]:
    if not names:
        return []
    some = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
    return [f"{len(names)} DICOM file(s) are damaged and were left out ({some}): slices may be missing at an end."]


def _volume_candidate(file: Path, kind: FileKind, root: Path, limits: ReadLimits) -> Candidate:
    name = file.name if file == root else str(file.relative_to(root))
    try:
        shape, spacing, is_mask, read = _peek(file, kind, limits)
        _require_slices(name, shape, limits)
    except StudyError as error:
        return Candidate(SeriesRow(name, "", "unknown", 0, (0.0, 0.0, 0.0), False, str(error)), (0,), None)
    row = SeriesRow(name, "", "unknown", shape[2], spacing, True, "")
    return Candidate(row, (0, not is_mask, shape[0] * shape[1] * shape[2], name), read)


def _require_slices(name: str, shape: tuple[int, int, int], limits: ReadLimits) -> None:
    if min(shape) < limits.slices:
        raise StudyError(
            f"{name} has {' x '.join(str(n) for n in shape)} voxels: too few slices. Expected at least {limits.slices} "
            "along every axis: give the whole scan."
        )


def _peek(
    file: Path, kind: FileKind, limits: ReadLimits
) -> tuple[tuple[int, int, int], tuple[float, float, float], bool, Callable[[Progress], Scan]]:
    """Shape, spacing, whether 8-bit values make it rather a mask, and how to read it; from the header alone."""
    import numpy as np

    if kind.name == "nifti":
        from core.reading import nifti

        facts = nifti.read_facts(file, limits)
        x, y, z = np.linalg.norm(facts.affine[:3, :3], axis=0)
        return (
            facts.shape,
            (float(x), float(y), float(z)),
            facts.dtype.itemsize == 1,
            lambda report: nifti.read_nifti(file, limits, report),
        )
    if kind.is_gzipped:
        raise StudyError(
            f"{file.name} is a gzipped {kind.name} file. Unpack it first: these formats pack by themselves."
        )
    from core.reading import itk_files

    itk = itk_files.read_itk_facts(file, kind.name, limits)
    x, y, z = np.linalg.norm(itk.affine[:3, :3], axis=0)
    return (
        itk.shape,
        (float(x), float(y), float(z)),
        False,
        lambda report: itk_files.read_itk(file, kind.name, limits, report),
    )
