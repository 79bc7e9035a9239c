"""Which structures a recipe counts as one organ: organ ids 1..O for label maps, mirrored studies and words.

Ids follow the order of `OrganMap.names`; 0 is everything else. Presets are in `ORGAN_MAPS`; a JSON file gives others.
"""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from core.errors import ConfigError
from core.structures import BY_NAME, LOBES, LOBES_LEFT, LOBES_RIGHT, UNIONS, parts_of, side_of

TOTAL_CLASSES = 117
"""Numbers up to here are those of TotalSegmentator v2's task "total", so its masks need no translation."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,59}")
_WHOLES = ("lung", "lung_left", "lung_right", "pleura", "spine", "ribs", "bones", "kidney", "adrenal_gland")
"""Unions whose parts, taken together, are what the word means; "airway" does not mean the trachea alone."""

_IN_MEDIASTINUM = ("aorta", "esophagus", "trachea", "pulmonary_artery", "pulmonary_vein", "superior_vena_cava") + (
    "brachiocephalic",
    "subclavian",
    "common_carotid",
)

PARENTS: dict[str, str] = {
    **dict.fromkeys(LOBES_LEFT, "lung_left"),
    **dict.fromkeys(LOBES_RIGHT, "lung_right"),
    "lung_left": "lung",
    "lung_right": "lung",
    "airway": "lung",
    "pleura_left": "lung_left",
    "pleura_right": "lung_right",
    "pleura": "lung",
    "pericardium": "heart",
    "coronary_arteries": "heart",
    "atrial_appendage_left": "heart",
    **{name: "mediastinum" for name in BY_NAME if name.startswith(_IN_MEDIASTINUM)},
    **{name: "ribs" for name in BY_NAME if name.startswith("rib_")},
    "costal_cartilages": "ribs",
    **{name: "spine" for name in BY_NAME if name.startswith("vertebrae_")},
    "sacrum": "spine",
    "spinal_cord": "spine",
    "kidney_cyst_left": "kidney_left",
    "kidney_cyst_right": "kidney_right",
    "kidney_left": "kidney",
    "kidney_right": "kidney",
    "adrenal_gland_left": "adrenal_gland",
    "adrenal_gland_right": "adrenal_gland",
}
"""Structure -> the larger one that a statement about it belongs to where it is no organ of its own."""


@dataclass(frozen=True)
class OrganMap:
    """Organs of a recipe, each a set of structures of `core.structures`; refuses overlaps and unknown names."""

    names: tuple[str, ...]
    """Organ of id 1, 2, … O."""
    members: tuple[tuple[str, ...], ...]
    """Per organ the structures in it; a union ("lung", "spine", "kidney") stands for all its parts."""

    def __post_init__(self) -> None:
        if not 0 < len(self.names) == len(self.members) <= 255:
            raise ConfigError(
                f"An organ map has {len(self.names)} names and {len(self.members)} member lists; expected 1 to 255 of "
                "each, as many as the other."
            )
        odd = [name for name in self.names if not _NAME.fullmatch(name)]
        if odd or len(set(self.names)) < len(self.names):
            repeated = [name for name in self.names if self.names.count(name) > 1]
            raise ConfigError(
                f"Organ name {(odd or repeated)[0]!r} is {'not a word' if odd else 'used twice'}; expected letters, "
                "digits and underscores, each name once."
            )
        self._refuse_overlaps()

    def _refuse_overlaps(self) -> None:
        owners: dict[int, str] = {}
        for name, members in zip(self.names, self.members, strict=True):
            if not members:
                raise ConfigError(f'Organ "{name}" has no structure; give at least one, or leave the organ out.')
            for number in _numbers(name, members):
                owner = owners.setdefault(number, name)
                if owner != name:
                    raise ConfigError(
                        f'Label {number} is in the organs "{owner}" and "{name}"; a voxel has one organ. Take it out '
                        "of one of them."
                    )

    def __len__(self) -> int:
        return len(self.names)

    def id_of(self, organ: str) -> int:
        """The id of an organ by its name; ConfigError for a name this map does not have."""
        if organ not in self.names:
            raise ConfigError(f'No organ "{organ}"{_closest(organ, self.names)}; expected {", ".join(self.names)}.')
        return self.names.index(organ) + 1

    def lut(self, is_mirrored: bool = False) -> np.ndarray:
        """uint8 (256,): structure number -> organ id, 0 = none; `lut()[labels]` is the organ mask.

        With `is_mirrored` the labels come from a study whose left and right were exchanged: the left upper lobe there
        is the organ of the right one.
        """
        table = np.zeros(256, np.uint8)
        for organ, numbers in enumerate(self.numbers(), start=1):
            table[list(numbers)] = organ
        return table[mirrored_structures()] if is_mirrored else table

    def mirror(self) -> np.ndarray:
        """uint8 (256,): organ id -> organ id in the mirrored study; the middle lobe becomes left upper.

        0 where the other side is no organ of this map. Raises ConfigError for an organ whose mirror image lies in
        several organs: use `lut(is_mirrored=True)` on structure numbers there.
        """
        table, other = np.zeros(256, np.uint8), self.lut(is_mirrored=True)
        for organ, numbers in enumerate(self.numbers(), start=1):
            images = set(other[list(numbers)].tolist())
            if len(images) > 1:
                raise ConfigError(
                    f'The mirror image of organ "{self.names[organ - 1]}" lies in {len(images)} organs; divide it by '
                    "sides, or mirror structure numbers instead of organ ids."
                )
            table[organ] = images.pop()
        return table

    def numbers(self) -> tuple[frozenset[int], ...]:
        """Per organ the label numbers of `core.structures` in it."""
        return tuple(_numbers(name, members) for name, members in zip(self.names, self.members, strict=True))

    def total_labels(self) -> dict[str, tuple[int, ...]]:
        """Organ -> its label numbers in a mask of TotalSegmentator v2's task "total", in order."""
        named = zip(self.names, self.numbers(), strict=True)
        return {name: tuple(sorted(n for n in numbers if n <= TOTAL_CLASSES)) for name, numbers in named}

    def organs_of(self, structure: str) -> tuple[int, ...]:
        """Organ ids that a statement about a structure or union belongs to, in order; () when none.

        The organs that hold it or parts of it, else those of its nearest ancestor (`PARENTS`): the coronary arteries
        belong to the heart, the pleura to the lung. Raises ConfigError for a name that is no structure.
        """
        return _organs_of(self, structure)

    def to_json(self) -> str:
        """The map as the text of an organ map file."""
        organs = dict(zip(self.names, map(list, self.members), strict=True))
        return json.dumps({"organs": organs}, indent=1) + "\n"


