"""Annotations of one CT or of the whole database as a folder of files that need nothing of ours to be read."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from core.anatomy.masks import OrganMasks
from core.annotation.records import SentenceRef, annotation_fields
from core.annotation.regions import BoxRegion, StoredRegion, describe_grid, rasterise
from core.annotation.store import AnnotationStore, now_utc
from core.errors import AnnotationError
from core.export.dicomseg import write_dicom_seg
from core.export.nifti import write_nifti
from core.folder import replace_folder
from core.structures import BY_NUMBER
from core.volume import Grid, Volume

if TYPE_CHECKING:
    import pydicom

FORMAT = "asap-annotations"
FORMAT_VERSION = 1
MANIFEST = "annotations.json"


@dataclass(frozen=True, eq=False)
class OpenCase:
    """Arrays of a CT that is open while its annotations are exported."""

    volume: Volume
    heats: Mapping[SentenceRef, np.ndarray] = field(default_factory=dict)
    """Sentence -> heat (X, Y, Z) float32 in [0, 1] on the volume's RAS grid."""
    masks: OrganMasks | None = None
    """Organs, on the volume's RAS grid."""
    dicom_headers: "Sequence[pydicom.Dataset] | None" = None
    """Headers of the CT's slices when it came from DICOM: the organs are then written as DICOM SEG too."""


class ExportSummary(NamedTuple):
    """What was written; the JSON document of `annotations export`."""

    out: str
    cases: int
    annotations: int
    regions: int
    files: list[str]


def export_database(url: str, out: Path) -> ExportSummary:
    """Export everything in the database at `url`, which must exist. Raises AnnotationError."""
    store = AnnotationStore(url, create=False)
    try:
        return export_annotations(store, out)
    finally:
        store.close()


def export_annotations(
    store: AnnotationStore,
    out: Path,
    content_hash: str | None = None,
    open_cases: Mapping[str, OpenCase] | None = None,
) -> ExportSummary:
    """Write annotations.json and NIfTI files to `out`, whole or not at all: every CT, or the one with `content_hash`.

    Regions always come; heat maps and organ masks for those of `open_cases` (content hash -> arrays). Every NIfTI
    is on the grid of the CT's own file. docs/annotations.md describes the files. Raises AnnotationError.
    """
    hashes = [case.content_hash for case in store.cases()] if content_hash is None else [content_hash]
    titles = {case.content_hash: case.title for case in store.cases()}
    if content_hash is not None and content_hash not in titles:
        raise AnnotationError(f"No annotation of the CT {content_hash[:12]} is stored; annotate it before exporting.")
    try:
        with replace_folder(Path(out), MANIFEST) as folder:
            writer = _Writer(folder)
            cases = [
                _describe_case(store, one, titles[one], (open_cases or {}).get(one), writer) for one in sorted(hashes)
            ]
            _write_manifest(folder, cases, writer.files)
    except OSError as error:
        raise AnnotationError(f"The annotations cannot be written: {error.strerror or error}") from error
    return ExportSummary(
        str(out),
        len(cases),
        sum(len(case["annotations"]) for case in cases),
        sum(len(case["regions"]) for case in cases),
        [MANIFEST, *writer.files],
    )


class _Writer:
    """Writes NIfTI files below one folder and remembers their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[str] = []

    def write(self, name: str, array: np.ndarray, grid: Grid) -> str:
        """Write an array (I, J, K) on its file grid; returns `name`, which is relative to the folder."""
        write_nifti(self.folder / name, array, grid)
        self.files.append(name)
        return name


def _write_manifest(folder: Path, cases: list[dict[str, Any]], files: list[str]) -> None:
    document = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "exported_utc": now_utc(),
        "coordinates": "patient millimetres, RAS+",
        "files": files,
        "cases": cases,
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _describe_case(
    store: AnnotationStore, content_hash: str, title: str, case: OpenCase | None, writer: _Writer
) -> dict[str, Any]:
    """One entry of "cases"; writes its files to a folder named after the hash."""
    if case is not None and case.volume.content_hash != content_hash:
        raise AnnotationError(
            f"The open CT is {case.volume.content_hash[:12]}, expected {content_hash[:12]}. Open the CT to be exported."
        )
    folder = content_hash[:40]
    heats = _write_heats(case, folder, writer)
    grid = case.volume.source if case else store.case_grid(content_hash)
    return {
        "content_hash": content_hash,
        "title": title,
        "grid": describe_grid(grid) if grid else None,
        "annotations": [
            _without_hash(annotation_fields(annotation)) | {"heat_map": heats.get(annotation.sentence.key)}
            for annotation in store.for_case(content_hash)
        ],
        "regions": [_write_region(region, folder, writer) for region in store.regions(content_hash)],
        "organs": _write_organs(case, folder, writer),
        "history": [_without_hash(asdict(change)) for change in store.history(content_hash)],
    }


def _without_hash(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "content_hash"}


def _write_heats(case: OpenCase | None, folder: str, writer: _Writer) -> dict[str, str]:
    """Key of a sentence -> file of its heat map; by text, since an edited report may have renumbered it."""
    if case is None:
        return {}
    return {
        sentence.key: writer.write(
            f"{folder}/heat_{sentence.index:02d}.nii.gz",
            case.volume.to_source(np.asarray(heat, np.float32)),
            case.volume.source,
        )
        for sentence, heat in sorted(case.heats.items(), key=lambda item: item[0].index)
    }


def _write_organs(case: OpenCase | None, folder: str, writer: _Writer) -> dict[str, Any] | None:
    if case is None or case.masks is None:
        return None
    name = writer.write(f"{folder}/organs.nii.gz", case.volume.to_source(case.masks.labels), case.volume.source)
    segmentation = None
    if case.dicom_headers and case.masks.numbers():
        segmentation = f"{folder}/organs.dcm"
        write_dicom_seg(
            writer.folder / segmentation, case.masks.labels, case.volume, case.dicom_headers, case.masks.engine
        )
        writer.files.append(segmentation)
    labels = {str(number): BY_NUMBER[number].name for number in case.masks.numbers()}
    return {"file": name, "dicom_seg": segmentation, "engine": case.masks.engine, "labels": labels}


def _write_region(region: StoredRegion, folder: str, writer: _Writer) -> dict[str, Any]:
    """One entry of "regions", and its mask as a file."""
    mask, grid = rasterise(region.shape), region.shape.grid
    author = re.sub(r"[^A-Za-z0-9]+", "-", region.author).strip("-")[:20] or "author"
    name = f"{folder}/region_{region.number:04d}_sentence_{region.sentence.index:02d}_{author}.nii.gz"
    box = region.shape if isinstance(region.shape, BoxRegion) else None
    return {
        "number": region.number,
        "file": writer.write(name, mask, grid),
        "sentence": asdict(region.sentence),
        "author": region.author,
        "created_utc": region.created_utc,
        "kind": "box" if box else "mask",
        "box_mm": {"low": box.low_mm, "high": box.high_mm} if box else None,
        "centre_ras_mm": [round(float(x), 3) for x in grid.to_mm(np.argwhere(mask)).mean(axis=0)],
        "volume_ml": round(int(mask.sum()) * grid.voxel_ml, 4),
    }
