"""A study of the data engine: a varied patient, painted findings, and a report whose regions are known."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from core.report.parsed import Existence
from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.lesions import insert_findings
from core.synthesis.mediastinum import NORMAL_RATIO, cardiothoracic_ratio
from core.synthesis.normality import NORMALITY
from core.synthesis.patients import Patient, ViewConfig, degrade, vary_patient
from core.synthesis.reports import GeneratedReport, write_report
from core.synthesis.scene import Finding, Scene
from core.synthesis.statement import Statement
from core.synthesis.zones import zones_of

_WEIGHTS = {
    "solid nodule": 3.0,
    "spiculated nodule": 3.0,
    "mass": 2.0,
    "pleural effusion": 2.5,
    "consolidation": 2.0,
    "ground-glass opacity": 2.0,
    "atelectasis": 1.5,
    "emphysema": 1.5,
    "cardiomegaly": 1.0,
}
"""How often a kind is painted relative to the others, which weigh 0.8."""


@dataclass(frozen=True)
class StudyConfig:
    """What a study holds."""

    view: ViewConfig = field(default_factory=ViewConfig)
    """Grid and variation of the anatomy."""
    findings: tuple[int, int] = (0, 4)
    """Fewest and most findings painted."""
    denials: tuple[int, int] = (1, 4)
    """Fewest and most findings denied."""
    normals: tuple[int, int] = (1, 3)
    """Fewest and most structures called normal."""
    uncertain_chance: float = 0.08
    """How often a painted finding is only suspected in words."""


@dataclass(frozen=True, eq=False)
class SyntheticStudy:
    """A CT, a report, and where each sentence of it is true."""

    study_id: str
    scene: Scene
    findings: tuple[Finding, ...]
    report: GeneratedReport

    def region(self, statement: Statement) -> np.ndarray:
        """Where a sentence is true: (X, Y, Z) bool; all False for a denial. A normal organ is its own region.

        A sentence with several findings is true where any of them is.
        """
        if statement.kind == "normal":
            return self.scene.mask(*statement.organs)
        region = np.zeros(self.scene.hu.shape, bool)
        kinds = {fact.kind for fact in statement.facts if fact.existence != "absent"}
        for finding in self.findings:
            if finding.claim.kind in kinds:
                region |= finding.mask
        return region


def make_study(patient: Patient, config: StudyConfig, rng: np.random.Generator, study_id: str = "") -> SyntheticStudy:
    """Vary the patient, paint random findings, write the report. The generator's state decides everything."""
    scene = vary_patient(patient, config.view, rng)
    kinds = _draw_kinds(config, rng)
    findings = insert_findings(scene, kinds, rng)
    denied = _draw_denials(patient, scene, kinds, config, rng)
    degrade(scene, config.view, rng)
    told = [replace(finding.claim, zones=zones_of(scene, finding)) for finding in findings]
    claims = [_worded(claim, config, rng) for claim in told] + denied
    normal = _draw_normals(scene, findings, kinds, config, rng)
    report = write_report(claims, normal, rng, study_id, is_mixed=bool(rng.random() < 0.7))
    return SyntheticStudy(study_id, scene, tuple(findings), report)


def _draw_kinds(config: StudyConfig, rng: np.random.Generator) -> list[str]:
    """Different kinds of finding, at most one of each CT-RATE label, so that every sentence has one region."""
    count = int(rng.integers(config.findings[0], config.findings[1] + 1))
    names = list(KINDS)
    weights = np.array([_WEIGHTS.get(name, 0.8) for name in names])
    order = rng.choice(len(names), len(names), replace=False, p=weights / weights.sum())
    chosen: dict[str, str] = {}
    for place in order:
        chosen.setdefault(KINDS[names[place]].finding, names[place])
        if len(chosen) > count:
            break
    return list(chosen.values())[:count]


def _draw_denials(
    patient: Patient, scene: Scene, kinds: Sequence[str], config: StudyConfig, rng: np.random.Generator
) -> list[Claim]:
    """Findings that are truly not there, denied for the whole chest or for one place."""
    there = {KINDS[kind].finding for kind in (*kinds, *patient.never_denied)}
    free = [kind for kind in KINDS if KINDS[kind].finding not in there and _is_deniable(kind, scene)]
    count = min(len(free), int(rng.integers(config.denials[0], config.denials[1] + 1)))
    return [_denial(kind, scene, rng) for kind in rng.choice(free, count, replace=False).tolist()]


def _is_deniable(kind: str, scene: Scene) -> bool:
    if kind == "cardiomegaly":
        return 0 < cardiothoracic_ratio(scene) < NORMAL_RATIO
    return KINDS[kind].place != "organ" or kind == "lymph node" or bool(scene.mask(*KINDS[kind].organs).any())


def _denial(kind: str, scene: Scene, rng: np.random.Generator) -> Claim:
    entry = KINDS[kind]
    if entry.place == "organ":
        return Claim(kind, "absent", entry.organs)
    places = scene.lobes() if entry.place == "lobe" else list(entry.organs)
    if rng.random() < 0.6 or not places:
        return Claim(kind, "absent")
    organs = (places[rng.integers(len(places))],)
    return Claim(kind, "absent", organs, side_of_organs(organs))


def _worded(claim: Claim, config: StudyConfig, rng: np.random.Generator) -> Claim:
    """The claim as the report will put it: sometimes unsure, often without the measurement."""
    existence: Existence = "uncertain" if rng.random() < config.uncertain_chance else "present"
    says_size = rng.random() < (0.25 if KINDS[claim.kind].grades else 0.7)
    if says_size:
        return replace(claim, existence=existence)
    return replace(claim, existence=existence, size_mm=None, second_mm=None, third_mm=None)


def _draw_normals(
    scene: Scene, findings: Sequence[Finding], kinds: Sequence[str], config: StudyConfig, rng: np.random.Generator
) -> list[str]:
    """Structures in view that no finding touches."""
    touched = {organ for finding in findings for organ in finding.claim.organs}
    touched |= {organ for kind in kinds if KINDS[kind].place == "organ" for organ in KINDS[kind].organs}
    sides = {finding.claim.laterality for finding in findings if KINDS[finding.claim.kind].place != "organ"}
    volume = scene.volumes_ml()
    free = [name for name in NORMALITY if name not in touched and volume[name] > 5.0]
    free = [name for name in free if not name.startswith("lung") or _is_clear(name, sides)]
    count = min(len(free), int(rng.integers(config.normals[0], config.normals[1] + 1)))
    return rng.choice(free, count, replace=False).tolist()


def _is_clear(lung: str, sides: Collection[str]) -> bool:
    """Whether a lung (or both, for "lung") holds none of the findings on `sides`."""
    if lung == "lung":
        return not sides
    return "bilateral" not in sides and lung.removeprefix("lung_") not in sides
