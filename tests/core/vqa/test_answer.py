"""Questions end to end on a small chest of boxes with known millimetres, a report, and a heat map."""

import json
from dataclasses import replace

import numpy as np
import pytest

from core.anatomy.masks import OrganMasks
from core.anatomy.measure import measure_organs
from core.errors import EngineError, ReportError
from core.grounding.heatmap import HeatMap, SentenceGrounding
from core.grounding.presence import Judgement
from core.report.parse import parse_report
from core.retrieval.results import Hit
from core.structures import BY_NAME
from core.volume import Grid, Volume
from core.vqa.answer import CaseEvidence, Measurement, answer_question, describe_answer
from core.vqa.heart import measure_heart_width

SHAPE = (60, 40, 30)
AFFINE = np.array([[5.0, 0, 0, -150], [0, 4.0, 0, -80], [0, 0, 3.0, 10], [0, 0, 0, 1]])
BOXES = {  # structure -> voxel ranges (x, y, z); x grows to the patient's right
    "lung_lower_lobe_left": ((5, 20), (5, 35), (0, 15), -850),
    "lung_upper_lobe_left": ((5, 20), (5, 35), (15, 30), -850),
    "lung_lower_lobe_right": ((40, 58), (5, 35), (0, 15), -800),
    "lung_upper_lobe_right": ((40, 58), (5, 35), (15, 30), -800),
    "heart": ((21, 39), (10, 25), (2, 14), 40),
    "aorta": ((25, 28), (28, 32), (0, 30), 150),
}
LEFT_LOWER_MM = (-90.0, 0.0, 31.0)
RIGHT_LOWER_MM = (90.0, 0.0, 31.0)


def build_volume():
    hu = np.full(SHAPE, -1000, np.int16)
    labels = np.zeros(SHAPE, np.uint8)
    for name, (x, y, z, value) in BOXES.items():
        box = tuple(slice(*limits) for limits in (x, y, z))
        hu[box], labels[box] = value, BY_NAME[name].number
    volume = Volume.from_source(hu, AFFINE)
    missing = {"liver": "the scan ends above the diaphragm"}
    return volume, OrganMasks(labels, "boxes", missing)


def grounder(probability, peak_mm=LEFT_LOWER_MM, asked=None):
    """A heat map that always says the same, and notes what it was asked."""
    grid = Grid((2, 2, 2), np.diag([100.0, 100.0, 50.0, 1.0]))
    none = np.zeros((2, 2, 2), np.float32)
    empty = HeatMap(none, none, grid, none)

    def ground(sentence):
        if asked is not None:
            asked.append(sentence)
        return SentenceGrounding(1, sentence, empty, peak_mm, probability, 1 - probability, probability)

    return ground


def case_of(report=None, ground=None, masks=True, retrieved=()):
    volume, organs = build_volume()
    parsed = parse_report(report) if report else None
    if not masks:
        return CaseEvidence(parsed, ground=ground, retrieved=retrieved)
    return CaseEvidence(parsed, measure_organs(volume, organs), organs, volume.grid, ground, retrieved)


REPORT = (
    "There is a 12 x 9 mm nodule in the left lower lobe. Small right pleural effusion. No pneumothorax. "
    "The aorta is normal. Pneumonia cannot be excluded. No change in the nodule compared to the previous examination."
)


@pytest.mark.parametrize(
    ("support", "words"),
    [
        ("supported", "The heat map agrees"),
        ("no support", "does not support it"),
        ("cannot tell", "The heat map cannot tell"),
    ],
)
def test_a_verdict_with_a_known_error_rate_counts_and_not_the_bare_chance(support, words):
    def ground(sentence):
        return replace(grounder(0.9)(sentence), judgement=Judgement(support, 0.9, "measured"))

    answer = answer_question("Is there a lung nodule?", case_of(REPORT, ground))
    assert answer.text.startswith("Yes.")
    assert words in answer.text


def test_presence_from_report_and_heat_map_that_agree():
    answer = answer_question("Is there a lung nodule?", case_of(REPORT, grounder(0.9)))
    assert answer.text.startswith("Yes.")
    assert answer.confidence == 0.95
    assert answer.evidence.label == "report sentence 1"
    assert answer.evidence.organ == "lung_lower_lobe_left"
    assert answer.evidence.peak_ras_mm == LEFT_LOWER_MM
    assert str(answer.evidence.measurement) == "12 mm"
    assert [one.label for one in answer.also] == ["heat map"]


