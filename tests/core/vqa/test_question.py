"""What a question asks for."""

import pytest

from core.vqa.question import parse_question


@pytest.mark.parametrize(
    ("text", "kind", "finding"),
    [
        ("Is there a lung nodule?", "presence", "Lung nodule"),
        ("Any pneumothorax?", "presence", "pneumothorax"),
        ("pleural effusion", "presence", "Pleural effusion"),
        ("Does the patient have emphysema?", "presence", "Emphysema"),
        ("Can you see any fracture?", "presence", "fracture"),
        ("Is the heart enlarged?", "presence", "Cardiomegaly"),
        ("Are there findings of pneumonia?", "presence", "pneumonia"),
        ("Is there a ground glass density in the right lung?", "presence", "Lung opacity"),
        ("Where is the nodule?", "location", "Lung nodule"),
        ("In which lobe is the consolidation?", "location", "Consolidation"),
        ("Where is the heart?", "location", ""),
        ("Which side is the effusion on?", "side", "Pleural effusion"),
        ("Is the effusion on the left or right?", "side", "Pleural effusion"),
        ("How big is the nodule?", "size", "Lung nodule"),
        ("What is the diameter of the largest nodule?", "size", "Lung nodule"),
        ("How big is the heart?", "size", ""),
        ("What is the cardiothoracic ratio?", "size", ""),
        ("How many nodules are there?", "count", "Lung nodule"),
        ("Is the left lung smaller?", "comparison", ""),
        ("Which lung is larger?", "comparison", ""),
        ("What is the volume of the left lung?", "volume", ""),
        ("Mean HU of the liver?", "density", ""),
        ("How dense is the liver?", "density", ""),
        ("Has the nodule grown?", "change", "Lung nodule"),
        ("Is the nodule larger than before?", "change", "Lung nodule"),
        ("Is the aorta normal?", "normality", ""),
        ("What are the findings?", "description", ""),
        ("Describe the right lung.", "description", ""),
        ("What about the nodule?", "description", "Lung nodule"),
        ("What is the weather?", "unknown", ""),
        ("How many fingers?", "unknown", ""),
        ("Is the nodule calcified?", "attribute", "Lung nodule"),
        ("Is it cancer?", "attribute", ""),
        ("Is the effusion bilateral?", "side", "Pleural effusion"),
        ("What is the largest nodule?", "size", "Lung nodule"),
    ],
)
def test_kind_and_finding(text, kind, finding):
    question = parse_question(text)
    assert (question.kind, question.finding) == (kind, finding)


def test_place_of_a_question():
    question = parse_question("Is there a nodule in the right lower lobe?")
    assert (question.organs, question.side) == (("lung_lower_lobe_right",), "right")
    assert parse_question("Is there a nodule?").organs == ()
    assert parse_question("Mean HU of the liver?").organs == ("liver",)
    assert parse_question("Is there a left pleural effusion?").side == "left"
