import multiprocessing
import sqlite3

import pytest
import sqlalchemy as sa

from core.annotation.records import Evidence, SentenceRef, describe_evidence
from core.annotation.schema import LATEST, METADATA
from core.annotation.store import AnnotationStore
from core.errors import AnnotationError
from core.grounding.heatmap import HeatMap, SentenceGrounding
from core.volume import Grid

CT = "ab" * 20
OTHER_CT = "cd" * 20
NODULE = (3, "There is a 12 mm nodule in the left lower lobe.")
HEART = (1, "The heart is normal.")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/notes/annotations.sqlite"


@pytest.fixture
def store(url):
    opened = AnnotationStore(url)
    yield opened
    opened.close()


def verdicts(store, content_hash=CT):
    return {(a.sentence.text, a.author): a.verdict for a in store.for_case(content_hash)}


def test_a_verdict_survives_a_restart_under_the_content_hash(store, url):
    evidence = Evidence("bundled", "0f3a", (1.5, -20.0, 300.25), 0.7, 0.2, 0.9)
    recorded = store.record(CT, NODULE, "accept", "clear", "reader 1", evidence)
    store.close()
    again = AnnotationStore(url)
    assert again.for_case(CT) == (recorded,)
    assert again.for_case(OTHER_CT) == ()
    assert recorded.evidence.peak_ras_mm == (1.5, -20.0, 300.25)
    assert recorded.created_utc.endswith("+00:00")
    again.close()


def test_a_new_verdict_replaces_the_old_one_of_the_same_author_only(store):
    first = store.record(CT, NODULE, "accept", author="a")
    store.record(CT, NODULE, "reject", author="b")
    second = store.record(CT, (5, NODULE[1].replace(" ", "  ")), "uncertain", author="a")
    assert [(a.author, a.verdict, a.sentence.index) for a in store.for_case(CT)] == [
        ("b", "reject", 3),
        ("a", "uncertain", 5),  # the same sentence, moved and re-spaced in an edited report
    ]
    assert second.created_utc == first.created_utc < second.updated_utc
    assert [a.verdict for a in store.for_case(CT, author="b")] == ["reject"]


def test_undo_steps_back_through_an_authors_own_changes(store):
    store.record(CT, NODULE, "accept", "one", "a")
    store.record(CT, NODULE, "reject", "two", "a")
    store.record(CT, NODULE, "uncertain", author="b")
    undone = store.undo(CT, "a")
    assert (undone.after["verdict"], undone.before["verdict"]) == ("reject", "accept")
    assert verdicts(store) == {(NODULE[1], "a"): "accept", (NODULE[1], "b"): "uncertain"}
    store.record(CT, HEART, "accept", author="a")
    assert store.undo(CT, "a").after["sentence"]["text"] == HEART[1]
    assert store.undo(CT, "a").before is None
    assert verdicts(store) == {(NODULE[1], "b"): "uncertain"}
    assert store.undo(CT, "a") is None
    assert [(change.action, change.author) for change in store.history(CT)] == [
        ("record", "a"),
        ("record", "a"),
        ("record", "b"),
        ("undo", "a"),
        ("record", "a"),
        ("undo", "a"),
        ("undo", "a"),
    ]


def test_undo_of_one_sentence_leaves_later_changes_of_others(store):
    store.record(CT, NODULE, "accept")
    store.record(CT, HEART, "accept")
    store.undo(CT, sentence_text=NODULE[1])
    assert verdicts(store) == {(HEART[1], "anonymous"): "accept"}


def test_undo_restores_note_evidence_and_times_exactly(store):
    evidence = Evidence("bundled", "", (0.0, 0.0, 0.0), 0.1, 0.2, 0.3)
    first = store.record(CT, NODULE, "accept", "first note\n", "a", evidence)
    store.record(CT, NODULE, "reject", author="a")
    store.undo(CT, "a")
    assert store.for_case(CT) == (first,)


