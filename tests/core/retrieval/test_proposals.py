import numpy as np
import pytest

from core.retrieval import proposals
from core.retrieval.neighbours import Nearest, Neighbours, cosines_between
from core.retrieval.postings import collect_postings, invert_postings
from core.retrieval.proposals import bound_by_sentences, propose_reports
from core.retrieval.query import Query

REPORTS, SENTENCES, WIDTH = 400, 120, 16


def directions(count, rng):
    vectors = rng.normal(size=(count, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def collection():
    """400 reports; the first sentence stands in all of them."""
    rng = np.random.default_rng(5)
    lists = [[0, *sorted(rng.choice(np.arange(1, SENTENCES), 4, replace=False).tolist())] for _ in range(REPORTS)]
    sentences_of = collect_postings(lists)
    reports = Neighbours.build(directions(REPORTS, rng))
    sentences = Neighbours.build(directions(SENTENCES, rng))
    query = Query(directions(1, rng)[0], np.stack([sentences.vectors[0].astype(np.float32), *directions(2, rng)]), 0.7)
    return query, reports, sentences, sentences_of, invert_postings(sentences_of, SENTENCES)


def best_of_reports(query, sentences, sentences_of):
    cosines = sentences.vectors.astype(np.float32) @ query.sentences.T
    return np.stack([cosines[sentences_of.of(row)].max(axis=0).mean() for row in range(REPORTS)])


@pytest.mark.parametrize(("near", "holders"), [(SENTENCES, 64_000), (10, 64_000), (10, 500)])
def test_no_report_exceeds_its_bound(collection, monkeypatch, near, holders):
    query, _, sentences, sentences_of, reports_of = collection
    monkeypatch.setattr(proposals, "HOLDERS", holders)
    bounds = bound_by_sentences(sentences.nearest(query.sentences, near), reports_of, REPORTS)
    exact = best_of_reports(query, sentences, sentences_of)
    assert (bounds.floor + bounds.gains >= exact - 1e-4).all()
    if near == SENTENCES:  # everything is known, so the bound is the value
        np.testing.assert_allclose(bounds.floor + bounds.gains, exact, atol=1e-4)


def test_the_best_reports_are_proposed_also_where_a_sentence_stands_everywhere(collection, monkeypatch):
    query, reports, sentences, sentences_of, reports_of = collection
    monkeypatch.setattr(proposals, "POOL", 60)
    allowed = np.arange(REPORTS) % 3 > 0
    nearest = sentences.nearest(query.sentences, 40)
    found = propose_reports(query, nearest, reports, reports_of, allowed, 40)
    scores = (
        0.7 * best_of_reports(query, sentences, sentences_of) + 0.3 * reports.vectors.astype(np.float32) @ query.whole
    )
    best = [row for row in np.argsort(-scores) if allowed[row]][:10]
    assert len(set(best) & set(found.rows.tolist())) >= 9
    assert allowed[found.rows].all()
    assert len(set(found.rows.tolist())) == len(found.rows) <= 100
    assert (np.diff(found.bounds) <= 0).all()


def test_a_filter_that_leaves_no_sentence_leaves_the_nearest_reports(collection):
    query, reports, _, _, reports_of = collection
    nothing = Nearest(np.zeros((3, 0), np.float32), np.zeros((3, 0), np.int64))
    found = propose_reports(query, nothing, reports, reports_of, np.ones(REPORTS, bool), 7)
    expected = reports.nearest(query.whole[None], 7).rows[0]
    assert found.rows.tolist() == expected.tolist()


def test_cosines_are_those_of_a_matrix_product():
    rng = np.random.default_rng(0)
    one, other = directions(50, rng), directions(7, rng)
    np.testing.assert_allclose(cosines_between(one.astype(np.float16), other), one @ other.T, atol=2e-3)
    assert cosines_between(one[:0], other).shape == (0, 7)
