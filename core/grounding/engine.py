"""What every grounding engine offers: patches of a CT and sentences as vectors on the same footing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from core.anatomy.masks import OrganMasks
from core.progress import Progress, silent
from core.volume import Grid, Volume


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """A CT as an engine sees it."""

    vectors: np.ndarray
    """(X, Y, Z, D) float32, unit length along D: one vector per patch, axes RAS."""
    grid: Grid
    """Where the patch centres lie in the patient."""
    covered: np.ndarray
    """(X, Y, Z) bool, True = the patch saw voxels of the CT and not only padding."""
    study_vector: np.ndarray
    """(D,) float32, unit length: the whole CT, comparable with `embed_report`."""
    engine: str
    """Name of the engine that made it."""


class GroundingEngine(Protocol):
    """Turns a CT into patch vectors and a sentence into a vector of the same space."""

    name: str

    def embed_volume(
        self, volume: Volume, masks: OrganMasks | None = None, progress: Progress = silent
    ) -> PatchFeatures:
        """Patch vectors of a CT; `masks`, when given, may place the field of view."""
        ...

    def embed_sentences(self, sentences: Sequence[str]) -> np.ndarray:
        """(S, D) float32 unit vectors, one per sentence, to compare with patch vectors by dot product."""
        ...

    def embed_report(self, sentences: Sequence[str]) -> np.ndarray:
        """(D,) float32 unit vector of a whole report, to compare with `study_vector`."""
        ...

    def presence_probability(self, score: float, negated_score: float) -> float:
        """Chance in [0, 1] that a finding is there, from its score and that of its negation."""
        ...
