"""A folder of generated studies, to try recipes and figures on: `python -m trainers.synthetic_folder --out DIR`.

volumes/, masks/ and reports.csv are as `trainers.pretrain --data` reads them; findings/, sentences.json, triplets.csv,
labels.csv and cases.csv hold the truth behind the reports, see docs/data_engine.md. Nothing in them is a patient's
disease.
"""

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

from core.errors import AsapError, ConfigError
from core.export.nifti import write_nifti
from core.findings import CT_RATE_LABELS
from core.models.checkpoint import write_atomically
from core.report.regions import path_of
from core.report.sentences import split_sentences
from core.synthesis.patients import Patient, ViewConfig
from core.synthesis.scene import Finding
from core.synthesis.statement import Statement
from core.synthesis.studies import StudyConfig, SyntheticStudy, make_study
from trainers.builders.files import ABSENT, PRESENT, TRIPLET_COLUMNS, TRIPLETS, UNCERTAIN
from trainers.folder import MASKS, VOLUMES
from trainers.patients import read_patients
from trainers.report_tokens import REPORTS
from trainers.spread import Lost, SpreadConfig, spread
from trainers.synthetic import phantom_patient

FINDINGS, SENTENCES, LABELS, CASES = "findings", "sentences.json", "labels.csv", "cases.csv"
CASE_COLUMNS = ("case", "ct", "masks", "sentence", "mask", "finding", "side", "patient", "present")
_EXISTENCE = {"present": PRESENT, "absent": ABSENT, "uncertain": UNCERTAIN}


@dataclass(frozen=True)
class PracticeConfig:
    """How many studies of whom."""

    out: Path
    """Folder to write."""
    count: int = 8
    """Studies; two of each patient."""
    seed: int = 0
    """The same seed gives the same studies, whatever the number of processes."""
    spacing_mm: float = 6.0
    """Voxel edge; the field of view is 330 x 270 x 330 mm."""
    patients_dir: Path | None = None
    """Folder of patients that `python -m trainers.patients` wrote; None: chests made of formulas."""
    workers: int = 0
    """Processes; 0 works in this one."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """What a study holds; the grid of its view is set by `spacing_mm`."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 10_000 or not 1 <= self.spacing_mm <= 20 or self.workers < 0:
            raise ConfigError("count must be 1 to 10,000 studies, spacing_mm 1 to 20, workers 0 or more.")


class Written(NamedTuple):
    """What is told of a study whose CT and masks are on disk."""

    study_id: str
    report: tuple[str, str]
    """Findings and impression."""
    sentences: tuple[dict[str, Any], ...]
    triplets: tuple[tuple[str, str, int, int], ...]
    """Region path, finding, existence, number of the sentence."""
    labels: dict[str, bool]
    cases: tuple[dict[str, str], ...]


def write_practice(config: PracticeConfig) -> None:
    """Write CTs, organ masks, reports and their truth; study ids name the patient, as CT-RATE's do."""
    for kind in (VOLUMES, MASKS, FINDINGS):
        (config.out / kind).mkdir(parents=True, exist_ok=True)
    done = list(spread(partial(_write_study, config), range(config.count), SpreadConfig(workers=config.workers)))
    lost = [f"study {item}: {result.reason}" for item, result in done if isinstance(result, Lost)]
    if lost:
        raise ConfigError(f"{len(lost)} studies were not written ({lost[0]}). Run the command again.")
    written = [result for _, result in sorted(done, key=lambda one: one.item) if not isinstance(result, Lost)]
    _write_csv(config.out / REPORTS, ("study_id", "findings", "impression"), [(w.study_id, *w.report) for w in written])
    rows = [(w.study_id, *triplet) for w in written for triplet in w.triplets]
    _write_csv(config.out / TRIPLETS, TRIPLET_COLUMNS, rows)
    labels = [(w.study_id, *(int(w.labels[label]) for label in CT_RATE_LABELS)) for w in written]
    _write_csv(config.out / LABELS, ("study_id", *CT_RATE_LABELS), labels)
    cases = [tuple(row.get(column, "") for column in CASE_COLUMNS) for w in written for row in w.cases]
    _write_csv(config.out / CASES, CASE_COLUMNS, cases)
    told = {w.study_id: w.sentences for w in written}
    write_atomically(config.out / SENTENCES, (json.dumps(told, indent=1) + "\n").encode())


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def _write_study(config: PracticeConfig, index: int) -> Written:
    """Draw one study, write its CT, organ masks and masks of findings."""
    study = _make(config, index)
    grid, name = study.scene.grid, study.study_id
    hu = np.rint(np.clip(study.scene.hu, -1024, 3071)).astype(np.int16)
    write_nifti(config.out / VOLUMES / f"{name}.nii.gz", hu, grid)
    write_nifti(config.out / MASKS / f"{name}.nii.gz", study.scene.labels, grid)
    for number, finding in enumerate(study.findings):
        write_nifti(config.out / FINDINGS / f"{name}_{number}.nii.gz", finding.mask.astype(np.uint8), grid)
    sentences, cases = [], []
    for number, statement in enumerate(study.report.statements, start=1):
        mask = _mask_file(config.out, study, statement, number)
        sentences.append(_sentence(study, statement, mask))
        cases += [_case(study, statement, mask)] if statement.kind != "normal" and not statement.also else []
    report = (study.report.findings, study.report.impression)
    return Written(name, report, tuple(sentences), _triplets(study), study.report.labels, tuple(cases))


