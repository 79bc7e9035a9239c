"""Making a searchable index from reports and the CT that belong to them."""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.anatomy.masks import OrganMasks
from core.errors import IndexFileError, ReportError, StudyError
from core.findings import CT_RATE_LABELS
from core.grounding.engine import GroundingEngine
from core.progress import Progress, part_of, silent
from core.report.parse import parse_report
from core.report.sentences import split_sentences
from core.retrieval.index import PROBE, IndexInfo, ReportIndex
from core.retrieval.layout import Layout, lay_out
from core.retrieval.neighbours import Neighbours
from core.retrieval.postings import collect_postings, invert_postings
from core.retrieval.table import ReportRow, SkippedRow
from core.retrieval.texts import StoredReport, TextStore
from core.volume import Volume

BATCH = 256
"""Sentences embedded at a time, between two looks at the progress."""


class StudyVector(NamedTuple):
    """A CT in an index."""

    vector: np.ndarray  # (D,) float32, unit length
    content_hash: str  # of the Volume


class EmbeddedStudies(NamedTuple):
    """The CT of a table."""

    vectors: dict[str, StudyVector]  # study_id -> its CT
    skipped: tuple[SkippedRow, ...]  # rows that name a CT which could not be used; their reports are still indexed


@dataclass(frozen=True, eq=False)
class BuiltIndex:
    """An index and what did not get into it."""

    index: ReportIndex
    skipped: tuple[SkippedRow, ...]


def embed_studies(
    rows: Sequence[ReportRow],
    folder: Path,
    read: Callable[[Path], tuple[Volume, OrganMasks | None]],
    engine: GroundingEngine,
    progress: Progress = silent,
) -> EmbeddedStudies:
    """Study vectors of the CT that rows name, as paths inside `folder`; `read` opens one (StudyError when it cannot).

    With the CT it gives organ masks if the engine needs them. One CT is in memory at a time.
    """
    named = [row for row in rows if row.volume]
    vectors: dict[str, StudyVector] = {}
    skipped: list[SkippedRow] = []
    for done, row in enumerate(named):
        progress(done / len(named), f"CT {done + 1} of {len(named)}: {row.study_id}")
        try:
            volume, masks = read(_inside(folder, row.volume))
            vector = engine.embed_volume(volume, masks).study_vector
        except StudyError as error:
            skipped.append(SkippedRow(0, row.study_id, str(error)))
            continue
        vectors[row.study_id] = StudyVector(vector, volume.content_hash)
    return EmbeddedStudies(vectors, tuple(skipped))


