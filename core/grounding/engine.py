"""What every grounding engine offers: patches of a CT and sentences as vectors on the same footing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from core.anatomy.masks import OrganMasks
from core.organ_map import OrganMap
from core.progress import Progress, silent
from core.volume import Grid, Volume


class Readable(NamedTuple):
    """What of a CT a sentence can be compared with."""

    vectors: np.ndarray  # (X, Y, Z, D) float32 unit vectors
    covered: np.ndarray  # (X, Y, Z) bool, True = there is something to compare with
    organ: np.ndarray | None  # (X, Y, Z) int64, as which of the engine's organs a patch is read; None = as none


@dataclass(frozen=True, eq=False)
class OrganFeatures:
    """A CT as an engine sees it that compares organs, not places, with texts."""

    organs: OrganMap
    """Which organs, and what they are made of."""
    vectors: np.ndarray
    """(O, X, Y, Z, D) float32 unit vectors: each patch read as if it alone were the organ."""
    shares: np.ndarray
    """(O, X, Y, Z) float32 in [0, 1]: how much of each patch is the organ."""
    whole: np.ndarray
    """(O, D) float32 unit vectors of the organs themselves; 0 where one is absent."""

    def named(self, structures: Sequence[str]) -> tuple[int, ...]:
        """The engine's organs, 0-based, of a sentence about `structures`; all for a sentence about none."""
        if not structures:
            return tuple(range(len(self.organs)))
        return tuple(sorted({organ - 1 for name in structures for organ in self.organs.organs_of(name)}))

    def read_as(self, organs: Sequence[int]) -> Readable:
        """Each patch as that one of some organs which fills the most of it; nothing is covered where none does."""
        shares = self.shares[list(organs)] if organs else np.zeros((1, *self.shares.shape[1:]), np.float32)
        owner = np.array(organs or (0,), np.int64)[shares.argmax(axis=0)]
        vectors = np.take_along_axis(self.vectors, owner[None, ..., None], axis=0)[0]
        return Readable(vectors, shares.max(axis=0) > 0, owner)


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
    organs: OrganFeatures | None = None
    """What an engine sees that compares organs with texts; `vectors` are then each patch as what fills most of it."""

    def readable(self, structures: Sequence[str]) -> Readable:
        """What a sentence that names some structures of `core.structures` can be compared with."""
        if self.organs is None:
            return Readable(self.vectors, self.covered, None)
        found = self.organs.read_as(self.organs.named(structures))
        return found._replace(covered=found.covered & self.covered)

    def are_rivals(self, structures: Sequence[str], others: Sequence[str]) -> bool:
        """Whether what sentences about these structures score can be held against each other."""
        if self.organs is None:
            return True
        return bool(set(self.organs.named(structures)) & set(self.organs.named(others)))


class GroundingEngine(Protocol):
    """Turns a CT into patch vectors and a sentence into a vector of the same space."""

    name: str
    needs_masks: bool
    """Whether `embed_volume` refuses a CT without organ masks."""

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


@runtime_checkable
class ReadsAlone(Protocol):
    """An engine whose scores are trained for sentences asked one by one: what a report says besides changes nothing."""

    reads_alone: bool


class OrganPrompt(NamedTuple):
    """How a finding is asked of an organ."""

    organ: str
    positive: str
    negative: str


@runtime_checkable
class OrganJudge(Protocol):
    """An engine with a published way to judge findings, organ by organ; it needs organ masks."""

    def prompts(self) -> Mapping[str, OrganPrompt]:
        """Finding -> how it is asked, for the findings that this engine can judge."""
        ...

    def judge_findings(
        self, volume: Volume, masks: OrganMasks | None, progress: Progress = silent
    ) -> Mapping[str, float]:
        """Finding -> probability in [0, 1], for those whose organ is in the CT. StudyError without any organ."""
        ...
