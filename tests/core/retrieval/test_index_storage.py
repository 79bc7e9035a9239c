import json

import numpy as np
import pytest
from word_engine import ROWS, WordEngine

from core.errors import ConfigError, IndexFileError
from core.retrieval.build import build_index
from core.retrieval.layout import lay_out
from core.retrieval.storage import load_index, save_index
from core.retrieval.table import ReportRow


def test_a_saved_index_answers_the_same(index, engine, tmp_path):
    save_index(index, tmp_path / "index")
    opened = load_index(tmp_path / "index")
    for query in ("effusion", "heart normal"):
        before, after = index.search_text(query, engine), opened.search_text(query, engine)
        assert before.hits == after.hits
    np.testing.assert_array_equal(opened.map_xy, index.map_xy)
    assert opened.info == index.info
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]


def test_saving_again_replaces_an_index_but_never_other_files(index, engine, tmp_path):
    folder = tmp_path / "index"
    save_index(index, folder)
    save_index(build_index(ROWS[:2], engine).index, folder)
    assert len(load_index(folder)) == 2
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(IndexFileError, match="thesis.txt"):
        save_index(index, folder)
    assert (folder / "thesis.txt").read_text() == "mine"
    assert len(load_index(folder).labels) == 2


def test_a_file_in_the_way_is_refused(index, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(IndexFileError, match="is a file"):
        save_index(index, tmp_path / "file")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda folder: (folder / "meta.json").unlink(), "not a report index"),
        (lambda folder: (folder / "meta.json").write_text("{"), "not a report index"),
        (lambda folder: (folder / "meta.json").write_text("[]"), "does not describe"),
        (lambda folder: (folder / "labels.npy").unlink(), "missing"),
        (lambda folder: (folder / "texts.sqlite").write_bytes(b"x"), "expected"),
        (lambda folder: (folder / "report_vectors.npy").write_bytes(b"x" * 10), "10 bytes"),
    ],
)
def test_damaged_folders_are_refused(index, tmp_path, change, match):
    folder = tmp_path / "index"
    save_index(index, folder)
    change(folder)
    with pytest.raises(IndexFileError, match=match):
        load_index(folder)


@pytest.mark.parametrize(("key", "value"), [("version", 99), ("labels", ["x"]), ("reports", 7), ("dimension", "wide")])
def test_meta_that_does_not_fit_is_refused(index, tmp_path, key, value):
    save_index(index, tmp_path / "index")
    path = tmp_path / "index" / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(IndexFileError):
        load_index(tmp_path / "index")


def test_pickles_are_not_opened(index, tmp_path):
    save_index(index, tmp_path / "index")
    path = tmp_path / "index" / "labels.npy"
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    meta = tmp_path / "index" / "meta.json"
    document = json.loads(meta.read_text())
    document["files"]["labels.npy"] = path.stat().st_size
    meta.write_text(json.dumps(document))
    with pytest.raises(IndexFileError, match=r"labels\.npy cannot be read"):
        load_index(tmp_path / "index")


def test_the_map_is_two_columns_within_one_and_separates_groups(engine):
    rows = [ReportRow(f"e{n}", f"Large pleural effusion {'left' if n % 2 else 'right'}.") for n in range(6)]
    rows += [ReportRow(f"n{n}", f"Tiny calcified granuloma {'apex' if n % 2 else 'base'}.") for n in range(6)]
    placed = build_index(rows, engine).index.map_xy
    assert placed.shape == (12, 2)
    assert np.abs(placed).max() == pytest.approx(1.0)
    assert abs(placed[:6, 0].mean() - placed[6:, 0].mean()) > 0.5
    again = build_index(rows, WordEngine()).index.map_xy
    np.testing.assert_array_equal(placed, again)


def test_the_map_of_very_few_reports_is_finite():
    for count in (0, 1, 2):
        assert np.isfinite(lay_out(np.eye(4, dtype=np.float32)[:count])).all()


def test_umap_says_what_it_needs_or_keeps_groups_together():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    try:
        import umap  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="umap-learn"):
            lay_out(vectors, "umap")
    else:
        assert lay_out(vectors, "umap").shape == (40, 2)


class OtherSentences(WordEngine):
    """Its sentences have a space of their own."""

    def embed_sentences(self, sentences):
        found = super().embed_sentences(sentences)
        return np.concatenate([found, np.zeros((len(found), 3), np.float32)], axis=1)


def test_sentences_may_have_another_width_than_reports(tmp_path):
    engine = OtherSentences()
    save_index(build_index(ROWS, engine).index, tmp_path / "index")
    opened = load_index(tmp_path / "index")
    assert opened.info.sentence_width == opened.info.dimension + 3
    plain = build_index(ROWS, WordEngine()).index
    query = "effusion"
    assert opened.search_text(query, engine).hits == plain.search_text(query, WordEngine()).hits
    with pytest.raises(IndexFileError, match="Choose the same engine"):
        opened.search_text(query, WordEngine())
