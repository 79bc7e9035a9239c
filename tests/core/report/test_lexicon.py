"""The word tables: complete, and naming only things that exist."""

import pytest

from core.findings import CT_RATE_LABELS
from core.report.lexicon import FINDING_TERMS
from core.report.mentions import read_sentence
from core.report.negation import CUES
from core.report.organ_terms import ORGAN_TERMS
from core.report.organs import names_with_side
from core.report.places import BY_ORGAN, ORGAN_FAMILIES, USUAL_ORGANS
from core.structures import BY_NAME, parts_of


@pytest.mark.parametrize("table", [FINDING_TERMS, ORGAN_TERMS, CUES])
def test_terms_are_tuples_of_words(table):
    """A missing comma once made a term a string, whose letters were read as terms."""
    for key, terms in table.items():
        assert isinstance(terms, tuple), key
        assert all(term.strip() and not term.startswith("~") and not term.endswith("~") for term in terms), key


def test_every_label_has_words_and_places():
    named = {part for key in FINDING_TERMS for part in key.split(" + ")}
    assert set(CT_RATE_LABELS) <= named
    assert set(CT_RATE_LABELS) - set(USUAL_ORGANS) == {"Medical material"}


def test_places_are_structures():
    for template in [*ORGAN_TERMS, *(" ".join(organs) for organs in USUAL_ORGANS.values())]:
        for name in names_with_side(template, "") if template != "-" else ():
            assert parts_of(name), template


def test_general_words_have_meanings():
    assert {key[1:] for key in FINDING_TERMS if key.startswith("*")} == set(BY_ORGAN)
    for meanings in BY_ORGAN.values():
        assert meanings[-1][0] == ""
        assert all(not family or family in ORGAN_FAMILIES for family, _ in meanings)


def test_families_have_members():
    names = [*BY_NAME, "bones"]
    for starts in ORGAN_FAMILIES.values():
        assert all(any(name.startswith(start) for name in names) for start in starts)


@pytest.mark.parametrize(
    ("sentence", "finding"),
    [
        ("A nodule in the liver.", "liver lesion"),
        ("A mass in the mediastinum.", "mediastinal mass"),
        ("A cyst in the left kidney.", "renal cyst"),
        ("A stone in the gallbladder.", "gallstone"),
        ("Dilatation of the aorta.", "aneurysm"),
        ("Thickening of the pleura.", "pleural thickening"),
        ("Fluid collection in the abdomen.", "ascites"),
        ("A nodule in the subcutaneous fat.", "soft tissue nodule"),
        ("Increased density in the chest wall.", "soft tissue density"),
        ("Increased density in the left lung.", "Lung opacity"),
    ],
)
def test_general_words_mean_what_the_organ_makes_them(sentence, finding):
    assert [mention.finding for mention in read_sentence(sentence).mentions] == [finding]
