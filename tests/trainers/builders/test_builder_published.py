import json

import pytest

from core.errors import ConfigError
from core.organ_map import ORGAN_MAPS
from core.retrieval.table import ReportRow
from trainers.builders.__main__ import main
from trainers.builders.files import OrganText, Triplet, read_organ_text, read_triplets
from trainers.builders.published import import_fvlm, import_presence, import_regions
from trainers.builders.run import Problem

PRESENCE = """Volumename,Anatomy,Question,Finding,Presence
train_1_a_1.nii.gz,lung,Is there?,nodule,Yes.
train_1_a_1.nii.gz,lung/lung/left lung,Is there?,nodule,Yes.
train_1_a_1.nii.gz,lung/lung/right lung,Is there?,nodule,No.
train_1_a_1.nii.gz,pleura/pleura,Is there?,"pleural effusion, thickening",No.
train_1_a_1.nii.gz,pleura/pleura,Is there?,thickening,Yes.
train_1_a_1.nii.gz,heart,Is there?,,Yes.
train_1_a_1.nii.gz,heart,Is there?,effusion,Maybe
train_2_a_1.nii.gz,,Is there?,mass,No.
"""
REPORT = ReportRow(
    "train_1_a_1", "The heart is normal. A nodule in the left lung. No nodule in the liver.", "No effusion."
)


def test_presence_becomes_triplets(tmp_path):
    (tmp_path / "vqa_presence.csv").write_text(PRESENCE)
    told = import_presence(tmp_path / "vqa_presence.csv", {})
    assert told.values == {
        "train_1_a_1": [
            Triplet("lung/left lung", "nodule", 1, 0),  # the row for both lungs says the same of a larger region
            Triplet("lung/right lung", "nodule", 0, 0),
            Triplet("pleura", "pleural effusion", 0, 0),
            Triplet("pleura", "thickening", 1, 0),  # yes and no: yes
        ],
        "train_2_a_1": [Triplet("", "mass", 0, 0)],
    }
    assert [problem.study_id for problem in told.problems] == ["train_1_a_1"] * 2
    assert "line 8: 'Maybe'; expected Yes or No" in told.problems[1].reason


def test_sentences_are_looked_up_in_the_reports(tmp_path):
    (tmp_path / "p.csv").write_text(PRESENCE)
    told = import_presence(tmp_path / "p.csv", {REPORT.study_id: REPORT}).values["train_1_a_1"]
    assert [triplet.sentence_idx for triplet in told] == [2, 2, 0, 0]  # the lung's nodule, not the liver's
    one = REPORT.__class__("train_1_a_1", "The heart is normal.", "There is no pleural effusion.")
    told = import_presence(tmp_path / "p.csv", {one.study_id: one}).values["train_1_a_1"]
    assert [triplet.sentence_idx for triplet in told] == [0, 0, 2, 0]


def test_regions_become_organ_texts(tmp_path):
    (tmp_path / "region_report.csv").write_text(
        "Volumename,Anatomy,Sentence\n"
        "v_1_a_1.nii.gz,,The whole report.\n"
        "v_1_a_1.nii.gz,lung,Both lungs are clear.\n"
        "v_1_a_1.nii.gz,lung/lung/left lung,Both lungs are clear.\n"
        "v_1_a_1.nii.gz,pleura/pleura,No effusion.\n"
        "v_1_a_1.nii.gz,mediastinum/aorta,\n"
        "v_1_a_1.nii.gz,thyroid,Normal thyroid.\n"
    )
    told = import_regions(tmp_path / "region_report.csv", ORGAN_MAPS["fvlm4"])
    assert told.values == {"v_1_a_1": {"lung": OrganText("Both lungs are clear. No effusion.", "")}}


def test_the_two_files_of_fvlm_are_joined(tmp_path):
    desc = {"train_1_a": {"lung": " Clear. ", "heart": "Normal."}, "train_2_a": {"aorta": "Wide."}}
    conc = {"train_1_a": {"lung": "Nodule.", "liver": None}, "train_3_a": {}}
    for name, content in (("desc", desc), ("conc", conc)):
        (tmp_path / f"{name}_info.json").write_text(json.dumps(content))
    told = import_fvlm(tmp_path / "desc_info.json", tmp_path / "conc_info.json")
    assert told.values == {
        "train_1_a": {"lung": OrganText("Clear.", "Nodule."), "heart": OrganText("Normal.", "")},
        "train_2_a": {"aorta": OrganText("Wide.", "")},
        "train_3_a": {},
    }
    assert told.problems == [Problem("train_1_a", "conc_info.json: liver is NoneType, not text")]


@pytest.mark.parametrize("content", ["[]", '{"train_1_a": "text"}', "no JSON", '{"a": {}, "a": {}}'])
def test_other_json_is_refused_with_what_was_expected(content, tmp_path):
    (tmp_path / "desc.json").write_text(content)
    with pytest.raises(ConfigError, match="Expected fVLM's"):
        import_fvlm(tmp_path / "desc.json", tmp_path / "desc.json")


def test_other_tables_are_refused(tmp_path):
    (tmp_path / "p.csv").write_text("Volumename,Anatomy,Presence\n")
    with pytest.raises(ConfigError, match="lacks 'Finding'"):
        import_presence(tmp_path / "p.csv", {})


def test_imports_from_the_command_line(tmp_path, capsys):
    (tmp_path / "p.csv").write_text(PRESENCE)
    (tmp_path / "r.csv").write_text(f'study_id,findings,impression\n{REPORT.study_id}.nii.gz,"{REPORT.findings}",\n')
    (tmp_path / "f.json").write_text('{"train_1_a": {"lung": "Clear."}}')
    presence = ["import-presence", "--presence", tmp_path / "p.csv", "--reports", tmp_path / "r.csv"]
    fvlm = ["import-fvlm", "--desc", tmp_path / "f.json", "--conc", tmp_path / "f.json"]
    for command, out in ((presence, tmp_path / "t.csv"), (fvlm, tmp_path / "o.json")):
        assert main([str(argument) for argument in [*command, "--out", out]]) == 0
        assert json.loads(capsys.readouterr().out)["out"] == str(out)
    assert read_triplets(tmp_path / "t.csv")["train_1_a_1"][0].sentence_idx == 2
    assert read_organ_text(tmp_path / "o.json")["train_1_a"]["lung"] == ("Clear.", "Clear.")
