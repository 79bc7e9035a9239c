"""A data folder of eight studies with a bright box each, reports that say where, masks and distilled statements."""

from pathlib import Path

import nibabel as nib
import numpy as np

from core.structures import BY_NAME
from trainers.builders.files import distilled_to_csv

AFFINE = np.diag([1.5, 1.5, 3.0, 1.0])  # RAS on disk
SHAPE = (32, 32, 16)
PLACES = [(z, y, x) for z in ("lower", "upper") for y in ("back", "front") for x in ("left", "right")]
KINDS = ("nodule", "effusion", "mass", "fracture")


def write_entity_folder(root: Path, with_masks: bool = False) -> Path:
    """volumes/, reports.csv and distilled.csv; study n is named s<n>. The box of study n lies in octant n."""
    rows, statements = ["study_id,findings,impression"], {}
    for number, (z, y, x) in enumerate(PLACES):
        kind, name = KINDS[number % 4], f"s{number}"
        rows.append(f"{name},A bright {kind} in the {z} {y} {x} lobe. There is no evidence of edema.,Stable disease.")
        statements[name] = f"There is {kind}. There is no edema."
        octant = box_of_study(number)
        hu = np.full(SHAPE, -600, np.int16)
        hu[octant] = 400
        _write(root / "volumes", name, hu)
        if with_masks:
            organs = np.zeros(SHAPE, np.uint8)
            organs[octant] = BY_NAME["aorta"].number
            _write(root / "masks", name, organs)
    (root / "reports.csv").write_text("\n".join(rows) + "\n")
    (root / "distilled.csv").write_text(distilled_to_csv(statements))
    return root


def box_of_study(number: int) -> tuple[slice, slice, slice]:
    """The bright octant of a study."""
    z, y, x = number // 4, number // 2 % 2, number % 2
    return slice(16 * x, 16 * x + 16), slice(16 * y, 16 * y + 16), slice(8 * z, 8 * z + 8)


def _write(folder: Path, name: str, array: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, AFFINE), folder / f"{name}.nii.gz")
