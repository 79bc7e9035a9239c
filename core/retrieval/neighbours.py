"""Which stored vectors point most nearly in the direction of a query: FAISS, exact or in inverted lists."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.errors import ConfigError, IndexFileError


def _faiss() -> Any:
    """The FAISS module, loaded at the first search: the page shows slices without it."""
    return importlib.import_module("faiss")


@dataclass(frozen=True)
class NeighbourConfig:
    """When to search exactly, and how carefully otherwise.

    100,000 x 256 clustered unit vectors, one thread: exact 12 ms; inverted lists with 64 probes 0.5 ms at recall@10
    1.000, and 2 to 4 ms at 0.998 or better when a filter leaves a tenth. Among 220,000 distinct sentences, phrases of
    four words need 128 probes (64: 0.98), whole reports 32 for each of their sentences (benchmarks/text_search.py).
    """

    exact_up_to: int = 20_000
    """Vectors up to which every one is compared."""
    lists_per_root: float = 4.0
    """Inverted lists per square root of the number of vectors."""
    probes: int = 128
    """Lists looked into for a single query; a filter that leaves a fraction f looks into 1/f more."""
    probes_together: int = 400
    """Lists looked into for all queries of one search together, where a single query's would be more."""
    fewest_probes: int = 32
    """Lists looked into for each query all the same."""
    training_per_list: int = 64
    """Vectors that place one list's centre; there are fewer lists where a collection has fewer."""

    def __post_init__(self) -> None:
        numbers = (self.exact_up_to, self.lists_per_root, self.probes, self.probes_together, self.fewest_probes)
        if min(*numbers, self.training_per_list) <= 0:
            raise ConfigError(f"every setting of a neighbour search must be positive, got {self}")


class Nearest(NamedTuple):
    """Best matches of Q queries, best first."""

    cosines: np.ndarray  # (Q, K) float32; -inf where there are fewer than K
    rows: np.ndarray  # (Q, K) int64; -1 where there are fewer than K


@contextmanager
def _one_thread() -> Iterator[None]:
    """One query does not fill two threads: two on shared cores were three times slower.

    The number is given back: FAISS and torch share the OpenMP library, and a network that comes next in this thread
    would run on one, or wait for one that BLAS still counts on.
    """
    faiss = _faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def cosines_between(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Cosines (n, Q) float32 of unit vectors (n, D) with unit vectors (Q, D).

    Product by product: a matrix product of this size wakes BLAS's threads, and where other work holds the cores they
    are waited for ten times longer than the sums take.
    """
    found = np.vecdot(np.asarray(vectors, np.float32)[:, None], np.asarray(queries, np.float32)[None])
    return np.asarray(found, np.float32)


class Neighbours:
    """Unit vectors (M, D) that can be searched; M may be 0.

    They are kept as float16, on disk and in memory: a cosine changes by less than 0.0005.
    """

    def __init__(self, vectors: np.ndarray, lists: Any | None = None, config: NeighbourConfig | None = None) -> None:
        """`lists` is a trained FAISS inverted-list index over the same rows; None searches exactly."""
        self.vectors = vectors
        self.config = config or NeighbourConfig()
        self._lists = lists
        self._exact: Any | None = None

    @classmethod
    def build(cls, vectors: np.ndarray, config: NeighbourConfig | None = None) -> "Neighbours":
        """Prepare (M, D) unit vectors of any float dtype; trains inverted lists when there are many."""
        config, vectors = config or NeighbourConfig(), vectors.astype(np.float16)
        if len(vectors) <= config.exact_up_to:
            return cls(vectors, None, config)
        return cls(vectors, _train_lists(vectors, config), config)

    @property
    def is_exact(self) -> bool:
        """Whether every vector is compared."""
        return self._lists is None

    def nearest(self, queries: np.ndarray, count: int, allowed: np.ndarray | None = None) -> Nearest:
        """The `count` best rows for each query (Q, D) by cosine; `allowed` (M,) bool, True = may be returned."""
        queries = np.ascontiguousarray(queries, np.float32)
        remaining = len(self.vectors) if allowed is None else int(allowed.sum())
        count = min(count, remaining)
        if count == 0:
            empty = np.zeros((len(queries), 0))
            return Nearest(empty.astype(np.float32), empty.astype(np.int64))
        index, parameters = self._plan(len(queries), allowed, remaining)
        with _one_thread():
            cosines, rows = index.search(queries, count, params=parameters)
        return Nearest(np.where(rows < 0, -np.inf, cosines).astype(np.float32), rows)

    def _plan(self, queries: int, allowed: np.ndarray | None, remaining: int) -> tuple[Any, Any]:
        """The FAISS index and search parameters for some queries under a filter."""
        faiss = _faiss()
        chosen = {}
        if allowed is not None and remaining < len(allowed):
            chosen["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if self._lists is None:
            return self._exact_index(), faiss.SearchParameters(**chosen)
        each = min(self.config.probes, max(self.config.fewest_probes, self.config.probes_together // max(queries, 1)))
        probes = int(np.ceil(each * len(self.vectors) / remaining))
        return self._lists, faiss.SearchParametersIVF(nprobe=min(probes, self._lists.nlist), **chosen)

    def _exact_index(self) -> Any:
        if self._exact is None:
            faiss = _faiss()
            index = faiss.IndexFlatIP(self.vectors.shape[1])
            index.add(np.ascontiguousarray(self.vectors, np.float32))
            self._exact = index
        return self._exact

    def save(self, path: Path) -> bool:
        """Write the inverted lists; False (and no file) when the search is exact, since vectors are kept elsewhere."""
        if self._lists is None:
            return False
        faiss = _faiss()
        faiss.write_index(self._lists, str(path))
        return True

    @classmethod
    def load(cls, vectors: np.ndarray, path: Path, config: NeighbourConfig | None = None) -> "Neighbours":
        """Over stored `vectors` (M, D), with the lists in `path` if that exists. Raises IndexFileError."""
        if not path.exists():
            return cls(vectors, None, config)
        faiss = _faiss()
        try:
            lists = faiss.read_index(str(path))
        except RuntimeError as error:
            raise IndexFileError(f"{path.name} is damaged or not a FAISS file. Build the index again.") from error
        if (lists.ntotal, lists.d) != vectors.shape:
            raise IndexFileError(
                f"{path.name} holds {lists.ntotal} vectors of {lists.d} numbers, expected {vectors.shape[0]} of "
                f"{vectors.shape[1]}. Files of two indexes are mixed: build the index again."
            )
        return cls(vectors, lists, config)


def _train_lists(vectors: np.ndarray, config: NeighbourConfig) -> Any:
    """Inverted lists in half precision over (M, D) vectors; the same vectors give the same lists."""
    faiss = _faiss()
    count, width = vectors.shape
    lists = max(1, min(int(config.lists_per_root * np.sqrt(count)), count // config.training_per_list))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width), width, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    sample = np.random.default_rng(0).permutation(count)[: lists * config.training_per_list]
    index.train(np.ascontiguousarray(vectors[np.sort(sample)], np.float32))
    index.add(np.ascontiguousarray(vectors, np.float32))
    return index