def test_disagreement_is_said_and_lowers_confidence():
    answer = answer_question("Is there a lung nodule?", case_of(REPORT, grounder(0.1)))
    assert "disagree" in answer.text
    assert answer.confidence == 0.5
    denied = answer_question("Is there a pneumothorax?", case_of(REPORT, grounder(0.9)))
    assert denied.text.startswith("No.")
    assert "disagree" in denied.text
    assert denied.confidence == 0.5


def test_denied_by_both():
    answer = answer_question("Is there a pneumothorax?", case_of(REPORT, grounder(0.05)))
    assert answer.text.startswith("No.")
    assert (answer.confidence, answer.abstained) == (0.95, False)
    assert answer.evidence.sentence == 3


def test_uncertain_in_the_report_stays_uncertain():
    answer = answer_question("Is there pneumonia?", case_of(REPORT))
    assert answer.text.startswith("Uncertain.")


def test_other_side_is_not_confirmed():
    answer = answer_question("Is there a left pleural effusion?", case_of(REPORT))
    assert answer.text.startswith("Not as far as the report says")
    assert "on the right" in answer.text


@pytest.mark.parametrize(("probability", "start"), [(0.9, "Probably."), (0.1, "Probably not.")])
def test_silent_report_leaves_it_to_a_clear_heat_map(probability, start):
    asked = []
    answer = answer_question("Is there emphysema?", case_of(REPORT, grounder(probability, asked=asked)))
    assert answer.text.startswith(start)
    assert answer.evidence.label == "heat map"
    assert answer.confidence == pytest.approx(0.9)
    assert asked == ["There is emphysema."]


def test_abstains_when_nothing_supports():
    for case in (case_of(REPORT), case_of(REPORT, grounder(0.5)), case_of(), CaseEvidence()):
        answer = answer_question("Is there emphysema?", case)
        assert answer.abstained
        assert answer.confidence == 0
        assert answer.text.startswith("I can't tell")


def test_similar_cases_are_a_hint_and_no_answer():
    hit = Hit("a", 0.9, "", "", {"Emphysema": True}, "", 0)
    answer = answer_question("Is there emphysema?", case_of(REPORT, retrieved=(hit,)))
    assert answer.abstained
    assert "Of 1 similar cases in the collection, 1 have it" in answer.text


def test_engine_that_cannot_run_is_named():
    def broken(_sentence):
        raise EngineError("No checkpoint was found. Install one.")

    answer = answer_question("Is there a nodule?", case_of(REPORT, broken))
    assert answer.text.startswith("Yes.")
    assert "No checkpoint was found" in answer.text


def test_attributes_only_in_the_words_of_the_report():
    """ "Is the nodule malignant?" must not be answered with "Yes, there is a nodule"."""
    report = "A calcified nodule in the left lower lobe."
    assert "calcified nodule" in answer_question("Is the nodule calcified?", case_of(report)).text
    assert answer_question("Is the nodule malignant?", case_of(report, grounder(0.9))).abstained
    assert answer_question("Is it cancer?", case_of(report, grounder(0.9))).abstained


def test_a_long_or_mixed_sentence_is_grounded_as_one_plain_claim():
    asked = []
    report = "There is a nodule in the left lower lobe and an effusion on the right."
    answer_question("Is there a nodule?", case_of(report, grounder(0.9, asked=asked)))
    answer_question("Is there a nodule?", case_of(REPORT, grounder(0.9, asked=asked)))
    assert asked == [
        "There is a lung nodule in the left lower lobe.",
        "There is a 12 x 9 mm nodule in the left lower lobe.",
    ]


def test_numbers_without_a_unit_say_what_they_are():
    assert str(Measurement(0.4, "cardiothoracic ratio")) == "cardiothoracic ratio 0.40"
    assert str(Measurement(2, "count")) == "count 2"
    assert str(Measurement(1782.4, "mL")) == "1,782 mL"
    assert str(Measurement(-850.0, "HU")) == "-850 HU"
    assert str(Measurement(12.0, "mm")) == "12 mm"


def test_location_agrees_with_the_peak():
    answer = answer_question("Where is the nodule?", case_of(REPORT, grounder(0.9)))
    assert "left lower lobe" in answer.text
    assert answer.confidence == 0.95
    elsewhere = answer_question("Where is the nodule?", case_of(REPORT, grounder(0.9, RIGHT_LOWER_MM)))
    assert "disagrees" in elsewhere.text
    assert elsewhere.confidence == 0.5


def test_heat_in_another_organ_supports_nothing():
    """A peak in the lung is no evidence of a mass in the liver, nor of fluid around the other lung."""
    assert answer_question("Is there a mass in the liver?", case_of(None, grounder(0.9))).abstained
    left_peak = case_of(None, grounder(0.9))
    assert answer_question("Is there a pleural effusion on the right?", left_peak).abstained
    assert not answer_question("Is there a pleural effusion on the left?", left_peak).abstained


