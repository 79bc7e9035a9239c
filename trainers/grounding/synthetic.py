"""Cases from the data engine: findings painted into a patient, whose every voxel is known."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from core.anatomy.masks import OrganMasks
from core.errors import ConfigError
from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.mediastinum import NORMAL_RATIO, cardiothoracic_ratio
from core.synthesis.patients import Patient
from core.synthesis.sentences import write_sentence
from core.synthesis.statement import Statement
from core.synthesis.studies import StudyConfig, SyntheticStudy, make_study
from core.volume import Volume
from trainers.grounding.cases import Case, OpenedCase, Question, Sentence, Truth, read_as_page
from trainers.patients import read_patient


@dataclass(frozen=True)
class SyntheticConfig:
    """Which studies are made."""

    patients: tuple[Path, ...] = ()
    """Folders that trainers.patients wrote, of patients that no training study came from; used in turn."""
    count: int = 40
    """Studies."""
    seed: int = 1000
    """Of the studies; another one than in training."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """What a study holds."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"count is {self.count}; expected at least one study.")


def synthetic_cases(config: SyntheticConfig, false_sentences: int) -> Iterator[Case]:
    """One case a study, each a function of the seed and its number; `false_sentences` questions each that are false.

    Every study is its own cluster: with one patient, intervals hold for other findings in this patient, not for others.
    """
    patients = [read_patient(folder) for folder in config.patients]
    told = json.dumps([asdict(config), false_sentences], default=str)
    for number in range(config.count if patients else 0):
        patient = patients[number % len(patients)]
        name = f"{patient.name}-{config.seed}-{number:04d}"
        yield Case(name, name, told, _Maker(patient, config, number, false_sentences))


@dataclass(frozen=True, eq=False)
class _Maker:
    """Makes one study when called."""

    patient: Patient
    config: SyntheticConfig
    number: int
    false_sentences: int

    def __call__(self) -> OpenedCase:
        rng = np.random.default_rng([self.config.seed, self.number])
        study = make_study(self.patient, self.config.study, rng)
        scene = study.scene
        volume = Volume(np.rint(np.clip(scene.hu, -1024, 3071)).astype(np.int16), scene.grid, scene.grid)
        told = [one for one in study.report.statements if one.existence == "present" and not one.also]
        truths = tuple(_truth(study, statement) for statement in told)
        free = _kinds_that_are_false(self.patient, study)
        questions = tuple(_questions(study, rng.permutation(free)[: self.false_sentences].tolist(), rng))
        return OpenedCase(volume, OrganMasks(scene.labels, "truth"), truths, questions)


def _truth(study: SyntheticStudy, statement: Statement) -> Truth:
    def region(_volume: Volume) -> np.ndarray:
        return study.region(statement)

    return Truth(_sentence(statement), "data engine", region)


def _sentence(statement: Statement) -> Sentence:
    """Organs are read from the words, as on the page; what the data engine knows beyond them must not help the heat."""
    return read_as_page(statement.text, statement.kind, side=statement.laterality)


def _questions(study: SyntheticStudy, false: list[str], rng: np.random.Generator) -> Iterator[Question]:
    """In one style and without measurements: what was painted, and kinds that were not, each at a random place."""
    for finding in study.findings:
        claim = replace(finding.claim, existence="present", size_mm=None, second_mm=None, grade=None)
        yield Question(_sentence(write_sentence(claim, "prose", rng, is_vague=False)), True)
    for kind in false:
        claim = _false_claim(kind, study, rng)
        yield Question(_sentence(write_sentence(claim, "prose", rng, is_vague=False)), False)


def _kinds_that_are_false(patient: Patient, study: SyntheticStudy) -> list[str]:
    """Kinds that were not painted and that the patient has not either, as far as that is known."""
    there = {finding.claim.finding for finding in study.findings}
    there |= {KINDS[kind].finding for kind in patient.never_denied}
    if not 0 < cardiothoracic_ratio(study.scene) < NORMAL_RATIO:
        there.add(KINDS["cardiomegaly"].finding)
    return [kind for kind in KINDS if KINDS[kind].finding not in there]


def _false_claim(kind: str, study: SyntheticStudy, rng: np.random.Generator) -> Claim:
    """A finding in an organ, in a lobe or on a side where it is not."""
    if KINDS[kind].place == "organ":
        return Claim(kind, "present", KINDS[kind].organs)
    places = study.scene.lobes() if KINDS[kind].place == "lobe" else list(KINDS[kind].organs)
    organs = (places[rng.integers(len(places))],)
    return Claim(kind, "present", organs, side_of_organs(organs))
