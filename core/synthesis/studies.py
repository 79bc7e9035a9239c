"""A study of the data engine: a varied patient, painted findings, and a report whose regions are known."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from core.report.parsed import Existence
from core.structures import parts_of
from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.lesions import MULTIPLE, insert_findings
from core.synthesis.mediastinum import NORMAL_RATIO, cardiothoracic_ratio
from core.synthesis.normality import NORMALITY
from core.synthesis.patients import Patient, ViewConfig, vary_patient
from core.synthesis.reports import GeneratedReport, write_report
from core.synthesis.scanner import degrade
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
    several_chance: float = 0.3
    """How often a kind of nodule (or mass) comes two or three times, in different lobes."""
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

        A sentence is true of every finding that its words fit: "a nodule in the left lung" of each one there, "a 12 mm
        nodule" of that one. A sentence with several facts is true where any of them is.
        """
        if statement.kind == "normal":
            return self.scene.mask(*statement.organs)
        region = np.zeros(self.scene.hu.shape, bool)
        for fact in statement.facts:
            for finding in self.meant(fact):
                region |= finding.mask
        return region

    def meant(self, fact: Statement) -> list[Finding]:
        """The painted findings of which a fact of a sentence is true; none for a denial or a normal organ."""
        if fact.existence == "absent":
            return []
        same_kind = [finding for finding in self.findings if finding.claim.kind == fact.kind]
        return [finding for finding in same_kind if _fits(finding.claim, fact)] or same_kind


def _fits(claim: Claim, fact: Statement) -> bool:
    """Whether the words of a fact are true of a finding: it lies where they say and has the size they tell."""
    if fact.size_mm is not None and claim.size_mm is not None and abs(fact.size_mm - claim.size_mm) > 0.01:
        return False
    named = {number for organ in fact.organs for number in parts_of(organ)}
    own = {number for organ in claim.organs for number in parts_of(organ)}
    return not named or own <= named


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
    """Kinds of finding, one of each CT-RATE label, so that no word fits two of them; some kinds several times."""
    count = int(rng.integers(config.findings[0], config.findings[1] + 1))
    names = list(KINDS)
    weights = np.array([_WEIGHTS.get(name, 0.8) for name in names])
    order = rng.choice(len(names), len(names), replace=False, p=weights / weights.sum())
    chosen: dict[str, str] = {}
    for place in order:
        if not any(pair <= {names[place], *chosen.values()} for pair in _ALIKE):
            chosen.setdefault(KINDS[names[place]].finding, names[place])
        if len(chosen) > count:
            break
    kinds = list(chosen.values())[:count]
    more = [kind for kind in kinds if kind in MULTIPLE and rng.random() < config.several_chance]
    return kinds + [kind for kind in more for _ in range(int(rng.integers(1, 3)))]


_ALIKE = tuple(
    frozenset(pair)
    for pair in (
        ("pleural effusion", "atelectasis"),
        ("pleural effusion", "consolidation"),
        ("consolidation", "atelectasis"),
        ("mosaic attenuation", "ground-glass opacity"),
        ("mosaic attenuation", "emphysema"),
        ("bronchiectasis", "bronchial wall thickening"),
        ("septal thickening", "fibrotic reticulation"),
        ("coronary calcification", "coronary stent"),
        ("aortic calcification", "aortic stent graft"),
    )
)
"""Kinds of which one is never painted beside the other: a reader could not say which voxels are whose."""

CONFUSED: dict[str, tuple[str, ...]] = {
    "pleural effusion": ("Atelectasis", "Consolidation", "Lung opacity"),
    "consolidation": ("Lung opacity", "Atelectasis", "lung mass"),
    "atelectasis": ("Consolidation", "Lung opacity", "Pulmonary fibrotic sequela"),
    "ground-glass opacity": ("Mosaic attenuation pattern", "Consolidation"),
    "mass": ("Lung nodule", "Consolidation", "Lung opacity"),
    "cavitary nodule": ("lung mass",),
    "solid nodule": ("lung mass", "Lung opacity"),
    "spiculated nodule": ("lung mass", "Lung opacity"),
    "ground-glass nodule": ("Lung opacity",),
    "part-solid nodule": ("Lung opacity",),
    "fibrotic band": ("Atelectasis", "Interlobular septal thickening"),
    "fibrotic reticulation": ("Interlobular septal thickening", "Lung opacity", "Bronchiectasis"),
    "septal thickening": ("Pulmonary fibrotic sequela",),
    "bronchiectasis": ("Peribronchial thickening",),
    "bronchial wall thickening": ("Bronchiectasis",),
    "mosaic attenuation": ("Emphysema", "Lung opacity"),
    "emphysema": ("Mosaic attenuation pattern", "pneumothorax"),
    "pneumothorax": ("Emphysema", "Atelectasis", "Lung opacity"),
    "pericardial effusion": ("Cardiomegaly",),
    "cardiomegaly": ("Pericardial effusion",),
    "coronary stent": ("Coronary artery wall calcification",),
    "aortic stent graft": ("Arterial wall calcification",),
}
"""Kind -> findings that come with it or look like it: they are neither claimed nor denied beside it."""


def _draw_denials(
    patient: Patient, scene: Scene, kinds: Sequence[str], config: StudyConfig, rng: np.random.Generator
) -> list[Claim]:
    """Findings that are truly not there, denied for the whole chest or for one place."""
    there = {KINDS[kind].finding for kind in (*kinds, *patient.never_denied)}
    there |= {finding for kind in kinds for finding in CONFUSED.get(kind, ())}
    free = [kind for kind in KINDS if KINDS[kind].finding not in there and _is_deniable(kind, scene)]
    count = min(len(free), int(rng.integers(config.denials[0], config.denials[1] + 1)))
    return [_denial(kind, scene, rng) for kind in rng.choice(free, count, replace=False).tolist()]


def _is_deniable(kind: str, scene: Scene) -> bool:
    if kind == "cardiomegaly":
        return 0 < cardiothoracic_ratio(scene) < NORMAL_RATIO
    return KINDS[kind].place != "organ" or bool(scene.mask(*_seen_with(kind)).any())


def _seen_with(kind: str) -> tuple[str, ...]:
    """Structures of which one must be in view for a kind to be denied; few label maps name the mediastinum."""
    organs = KINDS[kind].organs
    return ("trachea", "aorta") if organs == ("mediastinum",) else organs


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
