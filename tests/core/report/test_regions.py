import pytest

from core.organ_map import ORGAN_MAPS
from core.report.organ_terms import ORGAN_TERMS
from core.report.regions import organs_named, organs_of_path, path_of, structures_named
from core.structures import BY_NAME, UNIONS


def names(ids, organs="fvlm4") -> list[str]:
    return [ORGAN_MAPS[organs].names[organ - 1] for organ in ids]


@pytest.mark.parametrize(
    ("path", "organs", "expected"),
    [
        ("lung/lung/left lung", "fvlm4", ["lung"]),
        ("lung/lung/left lung", "asap9", ["lung_upper_lobe_left", "lung_lower_lobe_left"]),
        ("lung/lung/left lung/left lung upper lobe", "asap9", ["lung_upper_lobe_left"]),
        ("lung/lung/right lung/right lung middle lobe", "asap9", ["lung_middle_lobe_right"]),
        ("mediastinum/aorta", "fvlm4", ["aorta"]),
        ("mediastinum/lymph node", "fvlm4", []),
        ("mediastinum", "canonical", ["mediastinum_other"]),
        ("pleura/pleura", "fvlm4", ["lung"]),
        ("pleura/pleura", "canonical", ["pleura"]),
        ("trachea and bronchie", "asg", ["trachea_bronchi"]),
        ("trachea and bronchie/bronchie", "fvlm4", ["lung"]),
        ("trachea and bronchie/trachea", "fvlm4", []),
        ("heart/heart/left heart ventricle", "fvlm4", ["heart"]),
        ("heart/coronary arteries", "asg", ["heart"]),
        ("bone/ribs/left rib 3", "asg", ["rib_sternum_clavicle_scapula"]),
        ("bone/vertebrae/thoracic vertebrae 5 (t5)", "asg", ["vertebrae"]),
        ("bone", "asg", ["vertebrae", "rib_sternum_clavicle_scapula"]),
        ("abdomen/left kidney", "asg", ["kidney"]),
        ("abdomen/intestine", "asg", ["bowel"]),
        ("abdomen", "asg", []),
        ("thyroid", "asg", ["thyroid"]),
        ("lung_left", "asap9", ["lung_upper_lobe_left", "lung_lower_lobe_left"]),
        ("heart/somewhere unheard of", "fvlm4", ["heart"]),
        ("", "asg", []),
        ("///", "asg", []),
        ("others", "asg", []),
    ],
)
def test_paths_mean_the_deepest_organ_that_has_a_mask(path, organs, expected):
    assert names(organs_of_path(path, ORGAN_MAPS[organs]), organs) == expected


@pytest.mark.parametrize("organs", ORGAN_MAPS)
def test_a_structure_s_own_path_leads_back_to_its_organs(organs):
    chosen = ORGAN_MAPS[organs]
    for name in [*BY_NAME, *UNIONS]:
        assert organs_of_path(path_of(name), chosen) == chosen.organs_of(name), path_of(name)


def test_paths_go_from_large_to_small():
    assert path_of("lung_lower_lobe_left") == "lung/left lung/left lower lobe"
    assert path_of("pleura_right") == "lung/right lung/right pleura"
    assert path_of("coronary_arteries") == "heart/coronary arteries"
    assert path_of("rib_left_3") == "bone/ribs/left rib 3"
    assert path_of("aorta") == "mediastinum/aorta"
    assert path_of("kidney_left") == "abdomen/kidney/left kidney"


def test_every_organ_the_lexicon_knows_is_a_structure():
    for template in ORGAN_TERMS:
        for part in template.replace("{side}", "left").split():
            assert part == "-" or structures_named(part) == (part,)


def test_words_of_a_sentence_name_their_organs():
    organs = ORGAN_MAPS["fvlm4"]
    assert names(organs_named("Calcified plaques are seen in the aortic arch and the coronary arteries.", organs)) == [
        "heart",
        "aorta",
    ]
    assert names(organs_named("Effusion in the left pleural space.", organs)) == ["lung"]
    assert organs_named("The gallbladder was removed.", organs) == ()
