import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import trainers.builders.run as run
from core.errors import EngineError, ReportError
from core.models.tokens import train_wordpiece
from core.organ_map import ORGAN_MAPS, organ_map
from core.retrieval.table import ReportRow, read_table
from trainers.builders.__main__ import main
from trainers.builders.files import (
    ORGAN_STATE,
    ORGAN_TEXT,
    TRIPLETS,
    read_distilled,
    read_organ_state,
    read_organ_text,
    read_triplets,
)
from trainers.builders.journal import Entry, Journal
from trainers.builders.run import Problem, Workers, build_all
from trainers.crops import Crop
from trainers.organ_texts import OrganTextFields, OrganWords
from trainers.triplets import TripletFields

REPORTS = """study_id,findings,impression
a.nii.gz,"A nodule in the left lung. The heart is normal.",Nodule.
b,Hiatal hernia. No emphysema.,Not given.
"""


@pytest.fixture
def reports(tmp_path) -> Path:
    path = tmp_path / "reports.csv"
    path.write_text(REPORTS)
    return path


def call(capsys, *arguments: object) -> dict:
    """Run a command that must succeed and give its summary."""
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def test_every_kind_is_written_and_read(reports, tmp_path, capsys):
    made = {kind: tmp_path / kind for kind in ("organ-text", "organ-state", "triplets", "distill")}
    for kind, path in made.items():
        summary = call(capsys, kind, "--reports", reports, "--out", path)
        assert summary["studies"] == 2
        assert summary["backend"] == "rules"
    texts = read_organ_text(made["organ-text"])
    assert texts["a"]["lung"] == ("A nodule in the left lung.", "Nodule.")
    assert read_organ_state(made["organ-state"])["a"] == {
        "lung": True,
        "heart": False,
        "esophagus": False,
        "aorta": False,
    }
    assert [row.finding for row in read_triplets(made["triplets"])["b"]][-1] == "Emphysema"
    assert read_distilled(made["distill"]) == {
        "a": "There is lung nodule.",
        "b": "There is hiatal hernia. There is no emphysema.",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["reports.csv", *made])  # no journal is left


def test_organ_map_and_entities_come_from_files(reports, tmp_path, capsys):
    (tmp_path / "organs.json").write_text(organ_map({"chest": "lung heart"}).to_json())
    call(capsys, "organ-text", "--reports", reports, "--out", tmp_path / "o.json", "--organs", tmp_path / "organs.json")
    assert list(read_organ_text(tmp_path / "o.json")["a"]) == ["chest"]
    (tmp_path / "entities.txt").write_text("nodule\nhernia\n")
    call(capsys, "distill", "--reports", reports, "--out", tmp_path / "d.csv", "--entities", tmp_path / "entities.txt")
    assert read_distilled(tmp_path / "d.csv")["b"] == "There is hiatal hernia."


def test_statements_can_come_from_triplets(reports, tmp_path, capsys):
    header = "study_id,region_path,finding,existence,sentence_idx\n"
    (tmp_path / "t.csv").write_text(header + "a,lung,Emphysema,-1,\na,heart,effusion,0,\n")
    out = tmp_path / "d.csv"
    summary = call(capsys, "distill", "--reports", reports, "--out", out, "--triplets", tmp_path / "t.csv")
    assert read_distilled(out) == {"a": "There may be emphysema. There is no effusion.", "b": ""}
    assert summary["problems"] == [{"study_id": "b", "reason": "t.csv says nothing of it"}]


