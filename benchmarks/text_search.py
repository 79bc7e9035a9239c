"""Time and recall of text search in a large collection, by kind of query and with label filters, as JSON.

    python -m benchmarks.text_search --reports 100000 --index FOLDER

Reports are generated; the index is built once and kept in FOLDER. Vectors come from hashed words (256 numbers), so
that a hundred thousand reports are embedded in minutes. What a real engine needs for the vectors of a query is
measured with the bundled one (--engine FOLDER for another) and added to the time of the search. Recall compares the
ten reports found with the ten best of scoring every report. Processor time is what counts on a busy machine.
"""

import argparse
import hashlib
import json
import re
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import figure
from core.findings import CT_RATE_LABELS
from core.grounding.engine import PatchFeatures
from core.progress import Progress, silent
from core.report.sentences import split_sentences
from core.retrieval.build import build_index
from core.retrieval.index import ReportIndex
from core.retrieval.storage import load_index, save_index
from core.retrieval.table import ReportRow
from core.synthesis.reports import generate_reports
from core.volume import Volume

WIDTH = 256
BUNDLED = Path(__file__).resolve().parents[1] / "assets/models/bundled"
FILTERS: tuple[dict[str, bool], ...] = (
    {"Pleural effusion": True},
    {"Pleural effusion": True, "Cardiomegaly": False, "Emphysema": False},
    {"Lung nodule": True, "Emphysema": True, "Atelectasis": True},
)


@lru_cache(maxsize=100_000)
def word_vector(word: str) -> np.ndarray:
    """A fixed random direction for a word, (WIDTH,) float32."""
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)


@lru_cache(maxsize=1_000_000)
def sentence_vector(sentence: str) -> np.ndarray:
    """The direction of its words' sum, (WIDTH,) float32; kept, since a report is embedded after its sentences."""
    words = re.findall(r"[a-z0-9]+", sentence.lower()) or [""]
    total = np.sum([word_vector(word) for word in words], axis=0)
    return (total / np.linalg.norm(total)).astype(np.float32)


class HashedWords:
    """Sentences as sums of word directions: as fast as reading, and as clustered as radiologists' phrases are."""

    name = "hashed words"

    def embed_sentences(self, sentences: Any) -> np.ndarray:
        """(S, WIDTH) float32 unit vectors."""
        return np.stack([sentence_vector(sentence) for sentence in sentences])

    def embed_report(self, sentences: Any) -> np.ndarray:
        """(WIDTH,) float32 unit vector."""
        total = self.embed_sentences(sentences).sum(axis=0)
        return (total / np.linalg.norm(total)).astype(np.float32)

    def embed_volume(self, volume: Volume, masks: object = None, progress: Progress = silent) -> PatchFeatures:
        """Words say nothing of a CT."""
        raise NotImplementedError("this benchmark searches by text only")

    def presence_probability(self, score: float, negated_score: float) -> float:
        """Not used by search."""
        return float(1 / (1 + np.exp(negated_score - score)))


def open_or_build(folder: Path, count: int) -> tuple[ReportIndex, float]:
    """The index of `count` generated reports and the seconds that building took (0 when it was kept)."""
    if (folder / "meta.json").exists():
        return load_index(folder), 0.0
    rows = [
        ReportRow(report.study_id, report.findings, report.impression, labels=report.labels)
        for report in generate_reports(count, seed=0)
    ]
    start = time.perf_counter()
    save_index(build_index(rows, HashedWords()).index, folder)
    return load_index(folder), time.perf_counter() - start


def best_scores(index: ReportIndex, query: str, where: dict[str, bool], count: int) -> np.ndarray:
    """The highest scores (count,) that any report has, from scoring all of them."""
    engine, sentences = HashedWords(), [span.text for span in split_sentences(query)]
    allowed = np.ones(len(index), bool)
    for name, wanted in where.items():
        allowed &= index.labels[:, CT_RATE_LABELS.index(name)] == wanted
    cosines = index.sentences.vectors.astype(np.float32) @ engine.embed_sentences(sentences).T
    best = np.maximum.reduceat(cosines[index.sentences_of.members], index.sentences_of.starts[:-1], axis=0).mean(axis=1)
    scores = 0.7 * best + 0.3 * index.reports.vectors.astype(np.float32) @ engine.embed_report(sentences)
    return np.sort(scores[allowed])[::-1][:count]