def _make(config: PracticeConfig, index: int) -> SyntheticStudy:
    patient, scan = divmod(index, 2)
    x, y, z = (round(mm / config.spacing_mm) for mm in (330, 270, 330))
    view: ViewConfig = replace(config.study.view, shape=(x, y, z), spacing_mm=config.spacing_mm)
    rng = np.random.default_rng([config.seed, index])
    name = f"made_{patient + 1}_{'ab'[scan]}_1"
    return make_study(_patient(config.patients_dir, patient), replace(config.study, view=view), rng, name)


@cache
def _patient(folder: Path | None, number: int) -> Patient:
    """Patient `number` of the folder, from the start again when there are fewer; else a phantom of that seed."""
    if folder is None:
        return phantom_patient(number)
    patients = read_patients(folder)
    return patients[number % len(patients)]


def _number(study: SyntheticStudy, finding: Finding) -> int:
    return next(place for place, other in enumerate(study.findings) if other is finding)


def _meant(study: SyntheticStudy, statement: Statement) -> list[int]:
    """Numbers of the painted findings that a sentence speaks of."""
    return sorted({_number(study, finding) for fact in statement.facts for finding in study.meant(fact)})


def _mask_file(out: Path, study: SyntheticStudy, statement: Statement, number: int) -> str:
    """Path below `out` of where a sentence is true: a finding's own mask, or one that joins several; "" = nowhere."""
    meant = _meant(study, statement)
    if len(meant) == 1:
        return f"{FINDINGS}/{study.study_id}_{meant[0]}.nii.gz"
    if not meant:
        return ""
    name = f"{FINDINGS}/{study.study_id}_sentence{number}.nii.gz"
    write_nifti(out / name, study.region(statement).astype(np.uint8), study.scene.grid)
    return name


def _sentence(study: SyntheticStudy, statement: Statement, mask: str) -> dict[str, Any]:
    """A sentence with its facts as a JSON object."""
    facts = [
        {
            "kind": fact.kind,
            "finding": fact.finding,
            "existence": fact.existence,
            "organs": list(fact.organs),
            "laterality": fact.laterality,
            "size_mm": fact.size_mm,
        }
        for fact in statement.facts
    ]
    return {"text": statement.text, "facts": facts, "findings": _meant(study, statement), "mask": mask}


def _case(study: SyntheticStudy, statement: Statement, mask: str) -> dict[str, str]:
    """A row for a grounding evaluation; an unsure sentence counts as one about what is there."""
    name = study.study_id
    return {
        "case": name,
        "ct": f"{VOLUMES}/{name}.nii.gz",
        "masks": f"{MASKS}/{name}.nii.gz",
        "sentence": statement.text,
        "mask": mask,
        "finding": statement.kind,
        "side": statement.laterality,
        "patient": name.split("_")[1],
        "present": "no" if statement.existence == "absent" else "yes",
    }


def _triplets(study: SyntheticStudy) -> tuple[tuple[str, str, int, int], ...]:
    """Region, finding, existence and number of the sentence of every fact about a finding, each once."""
    rows: dict[tuple[str, str, int, int], None] = {}
    first = 1
    for statement in study.report.statements:
        for fact in statement.facts:
            for organ in fact.organs or ("",):
                if fact.kind != "normal":
                    path = path_of(organ) if organ else ""
                    rows[(path, fact.finding.lower(), _EXISTENCE[fact.existence], first)] = None
        first += max(1, len(split_sentences(statement.text)))
    return tuple(rows)


def main(config: PracticeConfig) -> None:
    """Write, print one JSON document, or end with one line on what to mend."""
    try:
        write_practice(config)
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    sys.stdout.write(json.dumps({"out": str(config.out), "studies": config.count, "seed": config.seed}) + "\n")


if __name__ == "__main__":
    main(tyro.cli(PracticeConfig))
