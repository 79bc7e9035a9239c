"""What a report says: findings, existence, organs, side, size, labels. All sentences are written for this test."""

import json

import pytest

from core.errors import ReportError
from core.findings import CT_RATE_LABELS
from core.report.parse import MAX_CHARACTERS, parse_report, report_to_json
from core.structures import parts_of

PHRASES = {
    "Medical material": ["central venous catheter", "pacemaker", "coronary stent"],
    "Arterial wall calcification": ["calcified plaque in the aorta", "aortic wall calcification", "atherosclerosis"],
    "Cardiomegaly": ["cardiomegaly", "enlargement of the heart"],
    "Pericardial effusion": ["pericardial effusion", "fluid in the pericardial space"],
    "Coronary artery wall calcification": [
        "coronary artery calcification",
        "calcified plaque in the coronary arteries",
    ],
    "Hiatal hernia": ["hiatal hernia", "sliding hiatus hernia"],
    "Lymphadenopathy": ["mediastinal lymphadenopathy", "enlarged hilar lymph node"],
    "Emphysema": ["emphysema", "centrilobular emphysema", "emphysematous change"],
    "Atelectasis": ["atelectasis", "subsegmental atelectasis in the left lower lobe"],
    "Lung nodule": ["nodule in the left lower lobe", "pulmonary nodule", "micronodule"],
    "Lung opacity": ["ground-glass opacity", "ground glass density in the right lung", "infiltrate"],
    "Pulmonary fibrotic sequela": ["fibrotic band", "sequela change in the apex", "scarring"],
    "Pleural effusion": ["pleural effusion", "fluid in the left pleural space", "hemothorax"],
    "Mosaic attenuation pattern": ["mosaic attenuation", "mosaic perfusion pattern"],
    "Peribronchial thickening": ["peribronchial thickening", "bronchial wall thickening"],
    "Consolidation": ["consolidation", "airspace consolidation in the right upper lobe"],
    "Bronchiectasis": ["bronchiectasis", "traction bronchiectasis", "bronchial dilatation"],
    "Interlobular septal thickening": ["interlobular septal thickening", "thickening of the interlobular septa"],
}
CASES = [(label, phrase) for label, phrases in PHRASES.items() for phrase in phrases]
FRAMES = {
    "present": ["There is {}.", "{} is seen.", "Findings: {}", "Stable {}.", "There is no change in the {}."],
    "absent": [
        "There is no {}.",
        "No evidence of {}.",
        "{} was not detected.",
        "Without {}.",
        "No mass or {} is seen.",
    ],
    "uncertain": ["Possible {}.", "{} cannot be excluded.", "There may be {}.", "Suspicious for {}."],
}


def only_sentence(text):
    (sentence,) = parse_report(text).sentences
    return sentence


def existence_of(text, finding):
    return {m.existence for s in parse_report(text).sentences for m in s.mentions if m.finding == finding}


def test_every_label_is_covered():
    assert set(PHRASES) == set(CT_RATE_LABELS)


@pytest.mark.parametrize("existence", FRAMES)
@pytest.mark.parametrize(("label", "phrase"), CASES)
def test_each_label_present_absent_and_uncertain(label, phrase, existence):
    for frame in FRAMES[existence]:
        report = frame.format(phrase)
        assert existence_of(report, label) == {existence}, report
        assert parse_report(report).labels18[label] == (existence == "present"), report