def test_bad_rows_are_listed_and_do_not_stop_the_run(reports, tmp_path, capsys):
    with reports.open("a") as file:
        file.write('c,,\nb,again,\nd,"' + "\x01x" * 50 + '",\na,once more,\ne,Emphysema.,\n')
    summary = call(capsys, "organ-text", "--reports", reports, "--out", tmp_path / "o.json")
    assert list(read_organ_text(tmp_path / "o.json")) == ["a", "b", "e"]
    told = {problem["study_id"]: problem["reason"] for problem in summary["problems"]}
    assert set(told) == {"a", "b", "c", "d"}
    assert "line 4: the report is empty" in told["c"]
    assert "already used" in told["b"]
    assert "with or without .nii.gz" in told["a"]
    assert "control characters" in told["d"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["organ-text"], "reports"),
        (["organ-texts", "--reports", "REPORTS"], "organ-texts"),
        (["organ-text", "--reports", "none.csv"], "Cannot read none.csv"),
        (["organ-text", "--reports", "REPORTS", "--organs", "chest"], "No organ map 'chest'"),
        (["organ-text", "--reports", "REPORTS", "--out", "REPORTS"], "expected a file to write"),
        (["organ-state", "--reports", "REPORTS", "--rule", "guess"], "rule"),
        (["triplets", "--reports", "REPORTS", "--workers", "0"], "at least 1"),
        (["triplets", "--reports", "REPORTS", "--backend", "openai"], "needs --model"),
        (["triplets", "--reports", "REPORTS", "--backend", "openai", "--model", "m"], "needs --base-url"),
        (["distill", "--reports", "REPORTS", "--entities", "none.txt"], "Cannot read none.txt"),
        (["distill", "--reports", "REPORTS", "--triplets", "none.csv"], "builders triplets"),
    ],
)
def test_mistakes_end_with_one_line(arguments, message, reports, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = main([str(reports) if argument == "REPORTS" else argument for argument in arguments])
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert message in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["reports.csv"]


def test_from_the_shell(reports, tmp_path):
    command = [sys.executable, "-m", "trainers.builders", "triplets", "--reports", reports, "--out", tmp_path / "t.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["studies"] == 2


def rows_of(count: int) -> list[ReportRow]:
    return [ReportRow(f"s{number}", f"Text {number}.") for number in range(count)]


def echo(row: ReportRow) -> Entry:
    """A build that other processes can import."""
    if row.study_id == "s3":
        raise ReportError("it cannot be read")
    return Entry(row.findings.upper(), [])


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    asked = []

    def build(row: ReportRow) -> Entry:
        asked.append(row.study_id)
        if len(asked) == 4:
            raise EngineError("the server is gone")
        return Entry(row.findings, ["a doubt"] if row.study_id == "s0" else [])

    rows, out = rows_of(6), tmp_path / "out.json"
    with pytest.raises(EngineError):
        build_all(rows, build, Journal(out, "settings"), Workers("threads", 1))
    with Journal(out, "settings").path.open("a") as file:
        file.write('{"report": "cut by a ki')
    asked[:] = ["", "", "", ""]
    outcome = build_all(rows, build, Journal(out, "settings"), Workers("threads", 1))
    assert asked[4:] == ["s3", "s4", "s5"]
    assert outcome.values == {row.study_id: row.findings for row in rows}
    assert outcome.reused == 3
    assert outcome.problems == [Problem("s0", "a doubt")]
    rows[1] = ReportRow("s1", "Another text.")
    changed = build_all(rows, build, Journal(out, "settings"), Workers("threads", 1))
    assert changed.reused == 5
    assert changed.values["s1"] == "Another text."
    assert build_all(rows, build, Journal(out, "other settings"), Workers("threads", 1)).reused == 0


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_several_workers_give_the_same_in_the_same_order(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "FEW_REPORTS", 1)
    rows = rows_of(70)
    outcome = build_all(rows, echo, Journal(tmp_path / "out", ""), Workers(kind, 2))
    assert list(outcome.values) == [row.study_id for row in rows if row.study_id != "s3"]
    assert outcome.values["s69"] == "TEXT 69."
    assert outcome.problems == [Problem("s3", "it cannot be read")]


def test_a_table_that_only_fails_is_given_up(tmp_path):
    asked = []

    def build(row: ReportRow) -> Entry:
        asked.append(row)
        raise ReportError("the server cannot use it")

    with pytest.raises(Exception, match="first 20 reports all failed; the first: the server cannot use it"):
        build_all(rows_of(100), build, Journal(tmp_path / "out", ""), Workers("threads", 1))
    assert len(asked) == 20


def test_recipes_read_what_is_built(reports, tmp_path, capsys):
    for kind, name in (("organ-text", ORGAN_TEXT), ("organ-state", ORGAN_STATE), ("triplets", TRIPLETS)):
        call(capsys, kind, "--reports", reports, "--out", tmp_path / name)
    rows = {row.study_id: row for row in read_table(reports).rows}
    words = OrganWords(train_wordpiece([REPORTS], 100), 16)
    organ_texts = OrganTextFields(tmp_path, ORGAN_MAPS["fvlm4"], words, with_states=True)
    triplets = TripletFields(tmp_path, rows, ("Lung nodule", "Hiatal hernia", "Emphysema"), ORGAN_MAPS["asg"])
    rng = np.random.default_rng(0)
    for source in (organ_texts, triplets):
        source.check(list(rows))
    crop = Crop("a.nii.gz", np.zeros((1, 1, 1), np.int16), None, is_mirrored=False)
    assert organ_texts.make(crop, rng)["organ_abnormal"].tolist() == [1, 0, 0, 0]
    assert [bool(statement.is_abnormal) for statement in organ_texts.statements("b")] == [False] * 4
    made = triplets.make(crop._replace(study_id="b"), rng)
    assert made["tags"].tolist() == [0, 1, -1]
    about = made["sent_organ"].numpy()
    assert {ORGAN_MAPS["asg"].names[organ] for organ in np.flatnonzero(about[0])} == {"esophagus", "stomach"}