@pytest.mark.parametrize(
    "note",
    [
        "'); DROP TABLE annotation; --",
        "<script>alert(1)</script>",
        "{{7*7}} ${HOME} %s %(x)s \\x00 ../../etc",
        "=HYPERLINK(1)",
        "левая доля 左肺下葉 🫁 \u202eright-to-left",
        "  spaces, tabs\t\r\nand lines kept  ",
        "",
        "x" * 10_000,
    ],
)
def test_notes_are_kept_verbatim(store, note):
    store.record(CT, NODULE, "accept", note, author="Ærne Ünal")
    assert store.for_case(CT)[0].note == note
    assert store.for_case(CT)[0].author == "Ærne Ünal"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"note": "x" * 10_001}, "at most 10000"),
        ({"note": "a\x00b"}, "not text"),
        ({"note": "\ud800"}, "not text"),
        ({"verdict": "maybe"}, "accept, reject, uncertain"),
        ({"sentence": (0, "Zero.")}, "counted from 1"),
        ({"sentence": (1, "  ")}, "empty"),
        ({"sentence": (1, "x" * 4001)}, "at most 4000"),
        ({"author": "x" * 101}, "at most 100"),
        ({"author": "a\nb"}, "cannot be shown"),
        ({"content_hash": "../../etc/passwd"}, "content hash"),
        ({"content_hash": "AB" * 20}, "content hash"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_changes_nothing(store, arguments, match):
    good = {"content_hash": CT, "sentence": NODULE, "verdict": "accept"}
    with pytest.raises(AnnotationError, match=match):
        store.record(**good | arguments)
    assert store.cases() == ()


def test_evidence_must_be_finite():
    with pytest.raises(AnnotationError, match="not finite"):
        Evidence("e", "", (0.0, float("nan"), 0.0), 0.1, 0.2, 0.3)


def test_evidence_is_taken_from_a_grounding(store):
    import numpy as np

    grid = Grid((1, 1, 1), np.eye(4))
    none = np.zeros((1, 1, 1), np.float32)
    heat = HeatMap(none, none, grid, none)
    grounding = SentenceGrounding(3, NODULE[1], heat, (1.0, 2.0, 3.0), np.float32(0.5), np.float32(0.25), 0.75)
    store.record(CT, NODULE, "accept", evidence=describe_evidence(grounding, "bundled", "v1"))
    assert store.for_case(CT)[0].evidence == Evidence("bundled", "v1", (1.0, 2.0, 3.0), 0.5, 0.25, 0.75)


def test_a_blank_author_is_anonymous(store):
    assert store.record(CT, NODULE, "accept", author="  ").author == "anonymous"


def test_cases_are_listed_with_counts_latest_first(store):
    import numpy as np

    store.record(CT, NODULE, "accept")
    store.record(CT, HEART, "accept")
    store.record(OTHER_CT, HEART, "reject")
    store.describe_case(CT, "Phantom", Grid((4, 5, 6), np.diag([1.0, 2.0, 3.0, 1.0])))
    latest, older = store.cases()
    assert (latest.content_hash, latest.annotations, latest.title) == (OTHER_CT, 1, "")
    assert (older.content_hash, older.annotations, older.title) == (CT, 2, "Phantom")
    np.testing.assert_array_equal(store.case_grid(CT).affine, np.diag([1.0, 2.0, 3.0, 1.0]))
    assert store.case_grid(OTHER_CT) is None


def test_two_open_stores_see_each_others_changes(store, url):
    other = AnnotationStore(url)
    store.record(CT, NODULE, "accept", author="a")
    other.record(CT, NODULE, "reject", author="b")
    assert verdicts(store) == verdicts(other) == {(NODULE[1], "a"): "accept", (NODULE[1], "b"): "reject"}
    assert other.undo(CT, "a") is not None
    assert verdicts(store) == {(NODULE[1], "b"): "reject"}
    other.close()


def write_many(url, author):
    opened = AnnotationStore(url)
    for number in range(1, 26):
        opened.record(CT, (number, f"Sentence {number}."), "accept", author=author)
    opened.close()


def test_processes_that_write_at_once_lose_nothing(url):
    """Both also create the database, so the first opening is raced too."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(url, name)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    store = AnnotationStore(url, create=False)
    assert len(store.for_case(CT)) == len(store.history(CT)) == 50
    store.close()


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("nonsense", "not a database URL"),
        ("", "not a database URL"),
        ("/tmp/file.sqlite", "not a database URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("oracle9://user:secret@host/db", "Cannot use the database"),
    ],
)
def test_wrong_urls_are_explained(url, match):
    with pytest.raises(AnnotationError, match=match) as caught:
        AnnotationStore(url)
    assert "secret" not in str(caught.value)


def test_an_absent_file_is_not_made_when_it_must_exist(tmp_path):
    with pytest.raises(AnnotationError, match="does not exist"):
        AnnotationStore(f"sqlite:///{tmp_path}/none.sqlite", create=False)
    with pytest.raises(AnnotationError, match="is a folder"):
        AnnotationStore(f"sqlite:///{tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_database_are_refused_unchanged(tmp_path):
    path = tmp_path / "notes.sqlite"
    path.write_bytes(b"this is a text file, not a database" * 100)
    with pytest.raises(AnnotationError, match="not a database"):
        AnnotationStore(f"sqlite:///{path}")
    assert path.read_bytes().startswith(b"this is a text file")


def test_a_database_that_breaks_while_in_use_is_explained(store, url):
    for number in range(1, 40):
        store.record(CT, (number, f"Sentence {number}."), "accept", "note " * 200)
    store.close()
    path = url.removeprefix("sqlite:///")
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 200_000)
    with pytest.raises(AnnotationError, match="cannot be used"):
        list(AnnotationStore(url).for_case(CT))


def test_a_locked_database_is_explained(store, url, monkeypatch):
    monkeypatch.setattr("core.annotation.database.BUSY_SECONDS", 0.1)
    impatient = AnnotationStore(url)
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(AnnotationError, match="locked.*try again"):
        impatient.record(CT, NODULE, "accept")
    holder.execute("ROLLBACK")
    assert impatient.record(CT, NODULE, "accept").verdict == "accept"
    holder.close()
    impatient.close()


def test_a_database_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE invoices (id INTEGER)")
    other.close()
    with pytest.raises(AnnotationError, match="invoices"):
        AnnotationStore(f"sqlite:///{path}")


def test_a_database_of_a_newer_program_is_refused(store, url):
    store.close()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("INSERT INTO schema_version VALUES (99, 'later', 'now')")
    connection.close()
    with pytest.raises(AnnotationError, match="version 99"):
        AnnotationStore(url)


VERSION_1 = """
CREATE TABLE schema_version (version INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL, applied_utc VARCHAR(40) NOT NULL);
INSERT INTO schema_version VALUES (1, 'created', '2026-01-01T00:00:00+00:00');
CREATE TABLE annotated_case (content_hash VARCHAR(128) PRIMARY KEY, title VARCHAR(200) DEFAULT '' NOT NULL, grid TEXT,
    created_utc VARCHAR(40) NOT NULL);
CREATE TABLE annotation (id INTEGER PRIMARY KEY, content_hash VARCHAR(128) NOT NULL, sentence_key VARCHAR(64) NOT NULL,
    sentence_index INTEGER NOT NULL, sentence_text TEXT NOT NULL, author VARCHAR(100) NOT NULL,
    verdict VARCHAR(20) NOT NULL, note TEXT NOT NULL,
    created_utc VARCHAR(40) NOT NULL, updated_utc VARCHAR(40) NOT NULL,
    UNIQUE (content_hash, sentence_key, author));
CREATE TABLE change (id INTEGER PRIMARY KEY, content_hash VARCHAR(128) NOT NULL, sentence_key VARCHAR(64) NOT NULL,
    author VARCHAR(100) NOT NULL, action VARCHAR(20) NOT NULL, at_utc VARCHAR(40) NOT NULL, before TEXT, after TEXT,
    undoes INTEGER);
CREATE INDEX ix_change_content_hash ON change (content_hash);
"""


def make_version_1(path):
    key = SentenceRef(*NODULE).key
    with sqlite3.connect(path) as old:
        old.executescript(VERSION_1)
        old.execute("INSERT INTO annotated_case VALUES (?, 'old', NULL, '2026-01-02')", (CT,))
        old.execute(
            "INSERT INTO annotation VALUES (1, ?, ?, 3, ?, 'a', 'reject', 'kept', '2026-01-02', '2026-01-02')",
            (CT, key, NODULE[1]),
        )
    old.close()


def columns_of(url):
    engine = sa.create_engine(url)
    inspector = sa.inspect(engine)
    found = {table: sorted(c["name"] for c in inspector.get_columns(table)) for table in inspector.get_table_names()}
    engine.dispose()
    return found


def test_a_version_1_database_is_brought_up_to_date_once_and_keeps_its_content(tmp_path):
    old = f"sqlite:///{tmp_path}/old.sqlite"
    make_version_1(tmp_path / "old.sqlite")
    for _ in range(2):
        store = AnnotationStore(old, create=False)
        (annotation,) = store.for_case(CT)
        assert (annotation.verdict, annotation.note, annotation.evidence) == ("reject", "kept", None)
        store.close()
    store = AnnotationStore(old)
    store.record(CT, NODULE, "accept", author="a", evidence=Evidence("bundled", "", (1.0, 2.0, 3.0), 0.1, 0.2, 0.3))
    store.undo(CT, "a")
    assert [a.verdict for a in store.for_case(CT)] == ["reject"]
    store.close()
    with sqlite3.connect(tmp_path / "old.sqlite") as connection:
        versions = connection.execute("SELECT version FROM schema_version ORDER BY version").fetchall()
    connection.close()
    assert versions == [(number,) for number in range(1, LATEST + 1)]


def test_migrated_and_new_databases_have_the_same_columns(tmp_path):
    make_version_1(tmp_path / "old.sqlite")
    for name in ("old", "new"):
        AnnotationStore(f"sqlite:///{tmp_path}/{name}.sqlite").close()
    assert columns_of(f"sqlite:///{tmp_path}/old.sqlite") == columns_of(f"sqlite:///{tmp_path}/new.sqlite")
    assert set(columns_of(f"sqlite:///{tmp_path}/new.sqlite")) == set(METADATA.tables)
