import numpy as np
import pytest
from word_engine import ROWS, WordEngine, unit

from core.errors import IndexFileError, StudyError
from core.report.sentences import split_sentences
from core.retrieval.build import StudyVector, build_index, embed_studies
from core.retrieval.results import describe_result
from core.retrieval.table import ReportRow
from core.volume import Volume


def ids(result):
    return [hit.study_id for hit in result.hits]


def test_text_search_ranks_the_report_that_says_it_first(index, engine):
    result = index.search_text("spiculated nodule", engine, count=2)
    assert ids(result)[0] == "b"
    assert result.hits[0].passage == "A spiculated nodule in the right upper lobe."
    assert result.hits[0].text == ROWS[1].text
    assert result.remaining == 5
    assert result.milliseconds > 0


def test_an_identical_sentence_scores_one_and_ties_keep_the_tables_order(index, engine):
    result = index.search_sentence("There is a large left pleural effusion.", engine, count=3)
    assert ids(result)[:2] == ["a", "d"]
    np.testing.assert_allclose([hit.score for hit in result.hits[:2]], 1.0, atol=5e-4)


def test_distinct_sentences_are_embedded_once(engine):
    build_index(ROWS, engine)
    distinct = {span.text for row in ROWS for span in split_sentences(row.text)}
    assert engine.embedded_sentences == len(distinct) + 1  # and the probe


def test_text_score_is_the_stated_mix_of_best_sentence_and_whole_report(index, engine):
    query = "Emphysema in both upper lobes."
    hit = index.search_text(query, engine, count=1, sentence_weight=0.7).hits[0]
    sentences = [span.text for span in split_sentences(ROWS[4].text)]
    vector = engine.embed_sentences([query])[0]
    whole = float(engine.embed_report(sentences) @ vector)
    assert hit.study_id == "e"
    assert hit.score == pytest.approx(0.7 * 1.0 + 0.3 * whole, abs=5e-4)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"Pleural effusion": True}, {"a", "d"}),
        ({"Pleural effusion": True, "Cardiomegaly": True}, {"d"}),
        ({"cardiomegaly": False}, {"a", "b", "c", "e"}),
        ({"Lung nodule": False, "pleural effusion": False}, {"c", "e"}),
        ({"Mosaic attenuation pattern": True}, set()),
    ],
)
def test_label_filters_come_before_the_search(index, engine, where, expected):
    result = index.search_text("effusion", engine, count=10, where=where)
    assert set(ids(result)) == expected
    assert result.remaining == len(expected) == index.count_matching(where)


def test_asking_for_more_than_there_are_or_nothing(index, engine):
    assert len(index.search_text("heart", engine, count=100).hits) == 5
    assert index.search_text("heart", engine, count=0).hits == ()
    assert index.search_text("heart", engine, count=-3).hits == ()


def test_search_by_study_leaves_the_study_out(index):
    result = index.search_study("a", count=10)
    assert ids(result)[0] == "d"
    assert "a" not in ids(result)
    assert result.remaining == 4
    with pytest.raises(IndexFileError, match='No study "zz"'):
        index.search_study("zz")


@pytest.mark.parametrize("query", ["", "  \n"])
def test_empty_queries_are_refused(index, engine, query):
    with pytest.raises(IndexFileError, match="empty"):
        index.search_text(query, engine)


def test_hostile_queries_are_only_text(index, engine):
    for query in ("'; DROP TABLE report; --", "\x00\ufffd", "a" * 20_000, "1. 2. 3."):
        assert len(index.search_text(query, engine, count=2).hits) == 2
    with pytest.raises(IndexFileError, match="at most 20000"):
        index.search_text("a" * 20_001, engine)


def test_unknown_filter_is_refused(index, engine):
    with pytest.raises(IndexFileError, match="18 findings"):
        index.search_text("heart", engine, where={"zzz": True})


def test_another_engine_or_other_weights_are_refused(index):
    renamed = WordEngine()
    renamed.name = "letters"
    with pytest.raises(IndexFileError, match='"words".*"letters"'):
        index.search_text("heart", renamed)
    with pytest.raises(IndexFileError, match="other weights"):
        index.search_text("heart", WordEngine(salt="retrained"))
    with pytest.raises(IndexFileError, match="shape"):
        index.search_volume(np.ones(3, np.float32))


