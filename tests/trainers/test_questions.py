import pytest
import torch

from core.models.tokens import train_wordpiece
from core.report.mentions import read_sentence
from trainers.batch import check_batch, collate
from trainers.questions import Question, ask_about, question_fields

NODULE = "There is a solid nodule in the left upper lobe."
OWN = [
    (NODULE, {"kind": "solid nodule", "existence": "present", "laterality": "left"}),
    ("Possible consolidation.", {"kind": "consolidation", "existence": "uncertain", "laterality": ""}),
    ("No emphysema.", {"kind": "emphysema", "existence": "absent", "laterality": ""}),
    ("The heart is normal.", {"kind": "normal", "existence": "absent", "laterality": ""}),
    ("The heart is enlarged.", {"kind": "cardiomegaly", "existence": "present", "laterality": ""}),
]


def claim(text, kind, existence="present"):
    return text, {"kind": kind, "existence": existence, "laterality": ""}


OTHERS = [
    claim("A spiculated nodule.", "spiculated nodule"),  # a lung nodule as well: true enough to leave out
    claim("Consolidation.", "consolidation"),  # suspected here
    claim("No mass.", "mass", "absent"),
    claim("Hiatal hernia.", "hiatal hernia"),
    claim("A mass.", "mass"),
    claim("A mass.", "mass"),
    claim("Pneumothorax.", "pneumothorax"),
]


def test_a_claim_is_asked_with_its_denial_and_its_other_side():
    asked = ask_about(OWN, [], 4)
    assert asked[0] == Question(NODULE, 0)
    assert [question.region for question in asked] == [0, None, None]
    assert {mention.existence for mention in read_sentence(asked[1].text).mentions} == {"absent"}
    assert "right upper lobe" in asked[2].text


def test_only_findings_that_are_not_there_are_borrowed():
    assert [asked.text for asked in ask_about(OWN, OTHERS, 4)[3:]] == ["A mass.", "Pneumothorax."]
    assert [asked.text for asked in ask_about(OWN, OTHERS, 4, ("pneumothorax",))[3:]] == ["A mass."]
    assert all(asked.region is None for asked in ask_about(OWN, OTHERS, 1)[3:])


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece([text for text, _ in OWN + OTHERS], 200)


def test_fields_say_what_is_true_false_and_out_of_view(tokenizer):
    shares = torch.tensor([[0.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    fields = question_fields([Question("A mass.", 0), Question("A mass.", None), Question("A mass.", 1)], shares,
                             tokenizer, 60)  # fmt: skip
    assert fields["asked_target"].tolist() == [[0.0, 0.5, 0.0], [0.0] * 3, [0.0] * 3]
    assert fields["asked_valid"].tolist() == [True, True, False]


def test_studies_with_and_without_questions_make_one_batch(tokenizer):
    shares = torch.rand(2, 3)
    some = question_fields([Question("A mass.", 0), Question("There is no mass.", None)], shares, tokenizer, 60)
    batch = collate([some, question_fields([], shares, tokenizer, 60)])
    check_batch(batch, tuple(some))
    assert batch["asked_valid"].tolist() == [[True, True], [False, False]]