@pytest.mark.parametrize(
    ("report", "finding", "existence"),
    [
        ("No effusion, consolidation or pneumothorax.", "pneumothorax", "absent"),
        ("No effusion, consolidation or pneumothorax.", "Consolidation", "absent"),
        ("No effusion, but a small nodule is seen.", "Lung nodule", "present"),
        ("No effusion; a nodule is seen.", "Lung nodule", "present"),
        ("There is no effusion and a nodule is present.", "Lung nodule", "present"),
        ("No effusion, a nodule in the left lung.", "Lung nodule", "present"),
        ("The nodule was not seen in the previous examination.", "Lung nodule", "present"),
        ("The previously seen nodule is no longer present.", "Lung nodule", "absent"),
        ("The effusion has resolved.", "Pleural effusion", "absent"),
        ("The effusion has not resolved.", "Pleural effusion", "present"),
        ("No other nodule is seen.", "Lung nodule", "absent"),
        ("Apart from the nodule, no effusion was detected.", "Lung nodule", "present"),
        ("Apart from the nodule, no effusion was detected.", "Pleural effusion", "absent"),
        ("No abnormality except for a small nodule.", "Lung nodule", "present"),
        ("No increase in the size of the nodule.", "Lung nodule", "present"),
        ("The nodule is not enlarged.", "Lung nodule", "present"),
        ("The heart is not enlarged.", "Cardiomegaly", "absent"),
        ("The heart is mildly enlarged.", "Cardiomegaly", "present"),
        ("Heart size is within normal limits.", "Cardiomegaly", None),
        ("Lymph nodes are normal in size.", "Lymphadenopathy", "absent"),
        ("The lungs are free of consolidation.", "Consolidation", "absent"),
        ("Pleural and pericardial effusion were not observed.", "Pleural effusion", "absent"),
        ("Pleural and pericardial effusion were not observed.", "Pericardial effusion", "absent"),
        ("Pneumonia? Clinical correlation.", "pneumonia", "uncertain"),
        ("Nodule suspicious for metastasis.", "Lung nodule", "present"),
        ("Nodule suspicious for metastasis.", "metastasis", "uncertain"),
        ("The examination was performed without contrast; a nodule is seen.", "Lung nodule", "present"),
        ("Not only a nodule but also an effusion is seen.", "Lung nodule", "present"),
        ("Neither nodule nor effusion.", "Pleural effusion", "absent"),
        ("The effusion is not absent.", "Pleural effusion", "present"),
        ("Calcified plaques in the aorta and coronary arteries.", "Arterial wall calcification", "present"),
        ("Calcified plaques in the aorta and coronary arteries.", "Coronary artery wall calcification", "present"),
        ("Calcified plaques in the coronary arteries.", "Arterial wall calcification", None),
        ("A calcified nodule in the lung.", "calcification", None),
        ("Calcified plaques in the pleura.", "Arterial wall calcification", None),
        ("Calcified plaques in the pleura.", "pleural calcification", "present"),
        ("Non-specific ground-glass opacity in the left lung.", "Lung opacity", "present"),
        ("The heart is larger than normal.", "Cardiomegaly", "present"),
        ("No decrease in density suggesting steatosis.", "hepatic steatosis", "absent"),
        (
            "It is clear that the nodules seen last year and thought to be scars have disappeared.",
            "Lung nodule",
            "absent",
        ),
        ("The nodule was not there in the 2019 scan.", "Lung nodule", "present"),
        ("An effusion is seen on the left and was not found in the previous scan.", "Pleural effusion", "present"),
        ("Consolidation, which was taken for atelectasis, is seen.", "Consolidation", "present"),
        ("Consolidation has nearly resolved.", "Consolidation", "present"),
        ("A nodule cannot be seen.", "Lung nodule", "absent"),
        ("Pneumothorax is not excluded.", "pneumothorax", "uncertain"),
        ("Air cyst in the right lung.", "Emphysema", None),
        ("Subpleural lymph node on the fissure.", "Lymphadenopathy", None),
    ],
)
def test_scope(report, finding, existence):
    assert existence_of(report, finding) == ({existence} if existence else set())


