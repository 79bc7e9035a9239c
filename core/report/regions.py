"""Regions of the body as paths of words ("lung/left lung/left upper lobe"), and the organs of a recipe that they mean.

The paths of RadGenome-ChestCT ("lung/lung/left lung", "mediastinum/aorta", "pleura/pleura") are read as well.
"""

from functools import lru_cache

from core.organ_map import OrganMap, holders_of
from core.report.organs import find_organs
from core.report.words import split_tokens
from core.structures import BY_NAME, UNIONS, spoken_name

MOST_CHARACTERS = 300
"""A longer path is none."""

_NAMES = {spoken_name(name): name for name in [*UNIONS, *BY_NAME]} | {
    "bronchie": "airway",
    "bronchi": "airway",
    "trachea and bronchie": "trachea",
    "bone": "bones",
    "intestine": "small_bowel",
    "large bowel": "colon",
    "large intestine": "colon",
    "abdomen": "body",
    "mediastinal tissue": "mediastinum",
}
"""Words that mean one structure as they stand; others are read as the sentences of a report are."""

_ROOTS = {
    "bone": ("spine", "ribs", "sternum", "clavicula", "scapula", "humerus", "femur", "hip", "skull"),
    "abdomen": (
        ("liver", "gallbladder", "spleen", "stomach", "pancreas", "kidney", "adrenal", "small_bowel", "duodenum")
        + ("colon", "urinary_bladder", "prostate", "portal_vein", "iliac_", "inferior_vena_cava", "iliopsoas")
    ),
}
"""First word of a path -> how the names of the structures below it begin; nothing is inferred from it."""


def path_of(structure: str) -> str:
    """The path of a structure or union: lung_lower_lobe_left -> "lung/left lung/left lower lobe"."""
    parts = [*reversed(holders_of(structure)), structure]
    root = [word for word, starts in _ROOTS.items() if parts[0].startswith(starts)]
    return "/".join([*root, *map(spoken_name, parts)])


def structures_named(words: str) -> tuple[str, ...]:
    """Structures that a phrase or sentence names, as names of `core.structures`, in order of appearance."""
    plain = " ".join(words.lower().split())
    if plain in BY_NAME or plain in UNIONS:
        return (plain,)
    if plain in _NAMES:
        return (_NAMES[plain],)
    mentions = find_organs(words, split_tokens(words))
    return tuple(dict.fromkeys(name for mention in mentions for name in mention.names))


def organs_named(words: str, organs: OrganMap) -> tuple[int, ...]:
    """Organ ids that a phrase or sentence speaks of, in order of id, by `OrganMap.organs_of`."""
    ids = {organ for name in structures_named(words) for organ in organs.organs_of(name)}
    return tuple(sorted(ids))


@lru_cache(maxsize=65536)
def organs_of_path(path: str, organs: OrganMap) -> tuple[int, ...]:
    """Organ ids that a region path means: those of its deepest part that has any in `organs`; () when none has.

    "" is the whole report and means no organ. A part that names several structures ("left lung upper lobe") means
    the smallest of them. "bone" and "abdomen" mean their organs only at the end of a path: a humerus is no rib.
    """
    parts = path[:MOST_CHARACTERS].split("/")
    for place, part in reversed(list(enumerate(parts))):
        if part.strip().lower() in _ROOTS and place < len(parts) - 1:
            continue
        ids = {organ for name in _deepest(structures_named(part)) for organ in organs.organs_of(name)}
        if ids:
            return tuple(sorted(ids))
    return ()


def _deepest(names: tuple[str, ...]) -> list[str]:
    """The names without those that hold another of them."""
    holders = {holder for name in names for holder in holders_of(name)}
    return [name for name in names if name not in holders]
