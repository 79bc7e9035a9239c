"""The one table of anatomical structures: number, name, group, side and colour. Plain data, no imports.

Names and numbers 1..117 are those of TotalSegmentator v2's task "total" (Apache-2.0, class map only).
Numbers from 200 are this project's own, for structures that task has no class for. A label map holds each voxel
once; `parts_of` says which numbers make up a larger structure (`lung_left` = its lobes and its undivided rest).
"""

import colorsys
from typing import NamedTuple


class Structure(NamedTuple):
    """One entry of the table."""

    number: int  # the value in a label map
    name: str  # as in TotalSegmentator, or named the same way
    group: str  # heading in the organ tree
    colour: str  # "#rrggbb"


_TOTAL = """
spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left
lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right
esophagus trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left
kidney_cyst_right sacrum vertebrae_S1 vertebrae_L5 vertebrae_L4 vertebrae_L3 vertebrae_L2 vertebrae_L1
vertebrae_T12 vertebrae_T11 vertebrae_T10 vertebrae_T9 vertebrae_T8 vertebrae_T7 vertebrae_T6 vertebrae_T5
vertebrae_T4 vertebrae_T3 vertebrae_T2 vertebrae_T1 vertebrae_C7 vertebrae_C6 vertebrae_C5 vertebrae_C4
vertebrae_C3 vertebrae_C2 vertebrae_C1 heart aorta pulmonary_vein brachiocephalic_trunk
subclavian_artery_right subclavian_artery_left common_carotid_artery_right common_carotid_artery_left
brachiocephalic_vein_left brachiocephalic_vein_right atrial_appendage_left superior_vena_cava
inferior_vena_cava portal_vein_and_splenic_vein iliac_artery_left iliac_artery_right iliac_vena_left
iliac_vena_right humerus_left humerus_right scapula_left scapula_right clavicula_left clavicula_right
femur_left femur_right hip_left hip_right spinal_cord gluteus_maximus_left gluteus_maximus_right
gluteus_medius_left gluteus_medius_right gluteus_minimus_left gluteus_minimus_right autochthon_left
autochthon_right iliopsoas_left iliopsoas_right brain skull rib_left_1 rib_left_2 rib_left_3 rib_left_4
rib_left_5 rib_left_6 rib_left_7 rib_left_8 rib_left_9 rib_left_10 rib_left_11 rib_left_12 rib_right_1
rib_right_2 rib_right_3 rib_right_4 rib_right_5 rib_right_6 rib_right_7 rib_right_8 rib_right_9 rib_right_10
rib_right_11 rib_right_12 sternum costal_cartilages
""".split()

_OWN = {
    200: "body",  # what is inside the skin and belongs to nothing else
    201: "lung_left",  # lung that could not be divided into lobes
    202: "lung_right",
    203: "airway",  # bronchi below the trachea
    204: "spine",  # vertebrae that were not told apart
    205: "ribs",
    206: "pulmonary_artery",
    207: "mediastinum",
    208: "subcutaneous_fat",
    209: "skeletal_muscle",
    210: "pleura_left",  # the space around the lung, where an effusion or a pneumothorax lies
    211: "pleura_right",
    212: "pericardium",
    213: "coronary_arteries",
    214: "breast",
}

_GROUPS = {
    "lungs": ("lung_",),
    "airways": ("trachea", "airway"),
    "heart and vessels": (
        "heart",
        "aorta",
        "pulmonary_",
        "brachiocephalic",
        "subclavian",
        "common_carotid",
        "atrial_appendage",
        "superior_vena",
        "inferior_vena",
        "portal_vein",
        "iliac_artery",
        "iliac_vena",
        "pericardium",
        "coronary",
    ),
    "mediastinum and pleura": ("mediastinum", "esophagus", "thyroid", "pleura_"),
    "bones": (
        "vertebrae",
        "rib_",
        "ribs",
        "sternum",
        "costal",
        "spine",
        "sacrum",
        "humerus",
        "scapula",
        "clavicula",
        "femur",
        "hip_",
        "skull",
        "spinal_cord",
    ),
    "body wall": ("body", "subcutaneous", "skeletal_muscle", "autochthon", "gluteus", "iliopsoas", "breast"),
}

