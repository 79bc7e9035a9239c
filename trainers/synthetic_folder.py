"""A folder of generated studies to try recipes on: `python -m trainers.synthetic_folder --out data/practice`.

It holds volumes/, masks/ and reports.csv as `trainers.pretrain --data` reads them; nothing in it is a patient's.
"""

import csv
import io
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro

from core.errors import AsapError, ConfigError
from core.export.nifti import write_nifti
from core.models.checkpoint import write_atomically
from core.synthesis.patients import ViewConfig
from core.synthesis.studies import StudyConfig, SyntheticStudy, make_study
from trainers.folder import MASKS, VOLUMES
from trainers.report_tokens import REPORTS
from trainers.synthetic import phantom_patient


@dataclass(frozen=True)
class PracticeConfig:
    """How many studies of how many formula-made chests."""

    out: Path
    """Folder to write."""
    count: int = 8
    """Studies; two of each patient."""
    seed: int = 0
    """The same seed gives the same studies."""
    spacing_mm: float = 6.0
    """Voxel edge; the field of view is 330 x 270 x 330 mm."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 10_000 or not 1 <= self.spacing_mm <= 20:
            raise ConfigError("count must be 1 to 10,000 studies, spacing_mm 1 to 20.")


def write_practice(config: PracticeConfig) -> None:
    """Write CTs, organ masks and reports; study ids name the patient, as CT-RATE's do."""
    x, y, z = (round(mm / config.spacing_mm) for mm in (330, 270, 330))
    view = replace(ViewConfig(), shape=(x, y, z), spacing_mm=config.spacing_mm)
    for kind in (VOLUMES, MASKS):
        (config.out / kind).mkdir(parents=True, exist_ok=True)
    studies = [_make(index, view, config.seed) for index in range(config.count)]
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["study_id", "findings", "impression"])
    for study in studies:
        hu = np.rint(np.clip(study.scene.hu, -1024, 3071)).astype(np.int16)
        write_nifti(config.out / VOLUMES / f"{study.study_id}.nii.gz", hu, study.scene.grid)
        write_nifti(config.out / MASKS / f"{study.study_id}.nii.gz", study.scene.labels, study.scene.grid)
        table.writerow([study.study_id, study.report.findings, study.report.impression])
    write_atomically(config.out / REPORTS, text.getvalue().encode())


def _make(index: int, view: ViewConfig, seed: int) -> SyntheticStudy:
    patient, scan = divmod(index, 2)
    rng = np.random.default_rng([seed, index])
    return make_study(phantom_patient(patient), StudyConfig(view), rng, f"made_{patient + 1}_{'ab'[scan]}_1")


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
