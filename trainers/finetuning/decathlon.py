"""Lists of segmented CTs as the Medical Segmentation Decathlon writes them (ASAP spec 6.3).

{"labels": {"0": "background", "1": "left lung"}, "training": [{"image": "a.nii.gz", "label": "b.nii.gz"}],
"validation": [...], "testing": [...]}; paths are relative to one root.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.errors import ConfigError
from trainers.finetuning.volumes import stem_of

SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}


class SegCase(NamedTuple):
    """One CT and its labels."""

    image: Path
    label: Path

    @property
    def name(self) -> str:
        """The CT's file name without ending; a patient's name begins it."""
        return stem_of(self.image.name)


class SegLists(NamedTuple):
    """What a list file holds."""

    classes: tuple[str, ...]  # background first
    train: tuple[SegCase, ...]
    val: tuple[SegCase, ...]
    test: tuple[SegCase, ...]
    skipped: dict[str, str]  # case -> why it is left out
    notes: tuple[str, ...]


def read_decathlon(path: Path, root: Path | None = None) -> SegLists:
    """Read a list; `root` is where its paths begin, None = the list's folder. Cases without files are left out.

    Raises ConfigError for a file that is no such list, or whose labels are not numbered from 0 without gaps.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"The list {path} cannot be read ({error}); expected decathlon JSON.") from error
    if not isinstance(told, dict) or not isinstance(told.get("training"), list):
        raise ConfigError(f'{path.name} has no "training"; expected {{"labels": {{...}}, "training": [...]}}.')
    classes, notes = _read_classes(path, told.get("labels")), list[str]()
    skipped: dict[str, str] = {}
    sides = []
    for key in ("training", "validation", "testing"):
        cases, bare = _read_cases(path, told.get(key, told.get("test", []) if key == "testing" else []), key)
        if bare:
            notes.append(f"{bare} images of {key} have no labels and are not used.")
        placed = [SegCase((root or path.parent) / image, (root or path.parent) / label) for image, label in cases]
        sides.append(tuple(case for case in placed if not _note_missing(case, skipped)))
    if not sides[0]:
        first = next(iter(skipped.items()), ("none", "the list is empty"))
        raise ConfigError(f"No training case of {path.name} has its files. The first: {first[0]}: {first[1]}.")
    return SegLists(classes, sides[0], sides[1], sides[2], skipped, tuple(notes))


def side_swap(classes: Sequence[str]) -> np.ndarray | None:
    """Class number -> class number in a mirrored CT, uint8 (C,); None when a left or right has no counterpart.

    Sides are told by the words left, right, l and r in a class's name.
    """
    known = [_words(name) for name in classes]
    table = np.arange(len(classes), dtype=np.uint8)
    for number, words in enumerate(known):
        mirrored = tuple(SIDES.get(word, word) for word in words)
        if mirrored != words:
            if mirrored not in known:
                return None
            table[number] = known.index(mirrored)
    return table


def _words(name: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9]+", name.lower()))


def _read_classes(path: Path, labels: Any) -> tuple[str, ...]:
    """Names by number, from {"0": "background"} or {"background": 0}."""
    expected = 'expected "labels": {"0": "background", "1": ...}, numbered without gaps, each name once'
    if not isinstance(labels, Mapping) or not labels:
        raise ConfigError(f"{path.name} names no labels; {expected}.")
    try:
        named = {int(key): str(value) for key, value in labels.items()}
    except ValueError:
        try:
            named = {int(value): str(key) for key, value in labels.items()}
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path.name} has labels without numbers; {expected}.") from error
    names = tuple(named[number] for number in sorted(named))
    if sorted(named) != list(range(len(names))) or len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"{path.name} has the labels {dict(sorted(named.items()))}; {expected}.")
    return names


def _read_cases(path: Path, items: Any, key: str) -> tuple[list[tuple[str, str]], int]:
    """Pairs of image and label, and how many images have no label."""
    if not isinstance(items, list):
        raise ConfigError(f'"{key}" of {path.name} is no list.')
    pairs, bare = [], 0
    for item in items:
        if isinstance(item, str) or (isinstance(item, dict) and "image" in item and "label" not in item):
            bare += 1
        elif isinstance(item, dict) and isinstance(item.get("image"), str) and isinstance(item.get("label"), str):
            pairs.append((item["image"], item["label"]))
        else:
            raise ConfigError(f'"{key}" of {path.name} has {item!r}; expected {{"image": PATH, "label": PATH}}.')
    return pairs, bare


def _note_missing(case: SegCase, skipped: dict[str, str]) -> bool:
    absent = next((file for file in case if not file.is_file()), None)
    if absent is not None:
        skipped[case.name] = f"no file {absent.name} in {absent.parent.name}"
    return absent is not None
