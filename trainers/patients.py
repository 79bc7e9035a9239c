"""Patients for the data engine: `python -m trainers.patients --ct CT.nii.gz --out DIR/NAME` writes one.

A patient is a folder with `ct.nii.gz`, `organs.nii.gz` and `patient.json`, about 2 mm, its own lesions erased.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import tyro

from core.anatomy.embedded import EmbeddedSegmenter
from core.errors import AsapError, ConfigError, StudyError
from core.resample import resample, resample_smooth, spaced_grid
from core.synthesis.claims import KINDS
from core.synthesis.patients import Patient, erase_lesion
from core.volume import Grid, Volume

CT_FILE, ORGANS_FILE, FACTS_FILE = "ct.nii.gz", "organs.nii.gz", "patient.json"
FINEST_MM = 2.0
"""Finer CT are brought to this spacing: studies are drawn at 3 to 4 mm."""


@dataclass(frozen=True)
class PrepareConfig:
    """Where one patient comes from and goes to."""

    ct: Path
    """Chest CT as NIfTI, HU."""
    out: Path
    """Folder to write; its name is the patient's."""
    organs: Path | None = None
    """Label map on the CT's grid with the numbers of `core.structures`; without it the embedded engine makes one."""
    lesion: Path | None = None
    """Mask on the CT's grid, above 0 = a real lesion: it is erased, so that no sentence ever denies or misplaces it."""
    organ_net: Path = Path("assets/models/organs/organ_net.safetensors")
    """Weights of the embedded engine."""
    never_denied: tuple[str, ...] = ()
    """Kinds of finding the patient may really have."""

    def __post_init__(self) -> None:
        unknown = set(self.never_denied) - set(KINDS)
        if unknown:
            raise ConfigError(f"never_denied names {sorted(unknown)}; expected kinds such as {sorted(KINDS)[:3]}.")


def prepare_patient(config: PrepareConfig) -> Patient:
    """Read, segment, erase the lesion, bring to at most `FINEST_MM`."""
    volume = read_volume(config.ct)
    if config.organs is None:
        labels = EmbeddedSegmenter(config.organ_net).segment(volume).labels
    else:
        labels = _read_beside(config.organs, volume).astype(np.uint8)
    patient = Patient(config.out.name, volume.hu, labels, volume.grid, config.never_denied)
    if config.lesion is not None:
        patient = erase_lesion(patient, _read_beside(config.lesion, volume) > 0)
    return _coarsen(patient)


def read_volume(path: Path) -> Volume:
    """A NIfTI CT as RAS+ HU."""
    if not path.is_file():
        raise StudyError(f"No CT at {path}; expected a .nii or .nii.gz file.")
    image = nib.nifti1.load(path)
    return Volume.from_source(np.clip(np.asanyarray(image.dataobj), -1024, 3071).astype(np.int16), image.affine)


def _read_beside(path: Path, volume: Volume) -> np.ndarray:
    """An array on the CT's file grid, turned to its RAS axes."""
    image = nib.nifti1.load(path)
    if not Grid(image.shape, image.affine).matches(volume.source):
        raise StudyError(
            f"{path.name} is not on the grid of the CT; expected shape {volume.source.shape} and its affine."
        )
    return volume.from_source_array(np.asanyarray(image.dataobj))


def _coarsen(patient: Patient) -> Patient:
    spacing = np.maximum(patient.grid.spacing_mm, FINEST_MM)
    if np.allclose(spacing, patient.grid.spacing_mm, rtol=0.05):
        return patient
    grid = spaced_grid(patient.grid, spacing)
    hu = np.rint(resample_smooth(patient.hu, patient.grid, grid, -1024)).astype(np.int16)
    labels = resample(patient.labels, patient.grid, grid, "nearest")
    return Patient(patient.name, hu, labels, grid, patient.never_denied)


def write_patient(patient: Patient, folder: Path) -> None:
    """Write a patient for `read_patients`."""
    folder.mkdir(parents=True, exist_ok=True)
    nib.nifti1.save(nib.nifti1.Nifti1Image(patient.hu, patient.grid.affine), folder / CT_FILE)
    nib.nifti1.save(nib.nifti1.Nifti1Image(patient.labels, patient.grid.affine), folder / ORGANS_FILE)
    (folder / FACTS_FILE).write_text(json.dumps({"never_denied": list(patient.never_denied)}, indent=1) + "\n")


def read_patients(root: Path, without: tuple[str, ...] = ()) -> list[Patient]:
    """All patients under `root` in the order of their names, but for those named in `without`."""
    folders = sorted(path.parent for path in root.glob(f"*/{CT_FILE}") if path.parent.name not in without)
    if not folders:
        raise ConfigError(f"No patient under {root}; write some with `python -m trainers.patients --ct CT --out DIR`.")
    return [read_patient(folder) for folder in folders]


def read_patient(folder: Path) -> Patient:
    """The patient in one folder; ConfigError where there is none."""
    absent = [name for name in (CT_FILE, ORGANS_FILE, FACTS_FILE) if not (folder / name).is_file()]
    if absent:
        raise ConfigError(
            f"{folder} is no patient of the data engine ({', '.join(absent)} missing); write one with `python -m "
            "trainers.patients --ct CT --out DIR`."
        )
    volume = read_volume(folder / CT_FILE)
    facts = json.loads((folder / FACTS_FILE).read_text())
    labels = _read_beside(folder / ORGANS_FILE, volume).astype(np.uint8)
    return Patient(folder.name, volume.hu, labels, volume.grid, tuple(facts["never_denied"]))


def main(config: PrepareConfig) -> None:
    """Write one patient and say what is in it."""
    try:
        patient = prepare_patient(config)
    except AsapError as error:
        sys.exit(f"{error}")
    write_patient(patient, config.out)
    sys.stdout.write(json.dumps({"patient": patient.name, "shape": list(patient.hu.shape)}) + "\n")


if __name__ == "__main__":
    main(tyro.cli(PrepareConfig))