def measure(index: ReportIndex, queries: list[str], where: dict[str, bool], count: int = 10) -> dict[str, Any]:
    """Milliseconds and recall over `queries` under one filter."""
    engine = HashedWords()
    for query in queries[:3]:  # loads FAISS and the pages of the files
        index.search_text(query, engine, count, where)
    start = time.process_time()
    results = [index.search_text(query, engine, count, where) for query in queries]
    processor = 1000 * (time.process_time() - start) / len(queries)
    recall = [
        np.mean([hit.score >= exact[-1] - 1e-5 for hit in result.hits])
        for result, exact in (
            (result, best_scores(index, query, where, count)) for result, query in zip(results, queries, strict=True)
        )
    ]
    return {
        "filter": where,
        "remaining": results[0].remaining,
        **describe_times([result.milliseconds for result in results]),
        "processor_milliseconds_mean": processor,
        "recall_at_10": float(np.mean(recall)),
    }


def describe_times(milliseconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {
        "milliseconds_median": float(np.median(milliseconds)),
        "milliseconds_p95": float(np.percentile(milliseconds, 95)),
    }


def draw_queries(count: int) -> dict[str, list[str]]:
    """Kind -> `count` queries from reports that are not in the collection."""
    rng = np.random.default_rng(1)
    drawn: dict[str, list[str]] = {"phrase": [], "sentence": [], "three sentences": [], "whole report": []}
    for report in generate_reports(count, seed=1):
        sentences = [span.text for span in split_sentences(report.findings)]
        chosen = sentences[int(rng.integers(len(sentences)))]
        texts = (" ".join(chosen.split()[:4]), chosen, " ".join(sentences[:3]), report.findings)
        for kind, text in zip(drawn, texts, strict=True):
            drawn[kind].append(text)
    return drawn


def time_engine(folder: Path, queries: list[str]) -> dict[str, float]:
    """Milliseconds that a real engine needs for the vectors of a query."""
    from core.grounding.model_folder import open_folder

    engine = open_folder(folder, "cpu")
    times = []
    for query in [*queries[-3:], *queries]:
        start = time.perf_counter()
        sentences = [span.text for span in split_sentences(query)]
        engine.embed_report(sentences)
        engine.embed_sentences(sentences)
        times.append(1000 * (time.perf_counter() - start))
    return describe_times(times[3:])


def judge(searched: dict[str, Any], embedded: dict[str, float], kind: str) -> dict[str, Any]:
    """A kind's 95th percentile, the vectors of the query included, beside the 20 ms that it may take."""
    total = searched["milliseconds_p95"] + embedded["milliseconds_p95"]
    return figure(f"text search, {kind}, p95", total, 20.0, "ms", search=searched, embedding=embedded)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=int, default=100_000)
    parser.add_argument("--index", type=Path, required=True, help="folder to keep the index in")
    parser.add_argument("--queries", type=int, default=60, help="of each kind")
    parser.add_argument("--engine", type=Path, default=BUNDLED, help="model folder whose query time is added")
    arguments = parser.parse_args()
    index, seconds = open_or_build(arguments.index, arguments.reports)
    queries = draw_queries(arguments.queries)
    mixed = [query for kind in list(queries)[:3] for query in queries[kind][:20]]
    figures = {
        "reports": len(index),
        "distinct_sentences": len(index.sentences.vectors),
        "width": index.info.dimension,
        "build_seconds": seconds,
        "kinds": [
            judge(measure(index, texts, {}), time_engine(arguments.engine, texts), kind)
            for kind, texts in queries.items()
        ],
        "filtered": [measure(index, mixed, where) for where in FILTERS],
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
