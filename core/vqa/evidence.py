"""What a question is answered from, and what an answer is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from core.anatomy.masks import OrganMasks
from core.anatomy.measure import OrganMeasure
from core.grounding.heatmap import SentenceGrounding
from core.report.parsed import ParsedReport
from core.retrieval.results import Hit
from core.structures import BY_NAME, BY_NUMBER, parts_of
from core.volume import Grid

Point = tuple[float, float, float]
Ground = Callable[[str], SentenceGrounding]
"""Finds where a sentence lives in the open CT; raises EngineError where no engine can run."""
Source = Literal["report", "masks", "heat map", "retrieved report", ""]


NEAR_MM = 10.0
"""A peak this close to an organ counts as in it: heat maps are coarse."""


class Measurement(NamedTuple):
    """A number that never goes without what it counts."""

    value: float
    unit: str  # "mm", "mL" or "HU"; for numbers without a unit what they are: "cardiothoracic ratio", "count"

    def __str__(self) -> str:
        if self.unit not in ("mm", "mL", "HU"):
            return f"{self.unit} {self.value:.2f}".removesuffix(".00")
        digits = 0 if abs(self.value) >= 100 else 1
        return f"{self.value:,.{digits}f}".removesuffix(".0") + f" {self.unit}"


@dataclass(frozen=True)
class Evidence:
    """One thing an answer rests on, and where the viewer jumps to see it."""

    source: Source
    """Kind of evidence."""
    organ: str = ""
    """Name of `core.structures`, or ""."""
    peak_ras_mm: Point | None = None
    """Patient mm to jump to: a heat map's peak, or an organ's centre."""
    measurement: Measurement | None = None
    """What was measured or stated."""
    sentence: int | None = None
    """Number of the report's sentence, from 1."""

    @property
    def label(self) -> str:
        """The source in words: "report sentence 3", "masks", "heat map", "retrieved report"."""
        return f"report sentence {self.sentence}" if self.source == "report" and self.sentence else self.source


@dataclass(frozen=True)
class Answer:
    """What is told, how sure, and on what grounds."""

    text: str
    """The answer in words; every number has its unit."""
    confidence: float
    """In [0, 1]; 0 when abstained."""
    evidence: Evidence
    """The main ground; its place is where the viewer jumps."""
    abstained: bool = False
    """True = the case does not tell, and nothing was guessed."""
    also: tuple[Evidence, ...] = ()
    """Further grounds, agreeing or not."""


@dataclass(frozen=True, eq=False)
class CaseEvidence:
    """What is known of the open case. Everything may be missing."""

    report: ParsedReport | None = None
    """The parsed report."""
    measures: tuple[OrganMeasure, ...] = ()
    """Measured organs."""
    masks: OrganMasks | None = None
    """Organ masks on `grid`."""
    grid: Grid | None = None
    """The grid of the masks (the Volume's RAS grid)."""
    ground: Ground | None = None
    """Heat map of any sentence."""
    retrieved: tuple[Hit, ...] = ()
    """Reports of similar cases, best first; they say nothing about this patient."""

    def measure(self, name: str) -> OrganMeasure | None:
        """The measure of a structure, or None."""
        return next((measure for measure in self.measures if measure.name == name), None)

    def place_of(self, names: tuple[str, ...]) -> tuple[str, Point | None]:
        """The first of the structures that was measured, or one that holds or belongs to it, with its centre.

        Both lungs, or both pleural spaces, are "lung": neither side is preferred.
        """
        is_both = {"lung_left", "lung_right"} <= set(names)
        for name in ("lung", *names) if is_both else names:
            measure = self.measure(name) or self._relative_of(name)
            if measure:
                return name, measure.centroid_ras_mm
        return (names[0] if names and not is_both else ""), None

    def is_near(self, point_mm: Point, names: tuple[str, ...], within_mm: float = NEAR_MM) -> bool | None:
        """Whether one of the structures has voxels in the box of half-width `within_mm` around a patient point.

        None when it cannot be told: no masks, or none of the structures, nor one that holds them, among them.
        """
        if self.masks is None or self.grid is None:
            return None
        wanted = set().union(*(parts_of(name) for name in names))
        known = [n for n in self.masks.numbers() if parts_of(BY_NUMBER[n].name) & wanted]
        if not known:
            return None
        reach = [int(np.ceil(within_mm / step)) for step in self.grid.spacing_mm]
        at = self.grid.nearest_voxel(point_mm)
        box = tuple(slice(max(0, i - r), i + r + 1) for i, r in zip(at, reach, strict=True))
        return bool(np.isin(self.masks.labels[box], known).any())

    def _relative_of(self, name: str) -> OrganMeasure | None:
        """The largest measured structure that shares a label with `name`; a lobe may stand for its lung."""
        wanted = parts_of(name)
        near = [m for m in self.measures if m.name in BY_NAME and wanted & parts_of(m.name)]
        return max(near, key=lambda measure: measure.voxels, default=None)

    def organ_at(self, point_mm: Point) -> str:
        """The structure at a patient point, or "" without masks, outside them, or in none."""
        if self.masks is None or self.grid is None:
            return ""
        inside = all(-0.5 <= i <= n - 0.5 for i, n in zip(self.grid.to_voxel(point_mm), self.grid.shape, strict=True))
        return self.masks.name_at(self.grid.nearest_voxel(point_mm)) if inside else ""


def describe_answer(answer: Answer) -> dict[str, Any]:
    """The answer as the JSON document of the command line's `ask`."""
    return {
        "answer": answer.text,
        "confidence": round(answer.confidence, 3),
        "evidence": describe_evidence(answer.evidence),
        "also": [describe_evidence(one) for one in answer.also],
        "abstained": answer.abstained,
    }


def describe_evidence(evidence: Evidence) -> dict[str, Any]:
    """One ground as JSON; what is unknown is null, the measurement a string with its unit."""
    measurement = evidence.measurement
    return {
        "organ": evidence.organ or None,
        "peak_ras_mm": [round(float(x), 2) for x in evidence.peak_ras_mm] if evidence.peak_ras_mm else None,
        "measurement": str(measurement) if measurement else None,
        "value": round(measurement.value, 3) if measurement else None,
        "unit": measurement.unit if measurement else None,
        "source": evidence.label or None,
        "sentence": evidence.sentence,
    }


CAN_BE_ASKED = (
    "You can ask whether a finding is there, where it is, on which side, how large, how many, for the volume or "
    "mean HU of an organ, or whether the left lung is smaller than the right."
)


def abstain(reason: str, *also: Evidence) -> Answer:
    """ "I can't tell", with the reason."""
    return Answer(f"I can't tell: {reason}", 0.0, Evidence(""), abstained=True, also=also)