def test_a_place_that_the_report_does_not_name_is_not_confirmed():
    answer = answer_question("Is there a nodule in the right upper lobe?", case_of(REPORT, grounder(0.9)))
    assert answer.text.startswith("Not as far as the report says")
    assert "right upper lobe" in answer.text


def test_several_findings_in_one_question_are_answered_in_turn():
    answer = answer_question("Is there a nodule or a pneumothorax?", case_of(REPORT))
    assert "Yes. The report states a lung nodule" in answer.text
    assert "No. The report says there is no pneumothorax" in answer.text


@pytest.mark.parametrize(
    ("question", "start"), [("Is the nodule larger than 8 mm?", "Yes."), ("Is the nodule smaller than 1 cm?", "No.")]
)
def test_limit_in_a_question(question, start):
    assert answer_question(question, case_of(REPORT)).text.startswith(start)


def test_different_sizes_at_one_place_are_different_lesions():
    report = "A 12 mm nodule in the left lower lobe. A 5 mm nodule in the left lower lobe."
    assert answer_question("How many nodules?", case_of(report)).evidence.measurement.value == 2


def test_location_from_masks_alone():
    answer = answer_question("Where is the heart?", case_of())
    x, y, z = answer.evidence.peak_ras_mm
    assert (x, y, z) == pytest.approx((-150 + 29.5 * 5, -80 + 17 * 4, 10 + 7.5 * 3))
    assert answer.evidence.label == "masks"


def test_location_without_report_from_a_clear_heat_map_only():
    assert "left lower lobe" in answer_question("Where is the nodule?", case_of(None, grounder(0.9))).text
    assert answer_question("Where is the nodule?", case_of(None, grounder(0.4))).abstained


@pytest.mark.parametrize(
    ("question", "words"),
    [("On which side is the effusion?", "on the right"), ("Is the nodule left or right?", "on the left")],
)
def test_side(question, words):
    assert words in answer_question(question, case_of(REPORT)).text


def test_side_from_the_peak():
    answer = answer_question("Which side is the nodule on?", case_of(None, grounder(0.8, RIGHT_LOWER_MM)))
    assert "on the right" in answer.text


def test_size_of_a_finding():
    answer = answer_question("How large is the nodule?", case_of(REPORT))
    assert "12 x 9 mm" in answer.text
    assert str(answer.evidence.measurement) == "12 mm"
    assert answer_question("How large is the effusion?", case_of(REPORT)).abstained
    assert answer_question("How large is the mass?", case_of(REPORT)).abstained


@pytest.mark.parametrize(
    ("report", "number", "words"),
    [
        ("There is a nodule in the left lower lobe.", 1, "describes 1:"),
        ("There are two nodules in the left lower lobe.", 2, "describes 2:"),
        ("There are several nodules in both lungs.", 2, "at least 2"),
        ("A nodule in the left lower lobe. A nodule in the right upper lobe.", 2, "describes 2:"),
        ("A nodule in the left lower lobe. Impression: Nodule in the left lower lobe.", 1, "describes 1:"),
        ("Nodules in both lungs. A nodule in the left lower lobe.", 2, "at least 2"),
        ("A nodule in the left lower lobe, rated suspicious by all four readers.", 1, "describes 1:"),
        ("Three small solid nodules in the left lower lobe.", 3, "describes 3:"),
        ("Lung nodules, two in the left lower lobe.", 2, "describes 2:"),
        ("No nodule is seen.", 0, "None."),
    ],
)
def test_count(report, number, words):
    answer = answer_question("How many nodules are there?", case_of(report))
    assert words in answer.text
    assert answer.evidence.measurement.value == number


def test_count_abstains_without_a_statement():
    assert answer_question("How many nodules?", case_of("The heart is normal.", grounder(0.9))).abstained


def test_volume_and_density_with_units():
    volume = answer_question("What is the volume of the left lung?", case_of())
    voxels = 15 * 30 * 30
    assert volume.evidence.measurement.unit == "mL"
    assert volume.evidence.measurement.value == pytest.approx(voxels * 0.06)
    assert "810 mL" in volume.text
    density = answer_question("What is the mean HU of the aorta?", case_of())
    assert str(density.evidence.measurement) == "150 HU"
    both = answer_question("How large are the lungs?", case_of())
    assert "together 1,782 mL" in both.text


def test_missing_organ_is_explained():
    answer = answer_question("What is the mean HU of the liver?", case_of())
    assert answer.abstained
    assert "the scan ends above the diaphragm" in answer.text
    assert answer_question("What is the volume of the nodule?", case_of(REPORT)).abstained