@pytest.mark.parametrize(
    ("report", "finding", "organs", "laterality"),
    [
        ("Nodule in the superior segment of the right lower lobe.", "Lung nodule", ["lung_lower_lobe_right"], "right"),
        ("Nodule in the posterobasal segment of the left lower lobe.", "Lung nodule", ["lung_lower_lobe_left"], "left"),
        ("Lower lobe nodule of the left lung.", "Lung nodule", ["lung_lower_lobe_left"], "left"),
        ("Right lung upper lobe nodule.", "Lung nodule", ["lung_upper_lobe_right"], "right"),
        ("Nodule in the middle lobe.", "Lung nodule", ["lung_middle_lobe_right"], "right"),
        ("Consolidation in the lingula.", "Consolidation", ["lung_upper_lobe_left"], "left"),
        ("A nodule in the LLL.", "Lung nodule", ["lung_lower_lobe_left"], "left"),
        ("Small right pleural effusion.", "Pleural effusion", ["pleura_right", "lung_right"], "right"),
        ("Effusion on the left.", "Pleural effusion", ["pleura_left", "lung_left"], "left"),
        (
            "Bilateral pleural effusion.",
            "Pleural effusion",
            ["pleura_left", "pleura_right", "lung_left", "lung_right"],
            "bilateral",
        ),
        ("Cardiomegaly.", "Cardiomegaly", ["heart"], ""),
        ("Hiatal hernia.", "Hiatal hernia", ["esophagus", "stomach"], ""),
        ("Emphysema in both lungs.", "Emphysema", ["lung_left", "lung_right"], "bilateral"),
        (
            "Consolidation in the right upper and left lower lobes.",
            "Consolidation",
            ["lung_upper_lobe_right", "lung_lower_lobe_left"],
            "bilateral",
        ),
        (
            "Atelectasis in the lower lobes of both lungs.",
            "Atelectasis",
            ["lung_lower_lobe_left", "lung_lower_lobe_right"],
            "bilateral",
        ),
        ("Fracture of the left 9th rib.", "fracture", ["rib_left_9"], "left"),
        ("Fracture of the third rib on the right.", "fracture", ["rib_right_3"], "right"),
        ("Compression fracture of the T7 vertebra.", "vertebral height loss", ["vertebrae_T7"], ""),
        ("Nodule in the right lung adjacent to the aorta.", "Lung nodule", ["lung_right"], "right"),
        ("Fractures of the right 5th and 6th ribs.", "fracture", ["rib_right_5", "rib_right_6"], "right"),
        ("No focal consolidation, pleural effusion or mass.", "Consolidation", ["lung_left", "lung_right"], ""),
        ("A cyst in the right kidney.", "renal cyst", ["kidney_right"], "right"),
        ("Nodule in the left adrenal gland.", "adrenal nodule", ["adrenal_gland_left"], "left"),
        ("A nodule in the right lobe of the thyroid.", "thyroid nodule", ["thyroid_gland"], "right"),
        ("Hypodense lesion in the left lobe of the liver.", "liver lesion", ["liver"], ""),
    ],
)
def test_place(report, finding, organs, laterality):
    (mention,) = [m for m in only_sentence(report).mentions if m.finding == finding]
    assert sorted(mention.organs) == sorted(organs)
    assert mention.laterality == laterality


def test_each_finding_keeps_its_own_place():
    report = "There is a nodule in the left upper lobe and an effusion on the right."
    nodule, effusion = only_sentence(report).mentions
    assert nodule.organs == ("lung_upper_lobe_left",)
    assert effusion.organs == ("pleura_right", "lung_right")
    nodule, mass = only_sentence("Right lower lobe nodule and left upper lobe mass.").mentions
    assert (nodule.laterality, mass.laterality) == ("right", "left")


def test_an_exception_is_present_on_its_own():
    absent, present = only_sentence("No enlarged lymph nodes, except for a 12 mm node in the right hilum.").mentions
    assert (absent.existence, present.existence, present.size_mm) == ("absent", "present", 12.0)


def test_sides_of_one_finding_are_told_apart():
    report = "There is no effusion on the left, but a moderate effusion is seen on the right."
    left, right = only_sentence(report).mentions
    assert (left.existence, left.laterality) == ("absent", "left")
    assert (right.existence, right.organs) == ("present", ("pleura_right", "lung_right"))


