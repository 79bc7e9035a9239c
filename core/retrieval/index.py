"""A collection of reports, some with CT, that can be searched by text, sentence, CT or study."""

import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from core.errors import IndexFileError
from core.findings import CT_RATE_LABELS
from core.grounding.engine import GroundingEngine
from core.retrieval.neighbours import Neighbours, cosines_between
from core.retrieval.postings import Postings
from core.retrieval.proposals import Proposals, propose_reports
from core.retrieval.query import Query, split_query
from core.retrieval.results import Hit, SearchResult
from core.retrieval.table import known_label
from core.retrieval.texts import TextStore

Compare = Literal["reports", "volumes"]
PROBE = "Small left pleural effusion with adjacent compressive atelectasis."
"""Embedded when an index is built and again when it is opened: the same engine gives the same vector."""
CANDIDATES = 256
"""Reports proposed by each way of looking: 64 lost 2% of the true ten best, 256 none (5,000 generated reports)."""
SENTENCES_TOGETHER, FEWEST_SENTENCES, MOST_SENTENCES = 6144, 512, 2048
"""Nearest sentences taken for all sentences of a query together, and for each at least and at most: with 256 each, a
tenth of the ten best was lost where sentences have hundreds of paraphrases."""
MOST_SCORED = 512
"""Reports scored exactly."""
SCORED_AT_ONCE = 128
"""Reports scored exactly before the best are compared with what the others can reach."""
TIE = 1e-6
"""Scores closer than this are equal: both are shown, in the order of the table."""
KEPT_FILTERS = 16


@dataclass(frozen=True)
class IndexInfo:
    """Where an index comes from; part of its meta.json."""

    engine: str
    """Name of the engine whose vectors these are."""
    engine_version: str
    """Hash or version of the engine's weights, "" when it gives none."""
    dimension: int
    """D, numbers per vector of a report or CT."""
    created_utc: str
    """ISO 8601."""
    metadata_columns: tuple[str, ...] = ()
    """Columns of the source table that are kept with each report."""
    layout: str = "pca"
    """How `ReportIndex.map_xy` was made."""
    sentence_dimension: int = 0
    """Numbers per vector of a sentence; 0 = D."""

    @property
    def sentence_width(self) -> int:
        """Numbers per vector of a sentence."""
        return self.sentence_dimension or self.dimension