def organ_map(organs: Mapping[str, str]) -> OrganMap:
    """Organ name -> its structures, separated by spaces."""
    return OrganMap(tuple(organs), tuple(tuple(members.split()) for members in organs.values()))


def organ_map_from_json(text: str) -> OrganMap:
    """Read `{"organs": {"lung": ["lung"], "heart": ["heart"]}}`; organ ids follow the order in the file."""
    expected = 'Expected {"organs": {"lung": ["lung"], "heart": ["heart", "pericardium"]}}.'
    try:
        told = json.loads(text, object_pairs_hook=without_repeats)
    except ValueError as error:
        raise ConfigError(f"The organ map is not JSON ({error}). {expected}") from error
    organs = told.get("organs") if isinstance(told, dict) else None
    if not isinstance(organs, dict) or set(told) != {"organs"}:
        raise ConfigError(f'The organ map has no "organs" or something beside it. {expected}')
    for name, members in organs.items():
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            raise ConfigError(f'Organ "{name}" of the organ map is not a list of structure names. {expected}')
    return OrganMap(tuple(organs), tuple(map(tuple, organs.values())))


def find_organ_map(name: str) -> OrganMap:
    """A preset by its name, or the organ map in the file of that path."""
    if name in ORGAN_MAPS:
        return ORGAN_MAPS[name]
    try:
        return organ_map_from_json(Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        presets = ", ".join(ORGAN_MAPS)
        raise ConfigError(f"No organ map {name!r}: expected one of {presets}, or a readable JSON file.") from error


def holders_of(structure: str) -> tuple[str, ...]:
    """The larger structures that `PARENTS` puts it in, the nearest first."""
    holders: list[str] = []
    while structure in PARENTS:
        structure = PARENTS[structure]
        holders.append(structure)
    return tuple(holders)


def mirrored_structures() -> np.ndarray:
    """uint8 (256,): structure number -> its number in a mirrored study: sides swap, the middle lobe becomes left upper.

    Structures without a counterpart keep their number.
    """
    table = np.arange(256, dtype=np.uint8)
    for name, structure in BY_NAME.items():
        side = side_of(name)
        other = name.replace(side, "left" if side == "right" else "right") if side else name
        other = other.replace("middle_lobe_left", "upper_lobe_left")  # a left lung has no middle lobe
        table[structure.number] = BY_NAME.get(other, structure).number
    return table


def without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object in which no key hides an earlier one of the same name."""
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return dict(pairs)


@lru_cache(maxsize=4096)
def _organs_of(organs: OrganMap, structure: str) -> tuple[int, ...]:
    _require_structure(structure)
    table = organs.lut()
    for name in (structure, *holders_of(structure)):
        ids = {int(table[number]) for number in _meant_by(name)} - {0}
        if ids:
            return tuple(sorted(ids))
    return ()


def _meant_by(structure: str) -> frozenset[int]:
    """Label numbers that a word for a structure means."""
    own = {BY_NAME[structure].number} if structure in BY_NAME else set()
    return frozenset(own | (parts_of(structure) if structure in _WHOLES else set()))


def _numbers(organ: str, members: tuple[str, ...]) -> frozenset[int]:
    for member in members:
        _require_structure(member, f' in organ "{organ}"')
    return frozenset(number for member in members for number in parts_of(member))


def _require_structure(name: str, where: str = "") -> None:
    known = [*BY_NAME, *UNIONS]
    if name not in known:
        raise ConfigError(f'No structure "{name}"{where}{_closest(name, known)}; see core/structures.py for the names.')


def _closest(name: str, known: list[str] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f' (did you mean "{close[0]}"?)' if close else ""


_FVLM = {"lung": "lung", "heart": "heart", "esophagus": "esophagus", "aorta": "aorta"}
_MASKED = {
    **_FVLM,
    "trachea_bronchi": "airway",
    "pulmonary_vessels": "pulmonary_artery pulmonary_vein",
    "thyroid": "thyroid_gland",
    "liver": "liver",
    "gallbladder": "gallbladder",
    "spleen": "spleen",
    "stomach": "stomach",
    "pancreas": "pancreas",
    "kidney": "kidney kidney_cyst_left kidney_cyst_right",
    "adrenal": "adrenal_gland",
    "vertebrae": "spine",
    "rib_sternum_clavicle_scapula": (
        "ribs costal_cartilages sternum clavicula_left clavicula_right scapula_left scapula_right"
    ),
    "bowel": "small_bowel duodenum colon",
    "svc_ivc": "superior_vena_cava inferior_vena_cava",
}
_WITHOUT_MASK = {
    "mediastinum_other": "mediastinum",
    "pleura": "pleura",
    "breast": "breast",
}
_CANONICAL = (
    "lung heart esophagus aorta trachea_bronchi pulmonary_vessels mediastinum_other thyroid liver gallbladder spleen "
    "stomach pancreas kidney adrenal vertebrae rib_sternum_clavicle_scapula bowel svc_ivc pleura breast"
).split()

ORGAN_MAPS: dict[str, OrganMap] = {
    "asap9": organ_map({name: name for name in (*LOBES, "heart", "aorta", "trachea")}),
    "fvlm4": organ_map(_FVLM),
    "asg": organ_map(_MASKED),
    "asg_lobes": organ_map({**{lobe: lobe for lobe in LOBES}, **{k: v for k, v in _MASKED.items() if k != "lung"}}),
    "canonical": organ_map({name: (_MASKED | _WITHOUT_MASK)[name] for name in _CANONICAL}),
}
"""asap9: ASAP's eight classes beside background. fvlm4: fVLM's and ViSD-Boost's organs. canonical: all 21 organs that
texts are sorted into. asg: those of them that TotalSegmentator has a mask for; asg_lobes: with the five lobes apart."""
