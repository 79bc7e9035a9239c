"""What every segmentation engine returns: one label map on the CT's own grid."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from core.progress import Progress, silent
from core.structures import BY_NUMBER, STRUCTURES, parts_of
from core.volume import Volume


@dataclass(frozen=True, eq=False)
class OrganMasks:
    """Organs of one CT. Each voxel belongs to one structure or to none."""

    labels: np.ndarray
    """(X, Y, Z) uint8 on the Volume's RAS grid; 0 = nothing, else a number of `core.structures`."""
    engine: str
    """Name of the engine that made them."""
    missing: dict[str, str] = field(default_factory=dict)
    """Structure that was looked for and not found -> why, in words for the page."""
    notes: tuple[str, ...] = ()
    """What a person should know about these masks."""

    def mask(self, name: str) -> np.ndarray:
        """Where the structure or union `name` is: (X, Y, Z) bool, True = inside; all False when absent."""
        member = np.zeros(256, bool)
        member[list(parts_of(name))] = True
        return member[self.labels]

    def numbers(self) -> list[int]:
        """Label numbers that occur, ascending, without 0."""
        counts = np.bincount(self.labels.ravel(), minlength=256)
        return [int(number) for number in np.flatnonzero(counts) if number]

    def names(self) -> list[str]:
        """Structures that occur, in the order of the table."""
        present = set(self.numbers())
        return [structure.name for structure in STRUCTURES if structure.number in present]

    def name_at(self, voxel: tuple[int, int, int]) -> str:
        """Structure at a voxel of the RAS grid, or "" for none."""
        number = int(self.labels[voxel])
        return BY_NUMBER[number].name if number else ""


class Segmenter(Protocol):
    """One way to find organs in a CT."""

    name: str

    def segment(self, volume: Volume, progress: Progress = silent) -> OrganMasks:
        """Organ masks on `volume`'s grid. Raises EngineError where it cannot run."""
        ...
