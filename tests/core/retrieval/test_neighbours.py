import numpy as np
import pytest

from core.errors import ConfigError, IndexFileError
from core.retrieval.neighbours import NeighbourConfig, Neighbours
from core.retrieval.postings import collect_postings, invert_postings


def clustered(count, width=24, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(60, width))[rng.integers(0, 60, count)] + 0.5 * rng.normal(size=(count, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def best_by_hand(vectors, query, count, allowed):
    cosines = np.where(allowed, vectors @ query, -np.inf)
    return set(np.argsort(-cosines)[:count].tolist())


def test_exact_search_agrees_with_a_matrix_product_under_a_filter():
    vectors = clustered(300)
    allowed = np.arange(300) % 3 == 0
    search = Neighbours.build(vectors)
    found = search.nearest(vectors[:4], 5, allowed)
    for query, rows in zip(vectors[:4], found.rows, strict=True):
        assert set(rows.tolist()) == best_by_hand(search.vectors.astype(np.float32), query, 5, allowed)
    np.testing.assert_allclose(found.cosines[0, 0], 1.0, atol=5e-4)
    assert (np.diff(found.cosines, axis=1) <= 0).all()


@pytest.mark.parametrize("kept", [1.0, 0.2, 0.02])
def test_inverted_lists_find_nearly_all_true_neighbours_also_under_filters(kept):
    vectors, queries = clustered(5000), clustered(40, seed=1)
    allowed = np.random.default_rng(2).random(5000) < kept
    search = Neighbours.build(vectors, NeighbourConfig(exact_up_to=1000))
    assert not search.is_exact
    found = search.nearest(queries, 10, allowed)
    hits = [
        len(set(rows.tolist()) & best_by_hand(search.vectors.astype(np.float32), query, 10, allowed)) / 10
        for query, rows in zip(queries, found.rows, strict=True)
    ]
    assert np.mean(hits) >= 0.99
    assert allowed[found.rows[found.rows >= 0]].all()


def test_more_asked_than_there_are_gives_all_and_none_gives_none():
    search = Neighbours.build(clustered(7))
    assert sorted(search.nearest(clustered(1, seed=3), 50).rows[0].tolist()) == list(range(7))
    assert search.nearest(clustered(1), 5, np.zeros(7, bool)).rows.shape == (1, 0)
    assert Neighbours.build(np.zeros((0, 24), np.float32)).nearest(clustered(1), 5).rows.shape == (1, 0)


def test_lists_survive_a_file_and_refuse_foreign_vectors(tmp_path):
    vectors = clustered(3000)
    search = Neighbours.build(vectors, NeighbourConfig(exact_up_to=100))
    path = tmp_path / "lists.faiss"
    assert search.save(path)
    query = vectors[5:6]
    np.testing.assert_array_equal(Neighbours.load(vectors, path).nearest(query, 5).rows, search.nearest(query, 5).rows)
    with pytest.raises(IndexFileError, match="mixed"):
        Neighbours.load(vectors[:-1], path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(IndexFileError, match="damaged"):
        Neighbours.load(vectors, path)


def test_settings_must_be_positive():
    with pytest.raises(ConfigError, match="positive"):
        NeighbourConfig(probes=0)


def test_postings_gather_and_invert():
    postings = collect_postings([[2, 0], [], [0, 1, 1]])
    assert postings.of(2).tolist() == [0, 1, 1]
    members, begins = postings.of_many(np.array([2, 0]))
    assert (members.tolist(), begins.tolist()) == ([0, 1, 1, 2, 0], [0, 3])
    inverted = invert_postings(postings, 3)
    assert [inverted.of(row).tolist() for row in range(3)] == [[0, 2], [2, 2], [0]]


def test_a_search_leaves_the_threads_of_other_libraries_alone():
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        Neighbours.build(clustered(50)).nearest(clustered(1), 5)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
