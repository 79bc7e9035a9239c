import dataclasses
import json

import numpy as np
import pytest

from core.errors import ConfigError
from core.organ_map import ORGAN_MAPS, OrganMap, find_organ_map, mirrored_structures, organ_map, organ_map_from_json
from core.structures import BY_NAME, STRUCTURES, parts_of

ASAP = ORGAN_MAPS["asap9"]
FVLM = ORGAN_MAPS["fvlm4"]
ASG = ORGAN_MAPS["asg"]


def number(name: str) -> int:
    return BY_NAME[name].number


def test_asap_classes_keep_their_order():
    """Checkpoints and label files depend on it."""
    assert ASAP.names == (
        "lung_upper_lobe_left",
        "lung_lower_lobe_left",
        "lung_upper_lobe_right",
        "lung_middle_lobe_right",
        "lung_lower_lobe_right",
        "heart",
        "aorta",
        "trachea",
    )


def test_fvlm_merges_the_published_total_classes():
    assert FVLM.names == ("lung", "heart", "esophagus", "aorta")
    assert FVLM.total_labels() == {
        "lung": (10, 11, 12, 13, 14),
        "heart": (51, 61),
        "esophagus": (15,),
        "aorta": (52,),
    }


@pytest.mark.parametrize("name", ORGAN_MAPS)
def test_lut_gives_every_structure_the_organ_that_lists_it(name):
    organs = ORGAN_MAPS[name]
    table = organs.lut()
    assert table.dtype == np.uint8
    assert table.shape == (256,)
    for structure in STRUCTURES:
        owners = [
            organ
            for organ, members in enumerate(organs.members, start=1)
            if any(structure.number in parts_of(member) for member in members)
        ]
        assert table[structure.number] == sum(owners)
    assert table[0] == 0
    assert set(table.tolist()) == set(range(len(organs) + 1))


def test_asg_has_the_organs_with_a_mask_and_canonical_the_rest_too():
    assert len(ASG) == 18
    assert all(ASG.total_labels().values())
    assert set(ORGAN_MAPS["canonical"].names) - set(ASG.names) == {"mediastinum_other", "pleura", "breast"}


def test_mirroring_labels_is_its_own_inverse_but_for_the_middle_lobe():
    table = mirrored_structures()
    changed = [s for s in STRUCTURES if table[table[s.number]] != s.number]
    assert [s.name for s in changed] == ["lung_middle_lobe_right"]
    assert table[number("kidney_left")] == number("kidney_right")
    assert table[number("rib_right_7")] == number("rib_left_7")
    assert table[number("heart")] == number("heart")


def test_a_mirrored_study_has_the_organs_of_the_other_side():
    labels = np.array([number("lung_middle_lobe_right"), number("lung_upper_lobe_left"), number("aorta"), 0])
    expected = [1, 3, 7, 0]
    assert ASAP.lut(is_mirrored=True)[labels].tolist() == expected
    assert ASAP.mirror()[ASAP.lut()[labels]].tolist() == expected


def test_mirroring_leaves_undivided_organs_alone():
    assert FVLM.mirror().tolist() == [0, 1, 2, 3, 4] + [0] * 251
    assert (FVLM.lut(is_mirrored=True) == FVLM.lut()).all()


def test_one_sided_organ_has_no_mirror_image_and_a_mixed_one_is_refused():
    one_sided = organ_map({"left_kidney": "kidney_left"})
    assert one_sided.mirror()[1] == 0
    assert one_sided.lut(is_mirrored=True)[number("kidney_right")] == 1
    mixed = organ_map({"a": "kidney_left lung_left", "b": "kidney_right", "c": "lung_right"})
    with pytest.raises(ConfigError, match='organ "a" lies in 2 organs'):
        mixed.mirror()


@pytest.mark.parametrize(
    ("organs", "structure", "names"),
    [
        ("fvlm4", "pleura_left", ["lung"]),
        ("fvlm4", "coronary_arteries", ["heart"]),
        ("fvlm4", "airway", ["lung"]),
        ("asg", "airway", ["trachea_bronchi"]),
        ("fvlm4", "lung_middle_lobe_right", ["lung"]),
        ("fvlm4", "mediastinum", []),
        ("fvlm4", "liver", []),
        ("fvlm4", "body", []),
        ("asap9", "lung_left", ["lung_upper_lobe_left", "lung_lower_lobe_left"]),
        ("asap9", "pleura_right", ["lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"]),
        ("asap9", "airway", [name for name in ASAP.names if name.startswith("lung")]),
        ("asg", "rib_left_3", ["rib_sternum_clavicle_scapula"]),
        ("asg", "bones", ["vertebrae", "rib_sternum_clavicle_scapula"]),
        ("asg", "spinal_cord", ["vertebrae"]),
        ("asg", "breast", []),
        ("canonical", "breast", ["breast"]),
        ("canonical", "pleura_left", ["pleura"]),
    ],
)
def test_statements_belong_to_the_organ_or_its_nearest_ancestor(organs, structure, names):
    chosen = ORGAN_MAPS[organs]
    assert [chosen.names[organ - 1] for organ in chosen.organs_of(structure)] == names


@pytest.mark.parametrize("name", ORGAN_MAPS)
def test_json_form_gives_the_same_map(name, tmp_path):
    path = tmp_path / "organs.json"
    path.write_text(ORGAN_MAPS[name].to_json())
    assert find_organ_map(str(path)) == ORGAN_MAPS[name] == find_organ_map(name)


@pytest.mark.parametrize(
    ("names", "members", "message"),
    [
        ((), (), "expected 1 to 255"),
        (("lung",), (), "1 names and 0 member lists"),
        (("lung",), (("lungs",),), r'No structure "lungs" in organ "lung" \(did you mean "lung'),
        (("lung", "lung"), (("lung",), ("heart",)), "used twice"),
        (("",), (("lung",),), "not a word"),
        (("lung",), ((),), "no structure"),
        (("lung", "left"), (("lung",), ("lung_lower_lobe_left",)), 'Label 11 is in the organs "lung" and "left"'),
    ],
)
def test_nonsense_is_refused(names, members, message):
    with pytest.raises(ConfigError, match=message):
        OrganMap(names, members)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lung, heart", "not JSON"),
        ("[]", 'no "organs"'),
        ('{"organs": {"lung": ["lung"]}, "order": 1}', "something beside it"),
        ('{"organs": {"lung": "lung"}}', "not a list"),
        ('{"organs": {"lung": [10]}}', "not a list"),
        ('{"organs": {"lung": ["heart"], "lung": ["lung"]}}', "'lung' occurs twice"),
        ('{"organs": {}}', "expected 1 to 255"),
    ],
)
def test_files_with_nonsense_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        organ_map_from_json(text)


def test_unknown_names_say_what_is_known():
    with pytest.raises(ConfigError, match="No organ map 'fvlm5': expected one of asap9, fvlm4"):
        find_organ_map("fvlm5")
    with pytest.raises(ConfigError, match=r'No organ "hart" \(did you mean "heart"\?\); expected lung, heart'):
        FVLM.id_of("hart")
    with pytest.raises(ConfigError, match='No structure "heartt"'):
        FVLM.organs_of("heartt")
    assert FVLM.id_of("aorta") == 4


def test_map_survives_the_trip_through_a_stored_config():
    from core.models.checkpoint import config_from_json, config_to_json

    assert config_from_json(OrganMap, config_to_json(FVLM)) == FVLM
    assert set(json.loads(config_to_json(FVLM))) == {field.name for field in dataclasses.fields(OrganMap)}
