import pytest

from core.organ_map import ORGAN_MAPS
from core.report.regions import organs_of_path
from core.retrieval.table import ReportRow, read_table
from trainers.builders.files import OrganText, Triplet
from trainers.builders.rules import distil, organ_states, organ_texts, read_report, triplets

FVLM = ORGAN_MAPS["fvlm4"]
FINDINGS = (
    "Technique: the whole lung was scanned without contrast. Findings: Trachea and both main bronchi are open. "
    "There is a pleural effusion on the right. It reaches 3 cm. Calcified plaques are seen in the aorta and the "
    "coronary arteries. The heart is of normal size; there is no pericardial effusion. "
    "A nodule in the left lower lobe may be a metastasis. No esophageal wall thickening."
)
REPORT = ReportRow("s", FINDINGS, "Right pleural effusion. Coronary atherosclerosis.")


def test_sentences_go_to_every_organ_they_speak_of():
    texts = organ_texts(read_report(REPORT), FVLM)
    assert list(texts) == ["lung", "heart", "esophagus", "aorta"]
    assert texts["lung"].desc == (
        "Trachea and both main bronchi are open. There is a pleural effusion on the right. It reaches 3 cm. "
        "A nodule in the left lower lobe may be a metastasis."
    )
    assert texts["lung"].conc == "Right pleural effusion."
    assert texts["heart"] == OrganText(
        "Calcified plaques are seen in the aorta and the coronary arteries. The heart is of normal size. "
        "there is no pericardial effusion.",
        "Coronary atherosclerosis.",
    )
    assert texts["esophagus"] == OrganText("No esophageal wall thickening.", "")
    assert texts["aorta"].conc == ""


def test_paired_organs_are_one_and_sides_are_kept_apart_where_the_map_has_them():
    report = read_report(ReportRow("s", "A nodule in the left upper lobe. Emphysema in the right lung."))
    assert list(organ_texts(report, FVLM)) == ["lung"]
    assert list(organ_texts(report, ORGAN_MAPS["asap9"])) == [
        "lung_upper_lobe_left",
        "lung_upper_lobe_right",
        "lung_middle_lobe_right",
        "lung_lower_lobe_right",
    ]


def test_impression_rule_counts_mentions_and_stated_rule_counts_findings():
    report = read_report(REPORT)
    by_mention = {"lung": True, "heart": True, "esophagus": False, "aorta": False}
    assert organ_states(report, FVLM, "impression") == by_mention
    assert organ_states(report, FVLM, "stated") == by_mention | {"aorta": True}
    denied = read_report(ReportRow("s", "Lungs are clear.", "No pleural effusion."))
    assert organ_states(denied, FVLM, "impression")["lung"]  # fVLM's rule: mentioned there
    assert not organ_states(denied, FVLM, "stated")["lung"]


@pytest.mark.parametrize("impression", ["", "Not given.", "not given", "N/A"])
def test_without_an_impression_its_rule_knows_nothing(impression):
    report = read_report(ReportRow("s", "There is emphysema.", impression))
    assert organ_states(report, FVLM, "impression") == {}
    assert organ_states(report, FVLM, "stated")["lung"]


def test_triplets_carry_region_existence_and_sentence():
    rows = triplets(read_report(REPORT))
    assert Triplet("lung/right lung/right pleura", "Pleural effusion", 1, 3) in rows
    assert Triplet("mediastinum/aorta", "Arterial wall calcification", 1, 5) in rows
    assert Triplet("heart/coronary arteries", "Coronary artery wall calcification", 1, 5) in rows
    assert Triplet("heart/pericardium", "Pericardial effusion", 0, 7) in rows
    assert Triplet("lung/left lung/left lower lobe", "Lung nodule", 1, 8) in rows
    assert Triplet("lung/left lung/left lower lobe", "metastasis", -1, 8) in rows
    assert Triplet("lung/right lung/right pleura", "Pleural effusion", 1, 10) in rows  # first of the impression
    assert len(set(rows)) == len(rows)


def test_a_finding_without_a_side_has_one_region():
    assert triplets(read_report(ReportRow("s", "No pleural effusion. Renal stones. Something is cystic."))) == [
        Triplet("lung/pleura", "Pleural effusion", 0, 1),
        Triplet("abdomen/kidney", "kidney stone", 1, 2),
        Triplet("", "cyst", 1, 3),
    ]


def test_both_sides_are_two_regions():
    rows = triplets(read_report(ReportRow("s", "Bilateral pleural effusion.")))
    assert [row.region_path for row in rows] == ["lung/left lung/left pleura", "lung/right lung/right pleura"]


def test_one_statement_per_finding_and_presence_wins():
    text = "No nodule in the right lung. A nodule in the left lung. Possible pneumonia. No pneumonia in the right lung."
    rows = triplets(read_report(ReportRow("s", text)))
    assert distil(rows) == "There is lung nodule. There may be pneumonia."
    assert distil(rows, lambda finding: "pneumonia" in finding) == "There may be pneumonia."
    assert distil([]) == ""


def test_report_without_words_says_nothing():
    report = read_report(ReportRow("s", "...", "-"))
    assert (organ_texts(report, FVLM), triplets(report)) == ({}, [])


def test_rules_on_real_reports_agree_with_their_labels(shared):
    """Readers of 151 public reports set 18 labels; aggregate numbers only."""
    path = shared / "data" / "reports" / "chest_ct_reports_18_labels.csv"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    organs, agreed, told, known = ORGAN_MAPS["fvlm4"], 0, 0, 0
    for row in read_table(path).rows:
        report = read_report(row)
        rows = triplets(report)
        known += sum(bool(organs_of_path(one.region_path, ORGAN_MAPS["canonical"])) for one in rows)
        told += len(rows)
        present = {one.finding for one in rows if one.existence == 1}
        agreed += sum((label in present) == value for label, value in row.labels.items())
        texts = organ_texts(report, organs)
        assert set(organ_states(report, organs, "stated")) == set(organs.names)
        assert "lung" in texts
    assert agreed > 0.95 * 151 * 18
    assert known > 0.85 * told