def test_list_of_findings_shares_the_place_that_follows():
    mentions = only_sentence("Consolidation and ground-glass opacity in the right lower lobe.").mentions
    assert {m.organs for m in mentions} == {("lung_lower_lobe_right",)}


@pytest.mark.parametrize(
    ("report", "sizes_mm"),
    [
        ("A 12 x 9 mm nodule.", (12.0, 9.0)),
        ("A nodule of 1.2 cm.", (12.0,)),
        ("A nodule of 1,5 cm.", (15.0,)),
        ("A 1.2x0.8 cm nodule.", (12.0, 8.0)),
        ("A nodule measuring 1 cm x 8 mm.", (10.0, 8.0)),
        ("A 12-mm nodule.", (12.0,)),
        ("Nodules of 3-5 mm.", (3.0, 5.0)),
        ("Nodules of 3 to 5 mm.", (3.0, 5.0)),
        ("A nodule of 5 millimetres.", (5.0,)),
        ("A sub-centimetre nodule.", ()),
        ("A nodule (series 2, image 45).", ()),
        ("A nodule of 40 HU and 300 mm3.", ()),
        ("Slice thickness 5 mm; nodule.", ()),
        ("A nodule, 10×8×7 mm.", (10.0, 8.0, 7.0)),
    ],
)
def test_sizes(report, sizes_mm):
    mentions = [m for s in parse_report(report).sentences for m in s.mentions if m.finding == "Lung nodule"]
    assert mentions[0].sizes_mm == sizes_mm


def test_sizes_go_to_their_own_finding():
    effusion, nodule = only_sentence("Effusion of 20 mm on the left, nodule of 5 mm in the right lung.").mentions
    assert (effusion.size_mm, nodule.size_mm) == (20.0, 5.0)


def test_all_organs_are_structures():
    report = (
        " ".join(f"There is {phrase}." for _, phrase in CASES) + " Fracture of the 3rd rib. Bone lesion at T4 vertebra."
    )
    for sentence in parse_report(report).sentences:
        for name in (*sentence.organs, *(organ for m in sentence.mentions for organ in m.organs)):
            assert parts_of(name)


def test_indication_states_no_finding():
    parsed = parse_report("Indication: rule out pleural effusion.\nFindings: Clear lungs.")
    assert not any(parsed.labels18.values())
    assert parsed.sentences[0].mentions == ()


def test_organs_without_a_finding():
    sentence = only_sentence("The aorta is normal.")
    assert sentence.organs == ("aorta",)
    assert sentence.existence == "absent"


def test_json_shape():
    document = report_to_json(parse_report("A 7 mm nodule in the left lower lobe. No effusion."))
    assert json.loads(json.dumps(document)) == document
    assert document["sentences"][0] == {
        "index": 1,
        "text": "A 7 mm nodule in the left lower lobe.",
        "findings": [
            {
                "finding": "Lung nodule",
                "existence": "present",
                "organs": ["lung_lower_lobe_left"],
                "laterality": "left",
                "size_mm": 7.0,
            }
        ],
    }
    assert document["sentences"][1]["findings"][0]["size_mm"] is None
    assert list(document["labels18"]) == list(CT_RATE_LABELS)


@pytest.mark.parametrize("bad", ["", "  \n ", "...", None, 5, b"text", "x" * (MAX_CHARACTERS + 1), "\x00\x01\x02" * 50])
def test_unusable_reports_are_refused(bad):
    with pytest.raises(ReportError):
        parse_report(bad)


@pytest.mark.parametrize(
    "hostile",
    [
        "no " * 60_000,
        "1x" * 90_000,
        "12 x " * 40_000,
        "heart " * 30_000,
        "right and " * 20_000,
        "a" * 199_999,
        "nodule " * 500,
    ],
)
def test_hostile_text_is_read_in_linear_time(hostile):
    assert parse_report(hostile).sentences
