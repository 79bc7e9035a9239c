"""An index as a folder of plain files: numpy arrays, FAISS lists, SQLite texts, meta.json (docs/retrieval.md)."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import IndexFileError
from core.findings import CT_RATE_LABELS
from core.folder import replace_folder
from core.retrieval.index import IndexInfo, ReportIndex
from core.retrieval.neighbours import Neighbours
from core.retrieval.postings import Postings
from core.retrieval.texts import TextStore

FORMAT = "asap-report-index"
FORMAT_VERSION = 1
META = "meta.json"
TEXTS = "texts.sqlite"

_MAPPED = ("report_vectors", "sentence_vectors", "volume_vectors")
"""Arrays that are read from disk as needed; the others are small and loaded."""


def save_index(index: ReportIndex, folder: Path) -> None:
    """Write `index` to `folder`, whole or not at all, replacing an earlier index there.

    Raises IndexFileError when the folder holds other files or cannot be written.
    """
    try:
        with replace_folder(Path(folder), META) as fresh:
            _write(index, fresh)
    except OSError as error:
        raise IndexFileError(f"The index cannot be saved: {error.strerror or error}") from error


def _write(index: ReportIndex, folder: Path) -> None:
    for name, array in _arrays(index).items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    index.reports.save(folder / "reports.faiss")
    index.sentences.save(folder / "sentences.faiss")
    index.volumes.save(folder / "volumes.faiss")
    index.texts.save(folder / TEXTS)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    meta = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        **asdict(index.info),
        "labels": CT_RATE_LABELS,
        "reports": len(index),
        "sentences": len(index.sentences.vectors),
        "volumes": len(index.volumes.vectors),
        "files": sizes,
    }
    (folder / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _arrays(index: ReportIndex) -> dict[str, np.ndarray]:
    return {
        "report_vectors": index.reports.vectors,
        "sentence_vectors": index.sentences.vectors,
        "volume_vectors": index.volumes.vectors,
        "volume_rows": index.volume_rows,
        "sentences_of_starts": index.sentences_of.starts,
        "sentences_of_members": index.sentences_of.members,
        "reports_of_starts": index.reports_of.starts,
        "reports_of_members": index.reports_of.members,
        "labels": index.labels,
        "map_xy": index.map_xy,
        "probe": index.probe,
    }


def load_index(folder: Path) -> ReportIndex:
    """Open a saved index; large arrays stay on disk until used. Raises IndexFileError when it is not one or damaged."""
    folder = Path(folder)
    meta = _read_meta(folder)
    _check_files(folder, meta)
    arrays = {name: _load_array(folder, name) for name in _shapes(meta)}
    for name, shape in _shapes(meta).items():
        if arrays[name].shape[: len(shape)] != shape:
            raise IndexFileError(
                f"{name}.npy has shape {arrays[name].shape}, expected {shape}. Files of two indexes are mixed: build "
                "the index again."
            )
    return ReportIndex(
        info=_info(meta),
        texts=TextStore.open(folder / TEXTS),
        reports=Neighbours.load(arrays["report_vectors"], folder / "reports.faiss"),
        sentences=Neighbours.load(arrays["sentence_vectors"], folder / "sentences.faiss"),
        volumes=Neighbours.load(arrays["volume_vectors"], folder / "volumes.faiss"),
        volume_rows=arrays["volume_rows"],
        sentences_of=Postings(arrays["sentences_of_starts"], arrays["sentences_of_members"]),
        reports_of=Postings(arrays["reports_of_starts"], arrays["reports_of_members"]),
        labels=arrays["labels"],
        map_xy=arrays["map_xy"],
        probe=arrays["probe"],
    )


def _shapes(meta: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Array -> the leading sizes that meta.json promises."""
    reports, sentences, volumes = (int(meta[name]) for name in ("reports", "sentences", "volumes"))
    info = _info(meta)
    width, sentence_width = info.dimension, info.sentence_width
    return {
        "report_vectors": (reports, width),
        "sentence_vectors": (sentences, sentence_width),
        "volume_vectors": (volumes, width),
        "volume_rows": (volumes,),
        "sentences_of_starts": (reports + 1,),
        "sentences_of_members": (),
        "reports_of_starts": (sentences + 1,),
        "reports_of_members": (),
        "labels": (reports, len(CT_RATE_LABELS)),
        "map_xy": (reports, 2),
        "probe": (sentence_width,),
    }


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IndexFileError(
            f"{folder} is not a report index (no readable {META}). Expected a folder made by `index build`."
        ) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise IndexFileError(f"{folder / META} does not describe a report index. Expected a folder of `index build`.")
    if meta.get("version") != FORMAT_VERSION or meta.get("labels") != list(CT_RATE_LABELS):
        raise IndexFileError(
            f"This index has format version {meta.get('version')}, expected {FORMAT_VERSION}. Build it again with this "
            "version of the program."
        )
    return meta


def _info(meta: dict[str, Any]) -> IndexInfo:
    return IndexInfo(
        engine=str(meta["engine"]),
        engine_version=str(meta["engine_version"]),
        dimension=int(meta["dimension"]),
        created_utc=str(meta["created_utc"]),
        metadata_columns=tuple(meta["metadata_columns"]),
        layout=str(meta["layout"]),
        sentence_dimension=int(meta.get("sentence_dimension", 0)),  # older indexes have one width
    )


def _check_files(folder: Path, meta: dict[str, Any]) -> None:
    """Refuse missing, cut or added-to files before any is opened."""
    try:
        for name, size in meta["files"].items():
            found = (folder / Path(name).name).stat().st_size
            if found != size:
                raise IndexFileError(f"{name} has {found} bytes, expected {size}. Copy or build the index again.")
        _info(meta)
        _shapes(meta)
    except OSError as error:
        raise IndexFileError(f"A file of the index is missing ({error}). Copy or build it again.") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IndexFileError(f"{META} is incomplete ({error}). Build the index again.") from error


def _load_array(folder: Path, name: str) -> np.ndarray:
    try:
        # An empty file cannot be mapped into memory.
        mapped = name in _MAPPED and (folder / f"{name}.npy").stat().st_size > 1 << 20
        # A plain array over the mapped file: numpy's memmap class makes every index operation five times slower.
        return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r" if mapped else None, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise IndexFileError(f"{name}.npy cannot be read ({error}). Build the index again.") from error