def _inside(folder: Path, name: str) -> Path:
    """The path `name` below `folder`; a table must not reach files elsewhere."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise StudyError(f'The volume "{name}" lies outside the folder of volumes. Put it inside and name it relative.')
    if not path.exists():
        raise StudyError(f'The volume "{name}" does not exist in the folder of volumes.')
    return path


def build_index(
    rows: Sequence[ReportRow],
    engine: GroundingEngine,
    studies: Mapping[str, StudyVector] | None = None,
    layout: Layout = "pca",
    progress: Progress = silent,
) -> BuiltIndex:
    """Embed every distinct sentence once and every report; labels that a row does not state come from its text.

    Reports that cannot be read are skipped. Raises IndexFileError when nothing is left.
    """
    entries, skipped = _read_entries(rows, part_of(progress, 0.0, 0.2))
    if not entries:
        raise IndexFileError(
            f"None of the {len(rows)} reports has a sentence to search. Expected at least one row with an id and words "
            "under findings or impression: check the table."
        )
    sentence_row: dict[str, int] = {}
    lists = [[sentence_row.setdefault(text, len(sentence_row)) for text in entry.sentences] for entry in entries]
    sentences_of = collect_postings(lists)
    sentence_vectors = _embed_sentences(list(sentence_row), engine, part_of(progress, 0.2, 0.6))
    report_vectors = _embed_reports(entries, engine, part_of(progress, 0.6, 0.85))
    progress(0.85, "arranging vectors for search")
    volume_rows, volume_vectors = _place_studies(entries, studies or {}, report_vectors.shape[1])
    index = ReportIndex(
        info=_describe(rows, engine, (report_vectors.shape[1], sentence_vectors.shape[1]), layout),
        texts=TextStore.build(_stored_reports(entries, studies or {}), sentence_row),
        reports=Neighbours.build(report_vectors),
        sentences=Neighbours.build(sentence_vectors),
        volumes=Neighbours.build(volume_vectors),
        volume_rows=volume_rows,
        sentences_of=sentences_of,
        reports_of=invert_postings(sentences_of, len(sentence_row)),
        labels=np.array([[entry.labels[label] for label in CT_RATE_LABELS] for entry in entries], bool),
        map_xy=lay_out(report_vectors, layout),
        probe=np.asarray(engine.embed_sentences([PROBE])[0], np.float32),
    )
    progress(1.0, f"{len(index)} reports indexed")
    return BuiltIndex(index, tuple(skipped))


class _Entry(NamedTuple):
    """One report as it goes into the index."""

    row: ReportRow
    sentences: list[str]
    labels: dict[str, bool]  # all 18


def _read_entries(rows: Sequence[ReportRow], progress: Progress) -> tuple[list[_Entry], list[SkippedRow]]:
    entries, skipped = [], []
    for done, row in enumerate(rows):
        if done % BATCH == 0:
            progress(done / len(rows), f"reading report {done + 1} of {len(rows)}")
        try:
            entries.append(_read_entry(row))
        except ReportError as error:
            skipped.append(SkippedRow(0, row.study_id, str(error)))
    return entries, skipped


def _read_entry(row: ReportRow) -> _Entry:
    """Sentences and labels of a report. Raises ReportError."""
    sentences = [span.text for span in split_sentences(row.text)]
    if not sentences:
        raise ReportError("The report holds no sentence.")
    # Understanding a report takes 13 ms, splitting it 1 ms: tables that state all labels are read much faster.
    stated = len(row.labels) == len(CT_RATE_LABELS)
    return _Entry(row, sentences, row.labels if stated else parse_report(row.text).labels18 | row.labels)


def _embed_sentences(sentences: list[str], engine: GroundingEngine, progress: Progress) -> np.ndarray:
    """(S, D) float32 unit vectors."""
    order = np.argsort([len(sentence) for sentence in sentences], kind="stable")  # a batch is padded to its longest
    batches = []
    for start in range(0, len(sentences), BATCH):
        progress(start / len(sentences), f"embedding sentence {start + 1} of {len(sentences)}")
        chosen = [sentences[at] for at in order[start : start + BATCH]]
        batches.append(np.asarray(engine.embed_sentences(chosen), np.float32))
    vectors = np.empty((len(sentences), batches[0].shape[1]), np.float32)
    vectors[order] = np.concatenate(batches)
    return vectors


def _embed_reports(entries: list[_Entry], engine: GroundingEngine, progress: Progress) -> np.ndarray:
    """(R, D) float32 unit vectors."""
    vectors = []
    for done, entry in enumerate(entries):
        if done % BATCH == 0:
            progress(done / len(entries), f"embedding report {done + 1} of {len(entries)}")
        vectors.append(engine.embed_report(entry.sentences))
    return np.asarray(vectors, np.float32)


def _place_studies(
    entries: list[_Entry], studies: Mapping[str, StudyVector], width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (V,) int64 that have a CT, and its vectors (V, D)."""
    at = [number for number, entry in enumerate(entries) if entry.row.study_id in studies]
    vectors = [studies[entries[number].row.study_id].vector for number in at]
    stacked = np.asarray(vectors, np.float32) if vectors else np.zeros((0, width), np.float32)
    return np.array(at, np.int64), stacked


def _stored_reports(entries: list[_Entry], studies: Mapping[str, StudyVector]) -> Iterable[StoredReport]:
    for row, *_ in entries:
        study = studies.get(row.study_id)
        yield StoredReport(row.study_id, row.text, row.volume, study.content_hash if study else "", row.extra)


def _describe(rows: Sequence[ReportRow], engine: GroundingEngine, widths: tuple[int, int], layout: Layout) -> IndexInfo:
    """widths: of vectors of reports and of sentences."""
    columns = dict.fromkeys(name for row in rows for name in row.extra)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    version = str(getattr(engine, "version", ""))
    return IndexInfo(engine.name, version, widths[0], now, tuple(columns), layout, widths[1])