def ct(hu):
    return Volume.from_source(np.full((4, 5, 6), hu, np.int16), np.diag([1.0, 2.0, 3.0, 1.0]))


def build_with_studies(engine):
    studies = {
        row.study_id: StudyVector(engine.embed_volume(ct(hu)).study_vector, ct(hu).content_hash)
        for row, hu in ((ROWS[2], 40), (ROWS[4], -900))
    }
    return build_index(ROWS, engine, studies).index


def test_search_by_open_ct_ranks_reports_and_leaves_the_same_ct_out(engine):
    index = build_with_studies(engine)
    opened = ct(50)
    vector = engine.embed_volume(opened).study_vector
    assert ids(index.search_volume(vector, count=5))[0] == "c"
    same = index.search_volume(vector, count=5, content_hash=ct(40).content_hash)
    assert "c" not in ids(same)
    assert same.remaining == 4


def test_search_among_volumes_returns_only_studies_with_ct(engine):
    index = build_with_studies(engine)
    vector = engine.embed_volume(ct(50)).study_vector
    result = index.search_volume(vector, compare="volumes")
    assert ids(result) == ["c", "e"]
    assert result.remaining == 2
    assert result.hits[0].score == pytest.approx(1.0, abs=5e-4)
    assert ids(index.search_study("c", compare="volumes")) == ["e"]
    with pytest.raises(IndexFileError, match='CT of "a" is not in this index'):
        index.search_study("a", compare="volumes")


def test_embedding_studies_stays_inside_the_folder_and_reports_failures(tmp_path, engine):
    (tmp_path / "in").mkdir()
    for name in ("in/good.nii", "in/bad.nii", "secret.nii"):
        (tmp_path / name).write_bytes(b"x")

    def read(path):
        if path.name == "bad.nii":
            raise StudyError("not an image")
        return ct(40), None

    rows = [ReportRow(name, "Text.", volume=name) for name in ("good.nii", "bad.nii", "../secret.nii", "gone.nii")]
    studies = embed_studies([*rows, ReportRow("none", "Text.")], tmp_path / "in", read, engine)
    assert list(studies.vectors) == ["good.nii"]
    reasons = {skipped.study_id: skipped.reason for skipped in studies.skipped}
    assert "outside" in reasons["../secret.nii"]
    assert "does not exist" in reasons["gone.nii"]
    assert reasons["bad.nii"] == "not an image"


def test_reports_without_sentences_are_skipped_and_a_table_of_only_those_is_refused(engine):
    built = build_index([ReportRow("x", "..."), ROWS[0]], engine)
    assert [row.study_id for row in built.skipped] == ["x"]
    assert len(built.index) == 1
    with pytest.raises(IndexFileError, match="None of the 1 reports"):
        build_index([ReportRow("x", "...")], engine)


def test_candidate_search_agrees_with_scoring_every_report(engine):
    """600 reports that share a few very common sentences: the shortcut must not lose the best reports."""
    rng = np.random.default_rng(0)
    words = ["nodule", "effusion", "left", "right", "apex", "base", "calcified", "large", "small", "lobe", "opacity"]
    phrases = [" ".join(rng.choice(words, 4, replace=False)).capitalize() + "." for _ in range(150)]
    rows = [
        ReportRow(f"s{n}", " ".join(["The heart is normal.", "No effusion.", *rng.choice(phrases, 4)]))
        for n in range(600)
    ]
    index = build_index(rows, engine).index
    everything = np.arange(len(rows))
    for query in ("No effusion.", "large calcified nodule left apex", "The heart is normal. Small right opacity."):
        sentences = [span.text for span in split_sentences(query)]
        vectors, whole = engine.embed_sentences(sentences), engine.embed_report(sentences)
        cosines, _, begins = index._sentence_cosines(vectors, everything)
        best = np.maximum.reduceat(cosines, begins, axis=0).mean(axis=1)
        expected = 0.7 * best + 0.3 * index.reports.vectors.astype(np.float32) @ unit(whole)
        found = [hit.score for hit in index.search_text(query, engine, count=10).hits]
        np.testing.assert_allclose(found, np.sort(expected)[::-1][:10], atol=1e-5)


def test_contract_document(index, engine):
    document = describe_result(index.search_text("nodule", engine, count=1))
    assert set(document) >= {"results", "milliseconds"}
    assert set(document["results"][0]) >= {"study_id", "score", "text"}
    assert document["results"][0]["labels"]["Lung nodule"] is True
