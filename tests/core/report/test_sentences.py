"""Splitting a report: own sentences, offsets exact whatever the text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.report.sentences import section_of, split_sentences


def texts(report):
    return [span.text for span in split_sentences(report)]


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("Nodule of 12.5 mm. Heart normal.", ["Nodule of 12.5 mm.", "Heart normal."]),
        ("A 5.3x4 mm nodule. No mass.", ["A 5.3x4 mm nodule.", "No mass."]),
        ("Seen by Dr. Smith today. Stable.", ["Seen by Dr. Smith today.", "Stable."]),
        ("Changes, e.g. Scarring, persist. End.", ["Changes, e.g. Scarring, persist.", "End."]),
        ("Measures approx. 3 cm. No effusion.", ["Measures approx. 3 cm.", "No effusion."]),
        ("Mass of 3 cm. in diameter. Clear.", ["Mass of 3 cm. in diameter.", "Clear."]),
        ("1. Nodule. 2. Effusion.", ["Nodule.", "Effusion."]),
        ("1) Nodule\n2) Effusion\n", ["Nodule", "Effusion"]),
        ("- Nodule\n- Effusion", ["Nodule", "Effusion"]),
        ("• Nodule • Effusion", ["Nodule", "Effusion"]),
        ("FINDINGS:\nClear lungs.\nIMPRESSION:\nNormal.", ["Clear lungs.", "Normal."]),
        ("Impression: No mass. Stable.", ["No mass.", "Stable."]),
        ("Heart: normal size. Lungs: clear.", ["Heart: normal size.", "Lungs: clear."]),
        (
            "There is a nodule in the\nright upper lobe. Clear.",
            ["There is a nodule in the\nright upper lobe.", "Clear."],
        ),
        ("Heart normal\nNo effusion\nLungs clear", ["Heart normal", "No effusion", "Lungs clear"]),
        ("nodule in the lobe\nno effusion\nheart normal", ["nodule in the lobe", "no effusion", "heart normal"]),
        ("Small nodule close to\nthe fissure. Clear.", ["Small nodule close to\nthe fissure.", "Clear."]),
        ("Heart normal.\r\nNo effusion.\r\n", ["Heart normal.", "No effusion."]),
        ("Nodule in the\r\nleft lung. Clear.", ["Nodule in the\r\nleft lung.", "Clear."]),
        ("One paragraph without stop\n\nanother one", ["One paragraph without stop", "another one"]),
        ("Lesion in segment 3. Heart is normal.", ["Lesion in segment 3.", "Heart is normal."]),
        ("Fracture at T2. No effusion.", ["Fracture at T2.", "No effusion."]),
        ("Nodule (series 2, image 45). Clear.", ["Nodule (series 2, image 45).", "Clear."]),
        ("Nodule (see ser. 2. Image 45) is new. Clear.", ["Nodule (see ser. 2. Image 45) is new.", "Clear."]),
        ("Read by J. K. Rowan. Clear.", ["Read by J. K. Rowan.", "Clear."]),
        ("Stable ... no change. Clear.", ["Stable ... no change.", "Clear."]),
        ("Stable… Clear lungs.", ["Stable…", "Clear lungs."]),
        ("NO MASS. NO EFFUSION. HEART NORMAL.", ["NO MASS.", "NO EFFUSION.", "HEART NORMAL."]),
        ("Was it seen? Yes. Good!", ["Was it seen?", "Yes.", "Good!"]),
        ("Adenoma? or cyst. End.", ["Adenoma? or cyst.", "End."]),
        ("No infection.Pleura is thin.", ["No infection.", "Pleura is thin."]),
        ("The left 9. rib is broken. Clear.", ["The left 9. rib is broken.", "Clear."]),
        ("Lungs are clear; heart is normal.", ["Lungs are clear", "heart is normal."]),
        ("In the lung window; no nodule was seen.", ["In the lung window; no nodule was seen."]),
        ('Two nodules. " Effusion on the left." Scar.', ["Two nodules.", "Effusion on the left.", "Scar."]),
        ('Nodule on the left " Effusion on the right', ["Nodule on the left", "Effusion on the right"]),
        ("nodule seen. no effusion. heart normal", ["nodule seen.", "no effusion.", "heart normal"]),
        ("Größe 5 mm. Ödem fehlt.", ["Größe 5 mm.", "Ödem fehlt."]),
        ("No. 3 rib is broken. Fine.", ["No. 3 rib is broken.", "Fine."]),
    ],
)
def test_split(report, expected):
    assert texts(report) == expected


@pytest.mark.parametrize("report", ["", " \n\t", "...", "1. 2. 3.", "FINDINGS:", "---\n***", '"', "(", "\r\n\r\n"])
def test_text_without_statement_gives_at_most_fragments(report):
    assert all(any(char.isalnum() for char in text) for text in texts(report))


def assert_offsets_are_exact(report):
    end = 0
    for span in split_sentences(report):
        assert report[span.start : span.end] == span.text
        assert span.start >= end
        assert span.text.strip() == span.text
        end = span.end


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_offsets_are_exact_for_any_text(report):
    assert_offsets_are_exact(report)


PIECES = ["There is a nodule", "12.5 mm", "Dr. Gray", ". ", "\n", "\r\n", "1. ", "- ", "; ", " (", ")", '" ', "• ", "…"]


@given(st.lists(st.sampled_from([*PIECES, "FINDINGS:", "Heart normal", "e.g.", " no effusion", "?"]), max_size=40))
@settings(max_examples=200, deadline=None)
def test_offsets_are_exact_and_no_word_is_lost(pieces):
    report = "".join(pieces)
    assert_offsets_are_exact(report)
    assert report.count("nodule") == sum(text.count("nodule") for text in texts(report))


def test_sections_reach_until_the_next_heading():
    report = "Indication: rule out nodule.\nFindings: Clear. Normal heart.\nIMPRESSION\nNo nodule."
    spans = split_sentences(report)
    assert section_of(report, spans) == ["indication", "findings", "findings", "impression"]


@pytest.mark.parametrize("hostile", ["(" * 50_000, ". " * 50_000, ";" * 50_000, "a.b." * 40_000, "\n \n" * 40_000])
def test_hostile_text_is_split_in_linear_time(hostile):
    """Quadratic work on 200,000 characters would take minutes and time the suite out."""
    assert_offsets_are_exact(hostile + "End.")
