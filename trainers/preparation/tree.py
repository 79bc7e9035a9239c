"""Which files of a tree are studies, what they are called, and which mask belongs to which."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from core.errors import ConfigError
from core.structures import BY_NAME
from trainers.preparation.metadata import HeaderRow

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
IdRule = Literal["name", "path"]


class Job(NamedTuple):
    """One study to prepare; small, so that it can be sent to another machine."""

    study_id: str
    volume: Path
    name: str  # of the volume below the root, for people
    mask: Path | None = None  # a label map, or a folder of one mask file per structure
    row: HeaderRow | None = None  # what the metadata table says of its header


def find_jobs(
    root: Path, masks: Path | None = None, rows: Mapping[str, HeaderRow] | None = None, ids: IdRule = "name"
) -> list[Job]:
    """Every CT below `root` at any depth, sorted by name, with its mask and its row of the table.

    A mask has the same path below `masks` as the CT, else the same file name, else is a folder of that name with a
    file per structure. ids "name": the file's name; "path": its path with "__" for "/". ConfigError where two studies
    would share a name or nothing is found.
    """
    files = [file for file in _files_below(root) if masks is None or not file.is_relative_to(masks)]
    if not files:
        raise ConfigError(f"There is no CT below {root}; expected files ending in {', '.join(SUFFIXES)}.")
    names = [str(file.relative_to(root)) for file in files]
    chosen = [stem_of(name.replace("/", "__") if ids == "path" else Path(name).name) for name in names]
    repeated = [study_id for study_id, count in Counter(chosen).items() if count > 1]
    if repeated:
        raise ConfigError(f"{len(repeated)} names occur more than once below {root} ({repeated[0]}). Use --ids path.")
    found = MaskTree(masks) if masks is not None else None
    rows = rows or {}
    return [
        Job(study_id, file, name, found.find(name) if found else None, rows.get(stem_of(file.name)))
        for study_id, file, name in zip(chosen, files, names, strict=True)
    ]


def stem_of(name: str) -> str:
    """A file's name without its ending: "train_1_a_1.nii.gz" -> "train_1_a_1"."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


class MaskTree:
    """The masks below a folder by path, by name, and as folders of one file per structure."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ConfigError(f"No folder of masks at {root}.")
        self._by_path: dict[str, Path] = {}
        self._by_name: dict[str, list[Path]] = {}
        for file in _files_below(root):
            place = file
            if stem_of(file.name) in BY_NAME:  # TotalSegmentator's way: ID/[segmentations/]lung_upper_lobe_left.nii.gz
                place = file.parent
            inner = place.parent if place.name == "segmentations" else place
            self._by_path[stem_of(str(inner.relative_to(root)))] = place
            known = self._by_name.setdefault(stem_of(inner.name), [])
            if place not in known[-1:]:
                known.append(place)

    def find(self, name: str) -> Path | None:
        """The mask of the CT `name`, its path below the root of CTs; None without one, ConfigError for several."""
        stem = stem_of(name)
        if stem in self._by_path:
            return self._by_path[stem]
        same = self._by_name.get(Path(stem).name, [])
        if len(same) > 1:
            raise ConfigError(f"{len(same)} masks are called like {name}: {same[0]}, {same[1]}. Keep one.")
        return same[0] if same else None


def _files_below(root: Path) -> list[Path]:
    """Files with a known ending, sorted; links to folders and hidden names are left out."""
    if not root.is_dir():
        raise ConfigError(f"There is no folder {root}.")
    return sorted(_walk(root))


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            Path(folder) / name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        )