GROUPS: tuple[str, ...] = (*list(_GROUPS)[:4], "abdomen", *list(_GROUPS)[4:])
"""Headings of the organ tree, in the order in which a chest CT is read."""

_COLOURS = {
    "lung_upper_lobe_left": "#6fb7e9",
    "lung_lower_lobe_left": "#3a7fc1",
    "lung_upper_lobe_right": "#8fd3b6",
    "lung_middle_lobe_right": "#c7d96a",
    "lung_lower_lobe_right": "#46a37a",
    "lung_left": "#5a9fd8",
    "lung_right": "#5cbd94",
    "trachea": "#b8e3ff",
    "airway": "#9ad2f5",
    "heart": "#e0524d",
    "aorta": "#ff8a7a",
    "pulmonary_artery": "#6d83e8",
    "esophagus": "#d9a066",
    "liver": "#b0653a",
    "spleen": "#a05a9c",
    "stomach": "#d98fb0",
    "spinal_cord": "#f7e26b",
    "body": "#6b7280",
}


def _group_of(name: str) -> str:
    for group, starts in _GROUPS.items():
        if name.startswith(starts):
            return group
    return "abdomen"


def _colour_of(number: int, name: str) -> str:
    """A fixed colour; unnamed ones step round the hue circle by the golden angle, so neighbours differ."""
    if name in _COLOURS:
        return _COLOURS[name]
    bony = _group_of(name) == "bones"
    hue, saturation = (0.09 + number % 12 * 0.005, 0.35) if bony else (number * 0.381966 % 1.0, 0.55)
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, 0.92)
    return f"#{int(red * 255):02x}{int(green * 255):02x}{int(blue * 255):02x}"


STRUCTURES: tuple[Structure, ...] = tuple(
    Structure(number, name, _group_of(name), _colour_of(number, name))
    for number, name in [*enumerate(_TOTAL, start=1), *_OWN.items()]
)
BY_NAME: dict[str, Structure] = {structure.name: structure for structure in STRUCTURES}
BY_NUMBER: dict[int, Structure] = {structure.number: structure for structure in STRUCTURES}

LOBES_LEFT = ("lung_upper_lobe_left", "lung_lower_lobe_left")
LOBES_RIGHT = ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right")
LOBES = LOBES_LEFT + LOBES_RIGHT

UNIONS: dict[str, tuple[str, ...]] = {
    "lung_left": LOBES_LEFT,
    "lung_right": LOBES_RIGHT,
    "lung": (*LOBES, "lung_left", "lung_right"),
    "airway": ("trachea",),
    "spine": tuple(name for name in BY_NAME if name.startswith("vertebrae_")),
    "ribs": tuple(name for name in BY_NAME if name.startswith("rib_")),
    "heart": ("atrial_appendage_left",),
    "pleura": ("pleura_left", "pleura_right"),
    "kidney": ("kidney_left", "kidney_right"),
    "adrenal_gland": ("adrenal_gland_left", "adrenal_gland_right"),
    "bones": tuple(name for name in BY_NAME if _group_of(name) == "bones" and name != "spinal_cord"),
    "body": tuple(name for name in BY_NAME if name != "body"),
}
"""Larger structure -> the smaller ones that count as part of it."""


def parts_of(name: str) -> frozenset[int]:
    """Label numbers that make up the structure `name`; KeyError if the table has no such name."""
    members = {BY_NAME[part].number for part in UNIONS.get(name, ())}
    if name in BY_NAME:
        members.add(BY_NAME[name].number)
    if not members:
        raise KeyError(name)
    return frozenset(members)


def side_of(name: str) -> str:
    """ "left", "right" or "" from a structure's name."""
    for side in ("left", "right"):
        if name.endswith(f"_{side}") or f"_{side}_" in name:
            return side
    return ""


def spoken_name(name: str) -> str:
    """The name as a person says it: lung_lower_lobe_left -> "left lower lobe", rib_left_3 -> "left rib 3"."""
    if name.startswith("vertebrae_"):
        return f"vertebra {name.removeprefix('vertebrae_')}"
    side = side_of(name)
    words = [word for word in name.split("_") if word != side]
    if "lobe" in words:
        words = [word for word in words if word != "lung"]
    return " ".join([side, *words]).strip()
