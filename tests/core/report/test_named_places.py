"""Which organs a sentence names, on which side, and whether it points at anything in them."""

import pytest

from core.report.named_places import named_places


@pytest.mark.parametrize(
    ("sentence", "places"),
    [
        ("There is a nodule in the left lower lobe.", [("lung_lower_lobe_left", "left")]),
        ("Nodule in the lingula.", [("lung_upper_lobe_left", "left")]),
        ("Apical scarring on the right.", [("lung_upper_lobe_right", "right")]),
        ("Bibasilar atelectasis.", [("lung_lower_lobe_left", "left"), ("lung_lower_lobe_right", "right")]),
        ("Left-sided pleural effusion.", [("pleura_left", "left")]),
        ("Small right effusion.", [("pleura_right", "right")]),
        ("No pleural effusion.", [("pleura_left", "left"), ("pleura_right", "right")]),
        ("No pericardial effusion.", [("pericardium", "")]),
        ("Right hilar lymph node.", [("hilum", "right")]),
        ("The left kidney is normal.", [("kidney_left", "left")]),
        ("Cardiomegaly.", [("heart", "")]),
        ("Enlarged lymph nodes in the axilla on the left.", [("body", "left")]),
        ("Right paratracheal lymph node.", [("mediastinum", "right")]),
        ("Left pulmonary artery embolus.", [("pulmonary_artery", "left")]),
        ("The left lobe of the liver contains a cyst.", [("liver", "")]),
        ("Fracture of the left 4th rib.", [("rib_left_4", "left")]),
        ("There is a nodule.", []),
        ("Elevated right hemidiaphragm.", []),
    ],
)
def test_a_sentence_names_its_organ_and_side(sentence, places):
    assert [tuple(place) for place in named_places(sentence).places] == places


@pytest.mark.parametrize(
    ("sentence", "places"),
    [
        ("Nodule in the upper lobe of the right lung adjacent to the aorta.", ["lung_upper_lobe_right"]),
        ("Pulmonary nodule in the right upper lobe.", ["lung_upper_lobe_right"]),
        ("Bronchial wall thickening in the left lower lobe.", ["lung_lower_lobe_left"]),
        ("Pleural-based nodule in the right lower lobe.", ["lung_lower_lobe_right"]),
        (
            "Right pleural effusion with adjacent right lower lobe atelectasis.",
            ["pleura_right", "lung_lower_lobe_right"],
        ),
        ("The heart is normal and there is a left pleural effusion.", ["heart", "pleura_left"]),
    ],
)
def test_the_smallest_place_counts_and_neighbours_do_not(sentence, places):
    assert [place.organ for place in named_places(sentence).places] == places


def test_a_side_without_an_organ_is_kept():
    assert named_places("Elevated right hemidiaphragm.").side == "right"
    assert named_places("There is a nodule.").side == ""


@pytest.mark.parametrize(
    ("sentence", "is_spot"),
    [
        ("The liver is normal.", False),
        ("Heart size is normal.", False),
        ("The lungs are clear.", False),
        ("No pleural effusion.", False),
        ("The spleen measures 124 mL.", False),
        ("There is a nodule in the left lower lobe.", True),
        ("A nodule in the left lower lobe cannot be excluded.", True),
        ("The heart is normal and there is a left pleural effusion.", True),
    ],
)
def test_a_normal_organ_and_a_denial_point_at_nothing(sentence, is_spot):
    assert named_places(sentence).is_spot is is_spot
