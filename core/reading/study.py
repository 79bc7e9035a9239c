"""`open_study`: from what a person hands in to one CT in Hounsfield units, with a receipt."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from core.errors import ConfigError, StudyError
from core.padding import PADDING_HU, raise_padding
from core.progress import Progress, part_of, silent
from core.reading.candidates import Candidate, find_candidates
from core.reading.file_kinds import kind_of
from core.reading.hounsfield import HuVerdict, add_hu, judge_hounsfield
from core.reading.limits import DEFAULT_LIMITS, ReadLimits
from core.reading.receipt import Receipt, SeriesRow
from core.reading.scan import Scan
from core.volume import Grid, Volume

if TYPE_CHECKING:
    import pydicom

HuFix = Literal["none", "auto"]


@dataclass(frozen=True, eq=False)
class Study:
    """An opened CT."""

    volume: Volume
    receipt: Receipt
    dicom_headers: "tuple[pydicom.Dataset, ...] | None" = field(default=None, repr=False)
    """Headers without pixels in the order of the source slices (one for a multi-frame file); None if not DICOM."""


def open_study(
    path: Path,
    *,
    series: str | None = None,
    limits: ReadLimits = DEFAULT_LIMITS,
    progress: Progress = silent,
    hu_fix: HuFix = "none",
) -> Study:
    """Open a .nii, .nii.gz, .nrrd, .mha or .mhd file, a DICOM folder, or a .zip of any of these.

    series: id of a row of `list_series`; without it the best CT is chosen and the receipt says why.
    hu_fix: "auto" mends values that were never rescaled, or rescaled twice; "none" only warns of them.
    StudyError says what was found, what was expected and what to do; nothing unpacked stays behind.
    """
    if hu_fix not in ("none", "auto"):
        raise ConfigError(f"hu_fix is {hu_fix!r}; expected 'none' or 'auto'.")
    with _unpacked_if_zip(path, limits, part_of(progress, 0.0, 0.3)) as source:
        found, warnings = find_candidates(source, limits, part_of(progress, 0.3, 0.5))
        chosen = _choose(found, series)
        assert chosen.read is not None
        scan = chosen.read(part_of(progress, 0.5, 0.95))
    scan = replace(scan, warnings=(*warnings, *scan.warnings))
    study = _study_of(scan, _rows(found, chosen), hu_fix)
    progress(1.0, "Opened")
    return study


def list_series(
    path: Path, *, limits: ReadLimits = DEFAULT_LIMITS, progress: Progress = silent
) -> tuple[SeriesRow, ...]:
    """Every series in a file, folder or zip, best first; `chosen` marks what `open_study` would open."""
    with _unpacked_if_zip(path, limits, part_of(progress, 0.0, 0.7)) as source:
        found, _warnings = find_candidates(source, limits, part_of(progress, 0.7, 1.0))
    return _rows(found, found[0] if found[0].read is not None else None)


def study_info(study: Study) -> dict:
    """What `info` prints; the keys of the contract first, then the rest of the receipt, with few of many file names."""
    receipt = study.receipt.to_json()
    names = study.receipt.source
    receipt["source"] = [*names[:2], f"and {len(names) - 2} more"] if len(names) > 3 else [*names]
    first = ("shape", "spacing_mm", "orientation", "hu_min", "hu_max", "modality", "series_description", "warnings")
    return {**{key: receipt[key] for key in first}, **receipt}


@contextmanager
def _unpacked_if_zip(path: Path, limits: ReadLimits, progress: Progress) -> Iterator[Path]:
    path = Path(path)
    if not path.exists():
        raise StudyError(f"{path.name} does not exist. Check the name.")
    if not path.is_file() or kind_of(path).name != "zip":
        yield path
        return
    from core.reading.unpacking import unpacked

    if path.stat().st_size > limits.upload_bytes:
        raise StudyError(
            f"{path.name} is larger than the {limits.upload_bytes / 1e9:.1f} GB that are read. Zip one series."
        )
    with unpacked(path, limits, progress) as folder:
        yield folder


def _choose(found: list[Candidate], series: str | None) -> Candidate:
    """The wanted series, or the best; candidates come best first."""
    if series is not None:
        matching = [one for one in found if one.row.id == series]
        if not matching:
            ids = ", ".join(one.row.id for one in found[:10])
            raise StudyError(f"There is no series {series!r}. Expected one of: {ids}.")
        found = matching
    if found[0].read is None:
        raise StudyError(_why_none(found))
    return found[0]


def _why_none(found: list[Candidate]) -> str:
    if len(found) == 1:
        return found[0].row.reason
    reasons = [f"{one.row.description or one.row.id}: {one.row.reason}" for one in found[:6]]
    return f"None of {len(found)} series can be used. " + " | ".join(reasons)


def _rows(found: list[Candidate], chosen: Candidate | None) -> tuple[SeriesRow, ...]:
    return tuple(replace(one.row, chosen=one is chosen) for one in found)


def _study_of(scan: Scan, rows: tuple[SeriesRow, ...], hu_fix: HuFix) -> Study:
    verdict = judge_hounsfield(scan.values)
    warnings, done = list(scan.warnings), list(scan.done)
    if verdict.correction_hu and hu_fix == "auto":
        add_hu(scan.values, verdict.correction_hu)
        done.append(
            f"{verdict.correction_hu:+d} added to every voxel: the values were {verdict.kind.replace('_', ' ')}."
        )
        verdict = judge_hounsfield(scan.values)
    if not verdict.is_plausible:
        warnings.append(verdict.message)
    volume = Volume.from_source(scan.values, scan.affine)
    padding = raise_padding(volume.hu) if verdict.is_plausible else None
    if padding is not None:
        volume = replace(volume, padding=padding)
        done.append(f"Values below {PADDING_HU} (lowest {padding.lowest}) raised to {PADDING_HU}.")
    scan = replace(scan, warnings=tuple(warnings), done=tuple(done))
    return Study(volume, _receipt(scan, volume, rows, verdict), scan.headers)


def _receipt(scan: Scan, volume: Volume, rows: tuple[SeriesRow, ...], verdict: HuVerdict) -> Receipt:
    source: Grid = volume.source
    return Receipt(
        source=scan.source,
        modality=scan.modality,
        series_description=scan.description,
        shape=source.shape,
        spacing_mm=tuple(round(edge, 6) for edge in source.spacing_mm),  # type: ignore[arg-type]
        orientation=source.orientation,
        obliqueness_deg=round(source.obliqueness_deg, 3),
        hu_min=int(volume.hu.min()),
        hu_max=int(volume.hu.max()),
        slices=source.shape[2],
        hu_verdict=verdict,
        series=rows,
        done=scan.done,
        warnings=scan.warnings,
    )
