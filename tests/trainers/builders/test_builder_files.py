import json

import pytest

from core.errors import ConfigError
from core.organ_map import ORGAN_MAPS, organ_map
from trainers.builders.files import (
    OrganText,
    Triplet,
    distilled_to_csv,
    entry_of,
    organ_state_to_json,
    organ_text_to_json,
    read_distilled,
    read_organ_state,
    read_organ_text,
    read_triplets,
    require_organs,
    require_studies,
    triplets_to_csv,
)

HEADER = "study_id,region_path,finding,existence,sentence_idx\n"
TEXTS = {"a": {"lung": OrganText('A nodule, "small".', "Nodule."), "heart": OrganText("", "Größe normal.")}, "b": {}}
STATES = {"a": {"lung": True, "heart": False}, "b": {}}
TRIPLETS = {
    "a": [Triplet("lung/left lung", "Lung nodule", 1, 3), Triplet("", "Emphysema", -1, 0)],
    "b": [Triplet("lung/left lung", "Lung nodule", 0, 1)],
}
DISTILLED = {"a": 'There is no "x", or so.', "b": ""}


@pytest.mark.parametrize(
    ("write", "read", "content"),
    [
        (organ_text_to_json, read_organ_text, TEXTS),
        (organ_state_to_json, read_organ_state, STATES),
        (triplets_to_csv, read_triplets, TRIPLETS),
        (distilled_to_csv, read_distilled, DISTILLED),
    ],
)
def test_what_is_written_is_read_again(write, read, content, tmp_path):
    (tmp_path / "file").write_text(write(content), encoding="utf-8")
    assert read(tmp_path / "file") == content


def test_published_spellings_of_a_study_are_the_same_study(tmp_path):
    (tmp_path / "t.csv").write_text("\ufeff" + HEADER + "train_1_a_1.nii.gz,lung,Emphysema,1,\n\n")
    table = read_triplets(tmp_path / "t.csv")
    assert list(table) == ["train_1_a_1"]
    assert entry_of(table, "train_1_a_1.nii.gz") == entry_of(table, "train_1_a_1") == table["train_1_a_1"]
    assert entry_of(table, "train_1_a_2") is None
    assert entry_of({"train_1_a": 5}, "train_1_a_2.nii.gz") == 5
    assert entry_of({"case": 5}, "case_2") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study_id,finding\n", "lacks 'region_path', 'existence', 'sentence_idx'.*builders triplets"),
        ("study_id,region_path,finding,existence,sentence_idx,side\n", "does not know 'side'"),
        ("study_id,region_path,finding,existence,sentence_idx,finding\n", "repeats 'finding'"),
        ("", "lacks 'study_id'"),
        (HEADER + "a,lung,Emphysema,2,1\n", "line 2: existence is '2'"),
        (HEADER + "a,lung,Emphysema,1,first\n", "sentence_idx 'first'"),
        (HEADER + "a,lung,,1,1\n", "finding ''"),
        (HEADER + ",lung,Emphysema,1,1\n", "line 2: the study id '' is empty"),
        (HEADER + "a,lung,Emphysema,1\n", "line 2: 4 cells, but the header names 5"),
        (HEADER + "a,lung,Emphysema,1,1\na,lung,Emphysema,0,1\n", "line 3 repeats"),
        (HEADER + 'a,"lung,Emphysema,1,1\n', "unexpected end"),
    ],
)
def test_wrong_tables_are_refused_with_their_place(text, message, tmp_path):
    (tmp_path / "triplets.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_triplets(tmp_path / "triplets.csv")


@pytest.mark.parametrize(
    ("read", "told", "message"),
    [
        (read_organ_text, {"a": {"lung": "text"}}, 'a, lung is not {"desc": text.*import-fvlm'),
        (read_organ_text, {"a": {"lung": {"desc": "x"}}}, "a, lung is not"),
        (read_organ_text, {"a": {"lung": {"desc": "x", "conc": None}}}, "a, lung is not"),
        (read_organ_text, ["a"], "not {study: {organ"),
        (read_organ_text, {"a": {}, "a.nii.gz": {}}, "with and without"),
        (read_organ_state, {"a": {"lung": "bad"}}, 'a, lung is \'bad\'; expected "normal" or "abnormal"'),
        (read_organ_state, {"a": "normal"}, "Make it: python -m trainers.builders organ-state"),
    ],
)
def test_wrong_json_is_refused_with_the_study(read, told, message, tmp_path):
    (tmp_path / "file.json").write_text(json.dumps(told))
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "file.json")


def test_unreadable_files_name_their_builder(tmp_path):
    with pytest.raises(ConfigError, match="No such file.*builders distill"):
        read_distilled(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("study_id,text\na,größer\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_distilled(tmp_path / "latin.csv")
    (tmp_path / "twice.json").write_text('{"a": {}, "a": {}}')
    with pytest.raises(ConfigError, match="'a' occurs twice"):
        read_organ_text(tmp_path / "twice.json")
    (tmp_path / "twice.csv").write_text("study_id,text\na,x\na.nii.gz,y\n")
    with pytest.raises(ConfigError, match="line 3: study a has a row already"):
        read_distilled(tmp_path / "twice.csv")


def test_missing_studies_and_organs_are_refused_with_the_command(tmp_path):
    path = tmp_path / "organ_text.json"
    require_studies(TEXTS, ["a.nii.gz", "b"], path, "make it")
    with pytest.raises(ConfigError, match=r"lacks 1 of 2 studies \(first: c\).*make it"):
        require_studies(TEXTS, ["a", "c"], path, "make it")
    require_organs(TEXTS, ORGAN_MAPS["fvlm4"], path, "make it")
    with pytest.raises(ConfigError, match="says nothing of lung_upper_lobe_left.*it has heart, lung"):
        require_organs(TEXTS, organ_map({"lung_upper_lobe_left": "lung_upper_lobe_left"}), path, "make it")
