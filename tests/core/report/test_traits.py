"""What a sentence says as numbers: denial, side, lobe, size, findings."""

import numpy as np
import pytest

from core.report.traits import TRAITS, sentence_traits


def told(text: str) -> dict[str, float]:
    return {name: value for name, value in zip(TRAITS, sentence_traits([text])[0].tolist(), strict=True) if value}


def test_a_finding_with_its_place_and_size():
    found = told("There is a 16 mm nodule in the left lower lobe.")
    assert found == {"stated": 1, "left": 1, "lower": 1, "lung": 1, "16 mm": 1, "Lung nodule": 1}


def test_a_denial_names_the_finding_the_other_way_round():
    found = told("There is no pleural effusion on the right.")
    assert found["denied"] == 1
    assert found["Pleural effusion"] == -1
    assert "stated" not in found
    assert {"right", "pleura"} <= set(found)


@pytest.mark.parametrize(
    ("text", "is_denied"),
    [
        ("The left main bronchus is patent.", True),
        ("Nothing protrudes into the windpipe.", True),
        ("The aorta is normal.", True),
        ("A blob sits beside the windpipe.", False),
        ("The shadow has not resolved.", False),
        ("Effusion on the left, none on the right.", False),
    ],
)
def test_sentences_without_a_known_finding_are_stated_or_denied_too(text, is_denied):
    found = told(text)
    assert ("denied" in found) == is_denied
    assert ("stated" in found) != is_denied


def test_sizes_lie_between_their_neighbours_and_end_at_the_scale():
    found = told("Nodule of 12 mm.")
    assert found["8 mm"] + found["16 mm"] == pytest.approx(1)
    assert found["16 mm"] == pytest.approx(np.log2(12 / 8))
    assert told("Nodule of 300 mm.")["64 mm"] == 1
    assert told("Nodule of 1 mm.")["4 mm"] == 1
    assert not any(name.endswith("mm") for name in told("A nodule."))


def test_another_side_or_lobe_is_another_row():
    one, other, below = sentence_traits(
        ["Mass in the right upper lobe.", "Mass in the left upper lobe.", "Mass in the right lower lobe."]
    )
    assert {TRAITS[at] for at in np.flatnonzero(one - other)} == {"left", "right"}
    assert {TRAITS[at] for at in np.flatnonzero(one - below)} == {"upper", "lower"}


def test_no_sentence_gives_no_row_and_an_empty_one_says_nothing_of_findings():
    assert sentence_traits([]).shape == (0, len(TRAITS))
    assert set(told("?")) == {"stated"}