@dataclass(frozen=True, eq=False)
class ReportIndex:
    """R reports, S distinct sentences, V reports whose CT was embedded.

    A text query scores a report with `sentence_weight` times the cosine of its best sentence (averaged over the
    query's sentences) plus the rest times the cosine of the whole report. A CT or a study is compared whole.
    Searching is safe from several threads.
    """

    info: IndexInfo
    texts: TextStore
    reports: Neighbours
    """(R, D) float16 unit vectors of whole reports."""
    sentences: Neighbours
    """(S, D) float16 unit vectors of distinct sentences."""
    volumes: Neighbours
    """(V, D) float16 unit study vectors."""
    volume_rows: np.ndarray
    """(V,) int64, the report of each study vector."""
    sentences_of: Postings
    """Report -> its sentences in reading order."""
    reports_of: Postings
    """Sentence -> the reports that contain it."""
    labels: np.ndarray
    """(R, 18) bool in the order of CT_RATE_LABELS, True = present."""
    map_xy: np.ndarray
    """(R, 2) float32 in [-1, 1]: the collection as a flat map."""
    probe: np.ndarray
    """(D,) float32, the engine's vector of `PROBE`."""
    _fitting: list[GroundingEngine] = field(default_factory=list)
    """Engines that were compared with `probe` already, to embed it once and not with every query."""
    _ready: list[bool] = field(default_factory=list)
    """Not empty once FAISS and the files are open."""
    _usable: dict[bytes, np.ndarray] = field(default_factory=dict)
    """Filter -> the sentences it leaves; a filter is mostly asked several times in a row."""

    def __len__(self) -> int:
        return len(self.labels)

    def search_text(
        self,
        text: str,
        engine: GroundingEngine,
        count: int = 10,
        where: dict[str, bool] | None = None,
        sentence_weight: float = 0.7,
    ) -> SearchResult:
        """Reports that say something like `text` (a phrase, a sentence or a whole report).

        `where`: CT-RATE label -> value that a report must have. Raises IndexFileError when the
        query is empty, the label unknown, or the engine is not the one that built the index.
        """
        self.require_engine(engine)
        self._get_ready()
        began = time.perf_counter()
        sentences = split_query(text)
        whole = np.asarray(engine.embed_report(sentences), np.float32)
        if not whole.any():
            raise IndexFileError(f'The engine "{engine.name}" knows no word of the query. Describe a finding in words.')
        query = Query(whole, np.asarray(engine.embed_sentences(sentences), np.float32), sentence_weight)
        return self._search(query, count, self._allowed(where or {}), began)

    def search_sentence(
        self, sentence: str, engine: GroundingEngine, count: int = 10, where: dict[str, bool] | None = None
    ) -> SearchResult:
        """Reports with a sentence like this one; what else they say does not count."""
        return self.search_text(sentence, engine, count, where, sentence_weight=1.0)

    def search_volume(
        self,
        study_vector: np.ndarray,
        count: int = 10,
        where: dict[str, bool] | None = None,
        content_hash: str = "",
        compare: Compare = "reports",
    ) -> SearchResult:
        """Reports nearest to a CT by its study vector (D,), or with `compare` "volumes" the CT nearest to it.

        The CT with `content_hash` itself is left out.
        """
        self._get_ready()
        began = time.perf_counter()
        vector = self._checked_vector(study_vector)
        allowed = self._allowed(where or {})
        allowed[self.texts.rows_of_hash(content_hash)] = False
        return self._search_whole(vector, count, allowed, compare, began)

    def search_study(
        self, study_id: str, count: int = 10, where: dict[str, bool] | None = None, compare: Compare = "reports"
    ) -> SearchResult:
        """Reports, or CT, most like those of an indexed study, which is left out. Raises IndexFileError."""
        self._get_ready()
        began = time.perf_counter()
        row = self.texts.row_of(study_id)
        if row is None:
            raise IndexFileError(f'No study "{study_id[:80]}" among the {len(self)} of this index; check its spelling.')
        vector = self._volume_vector(row, study_id) if compare == "volumes" else self.reports.vectors[row]
        allowed = self._allowed(where or {})
        allowed[row] = False
        return self._search_whole(np.asarray(vector, np.float32), count, allowed, compare, began)

    def count_matching(self, where: dict[str, bool]) -> int:
        """How many reports have these label values."""
        return int(self._allowed(where).sum())

    def require_engine(self, engine: GroundingEngine) -> None:
        """Raise IndexFileError unless `engine` gives the vectors that this index holds."""
        if any(engine is known for known in self._fitting):
            return
        found = engine.embed_sentences([PROBE])[0]
        same_space = found.shape == self.probe.shape and float(found @ self.probe) > 0.999
        if engine.name != self.info.engine or not same_space:
            detail = "" if engine.name != self.info.engine else " with other weights"
            raise IndexFileError(
                f'This index was built with the engine "{self.info.engine}" ({self.info.dimension} numbers per '
                f'vector){detail}; the engine here is "{engine.name}" ({found.shape[0]}). Choose the same engine, or '
                "build the index again."
            )
        self._fitting.append(engine)

    def _get_ready(self) -> None:
        """Load FAISS and touch every file once, with a search that nobody waits for: it belongs to opening."""
        if not self._ready:
            self._ready.append(True)
            everything = np.ones(len(self), bool)
            any_report = np.resize(self.probe, self.info.dimension)
            self._search(Query(any_report, self.probe[None], 0.7), 1, everything, time.perf_counter())

    def _checked_vector(self, vector: np.ndarray) -> np.ndarray:
        if vector.shape != (self.info.dimension,):
            raise IndexFileError(
                f"The CT's vector has shape {vector.shape}, this index holds vectors of {self.info.dimension} numbers "
                f'from the engine "{self.info.engine}". Choose that engine, or build the index again.'
            )
        return np.asarray(vector, np.float32)

    def _volume_vector(self, row: int, study_id: str) -> np.ndarray:
        at = np.flatnonzero(self.volume_rows == row)
        if len(at) == 0:
            raise IndexFileError(f'The CT of "{study_id}" is not in this index; build it with the folder of volumes.')
        return np.asarray(self.volumes.vectors[at[0]], np.float32)

    def _allowed(self, where: dict[str, bool]) -> np.ndarray:
        """(R,) bool, True = the report has every wanted label value."""
        allowed = np.ones(len(self), bool)
        for name, wanted in where.items():
            allowed &= self.labels[:, CT_RATE_LABELS.index(known_label(name))] == wanted
        return allowed

    def _search_whole(
        self, vector: np.ndarray, count: int, allowed: np.ndarray, compare: Compare, began: float
    ) -> SearchResult:
        """Compare one vector (D,) with report vectors or study vectors."""
        if compare == "reports":
            return self._search(Query(vector, vector[None][:0], 0.0), count, allowed, began)
        found = self.volumes.nearest(vector[None], max(0, count), allowed[self.volume_rows])
        rows = self.volume_rows[found.rows[0][found.rows[0] >= 0]]
        scores = found.cosines[0][: len(rows)]
        return self._result(rows, scores, vector[None], int(allowed[self.volume_rows].sum()), began)

    def _search(self, query: Query, count: int, allowed: np.ndarray, began: float) -> SearchResult:
        """Score the most promising reports exactly until no other can be among the best."""
        count = max(0, min(count, int(allowed.sum())))
        rows, scores = self._best(query, self._propose(query, count, allowed), count)
        order = np.lexsort((rows, -np.round(scores, 6)))[:count]  # rounded: equal reports keep the table's order
        shown = query.sentences if len(query.sentences) else query.whole[None]
        return self._result(rows[order], scores[order], shown, int(allowed.sum()), began)

    def _propose(self, query: Query, count: int, allowed: np.ndarray) -> Proposals:
        width = max(CANDIDATES, 4 * count)
        each = min(MOST_SENTENCES, max(FEWEST_SENTENCES, SENTENCES_TOGETHER // max(1, len(query.sentences))))
        if query.sentence_weight == 0 or not len(query.sentences):
            nearest = self.reports.nearest(query.whole[None], width, allowed)
            found = nearest.rows[0] >= 0
            return Proposals(nearest.rows[0][found], nearest.cosines[0][found])
        usable = None if allowed.all() else self._usable_sentences(allowed)
        nearest = self.sentences.nearest(query.sentences, max(each, 4 * count), usable)
        return propose_reports(query, nearest, self.reports, self.reports_of, allowed, width)

    def _best(self, query: Query, proposed: Proposals, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and exact scores (n,) of proposals, n >= `count` where there are as many."""
        step, most = max(SCORED_AT_ONCE, count), max(MOST_SCORED, 4 * count)
        scores = np.zeros(0, np.float32)
        for start in range(0, min(len(proposed.rows), most), step):
            if len(scores) >= count > 0 and np.sort(scores)[-count] > proposed.bounds[start] + TIE:
                break
            scores = np.concatenate([scores, self._scores(query, proposed.rows[start : start + step])])
        return proposed.rows[: len(scores)], scores

    def _usable_sentences(self, allowed: np.ndarray) -> np.ndarray:
        """(S,) bool, True = the sentence occurs in an allowed report."""
        key = allowed.tobytes()
        usable = self._usable.get(key)
        if usable is None:
            owners = np.repeat(allowed, np.diff(self.sentences_of.starts))
            usable = np.zeros(len(self.reports_of.starts) - 1, bool)
            usable[self.sentences_of.members[owners]] = True
            if len(self._usable) >= KEPT_FILTERS:
                self._usable.clear()
            self._usable[key] = usable
        return usable

    def _scores(self, query: Query, rows: np.ndarray) -> np.ndarray:
        """Exact scores (C,) of reports `rows` (C,)."""
        whole = cosines_between(self.reports.vectors[rows], query.whole[None])[:, 0]
        if query.sentence_weight == 0 or not len(query.sentences) or not len(rows):
            return whole
        cosines, _, begins = self._sentence_cosines(query.sentences, rows)
        best = np.maximum.reduceat(cosines, begins, axis=0).mean(axis=1)
        return query.sentence_weight * best + (1 - query.sentence_weight) * whole

    def _sentence_cosines(self, vectors: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The n sentences of reports (C,) against vectors (Q, D): cosines (n, Q), rows (n,), first of each (C,)."""
        members, begins = self.sentences_of.of_many(rows)
        distinct, at = np.unique(members, return_inverse=True)
        cosines = cosines_between(self.sentences.vectors[distinct], vectors)
        return cosines[at], members, begins

    def _result(
        self, rows: np.ndarray, scores: np.ndarray, vectors: np.ndarray, remaining: int, began: float
    ) -> SearchResult:
        """Hits for reports `rows`, each with the sentence nearest to any of `vectors` (Q, D)."""
        cosines, members, begins = self._sentence_cosines(vectors, rows)
        best = cosines.max(axis=1, initial=-1.0)
        pieces = zip(np.split(best, begins[1:]), np.split(members, begins[1:]), strict=True)
        passages = [int(sentences[nearness.argmax()]) for nearness, sentences in pieces] if len(rows) else []
        hits = tuple(
            self._hit(int(row), float(score), passage)
            for row, score, passage in zip(rows, scores, passages, strict=True)
        )
        return SearchResult(hits, remaining, (time.perf_counter() - began) * 1000)

    def _hit(self, row: int, score: float, passage: int) -> Hit:
        report = self.texts.report(row)
        sentence = self.texts.sentence(passage)
        return Hit(report.study_id, score, sentence, report.text, self.labels_of(row), report.volume, row)

    def labels_of(self, row: int) -> dict[str, bool]:
        """The 18 CT-RATE labels of a report."""
        return dict(zip(CT_RATE_LABELS, map(bool, self.labels[row]), strict=True))
