"""The organs of one study: from a mask file, a folder of mask files, or a segmentation engine."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.anatomy.engines import EnginePlaces, choose_segmenter
from core.anatomy.provided import lies_on, name_labels, read_label_map
from core.errors import ConfigError, StudyError
from core.preprocess import Spacing3
from core.reading.scan import Scan
from core.structures import BY_NAME
from core.volume import Grid, Volume, ras_grid
from trainers.preparation.tree import stem_of


class Organs(NamedTuple):
    """A mask as its file stores it."""

    structures: np.ndarray  # (I, J, K) uint8 numbers of core.structures
    grid: Grid  # where they lie, as the file says
    source: str  # file or engine
    notes: tuple[str, ...]


def read_names(path: Path | None) -> dict[int, str] | None:
    """A JSON file {"1": "heart", ...}: number in masks -> structure name; None means TotalSegmentator's numbers."""
    if path is None:
        return None
    try:
        told = {int(number): str(name) for number, name in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f'{path} is no table of label names ({error}). Expected {{"1": "heart", ...}}.') from error
    unknown = [name for name in told.values() if name not in BY_NAME]
    if unknown:
        raise ConfigError(f"{path} names {unknown[0]!r}, which is no structure; see core/structures.py for the names.")
    return told


def read_organs(path: Path, names: Mapping[int, str] | None) -> Organs:
    """A label map, or a folder with one mask per structure; StudyError when it cannot be used."""
    if path.is_file():
        numbers, grid = read_label_map(path)
        structures, notes = name_labels(numbers, names, path.name)
        return Organs(structures, grid, path.name, notes)
    files = [file for file in sorted(path.iterdir()) if stem_of(file.name) in BY_NAME]
    structures, grid = _read_one(files[0])
    for file in files[1:]:
        more, other = _read_one(file)
        if not lies_on(other, grid):
            raise StudyError(f"{path.name}: {file.name} is not on the grid of {files[0].name}. Segment the CT again.")
        structures = np.where(more > 0, more, structures)
    return Organs(structures, grid, f"{path.name}/", ())


def segment_organs(engine: str, scan: Scan, places: EnginePlaces) -> Organs:
    """Organs by an engine of this project, on the CT's own grid."""
    volume = Volume.from_source(scan.values, scan.affine)
    masks = choose_segmenter(engine, places).segment(volume)
    return Organs(volume.to_source(masks.labels), volume.source, masks.engine, masks.notes)


def is_prepared(grid: Grid, spacing_mm: Spacing3, shape: tuple[int, ...]) -> bool:
    """Whether a mask was made on the prepared CT, as ASAP's published masks are, rather than on the CT itself."""
    turned = ras_grid(grid)
    return turned.shape == tuple(shape) and np.allclose(turned.spacing_mm, spacing_mm, rtol=0.01)


def _read_one(file: Path) -> tuple[np.ndarray, Grid]:
    """One structure's mask, above 0 = inside, as its number."""
    numbers, grid = read_label_map(file)
    return np.where(numbers > 0, np.uint8(BY_NAME[stem_of(file.name)].number), np.uint8(0)), grid