@pytest.mark.parametrize(
    ("question", "start"),
    [
        ("Is the left lung smaller?", "Yes."),
        ("Is the left lung smaller than the right lung?", "Yes."),
        ("Is the left lung larger than the right?", "No."),
        ("Is the right lung larger?", "Yes."),
        ("Are the lungs the same size?", "No."),
        ("Which lung is smaller?", "The left lung is smaller"),
    ],
)
def test_comparison(question, start):
    answer = answer_question(question, case_of())
    if question.startswith("Which"):
        assert "The left lung is smaller than the right lung by 17%" in answer.text
    else:
        assert answer.text.startswith(start)
    assert "810 mL" in answer.text
    assert "972 mL" in answer.text


def test_comparison_abstains_without_masks():
    assert answer_question("Is the left lung smaller?", case_of(masks=False)).abstained


def test_heart_size_is_the_cardiothoracic_ratio():
    volume, masks = build_volume()
    width = measure_heart_width(masks, volume.grid)
    assert (width.heart_mm, width.chest_mm) == (18 * 5.0, 53 * 5.0)
    answer = answer_question("Is the heart enlarged?", case_of())
    assert answer.text.startswith("Probably not.")
    assert "0.34" in answer.text
    disputed = answer_question("Is there cardiomegaly?", case_of("The heart is enlarged."))
    assert "disagree" in disputed.text


@pytest.mark.parametrize("axes", [("L", "P", "S"), ("P", "I", "R")])
def test_answers_do_not_depend_on_how_the_file_was_stored(axes):
    """The same patient stored with other axes gives the same millimetres and millilitres."""
    import nibabel.orientations as nio

    volume, masks = build_volume()
    turn = nio.ornt_transform(nio.axcodes2ornt("RAS"), nio.axcodes2ornt(axes))
    affine = volume.affine @ nio.inv_ornt_aff(turn, volume.shape)
    stored = Volume.from_source(nio.apply_orientation(volume.hu, turn), affine)
    labels = stored.from_source_array(nio.apply_orientation(masks.labels, turn))
    organs = OrganMasks(labels, "boxes")
    case = CaseEvidence(None, measure_organs(stored, organs), organs, stored.grid, grounder(0.9))
    assert "left lower lobe" in answer_question("Where is the nodule?", case).text
    volume_answer = answer_question("What is the volume of the left lung?", case)
    assert volume_answer.evidence.measurement.value == pytest.approx(810)


def test_normality_description_and_change():
    case = case_of(REPORT)
    assert answer_question("Is the aorta normal?", case).text.startswith("Yes.")
    assert answer_question("Is the left lung normal?", case).text.startswith("No.")
    summary = answer_question("What are the findings?", case).text
    assert "12 mm" in summary
    assert "pleural effusion" in summary
    assert "pneumothorax" not in summary
    assert "sentence 6" in answer_question("Has the nodule grown?", case).text
    assert answer_question("Has the effusion changed?", case).abstained


@pytest.mark.parametrize(
    "question", ["What is the capital of France?", "Is there life on Mars?", "Hello", "Who are you?", "7?", "ß" * 100]
)
def test_other_questions_are_declined_with_what_can_be_asked(question):
    answer = answer_question(question, case_of(REPORT, grounder(0.9)))
    assert answer.abstained
    assert "You can ask" in answer.text


@pytest.mark.parametrize("question", ["", "  ", "???", None, 3, "x" * 501, "no " * 10_000])
def test_unusable_questions_are_refused(question):
    with pytest.raises(ReportError):
        answer_question(question, case_of())


@pytest.mark.parametrize(
    "question",
    [
        "no " * 160,
        "(" * 499 + "a",
        "1x" * 250,
        "right and " * 50,
        "is the <script>alert(1)</script> nodule there?",
        "\x00a",
    ],
)
def test_odd_questions_get_an_answer(question):
    assert answer_question(question, case_of(REPORT)).text


def test_json_shape():
    document = describe_answer(answer_question("How large is the nodule?", case_of(REPORT, grounder(0.9))))
    assert json.loads(json.dumps(document)) == document
    assert set(document) >= {"answer", "confidence", "evidence", "abstained"}
    assert document["evidence"] == {
        "organ": "lung_lower_lobe_left",
        "peak_ras_mm": [-90.0, 0.0, 31.0],
        "measurement": "12 mm",
        "value": 12.0,
        "unit": "mm",
        "source": "report sentence 1",
        "sentence": 1,
    }
    assert describe_answer(answer_question("Hello", CaseEvidence()))["evidence"]["peak_ras_mm"] is None
