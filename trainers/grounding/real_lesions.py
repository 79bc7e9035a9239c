"""A list of real lesions: `python -m trainers.grounding.real_lesions --data ../shared/data/ct --out runs/lesions.json`.

The sentences were written for this project from the annotations: kind, side and lobe, nothing else.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from core.errors import ConfigError
from core.folder import replace_file


class Lesion(NamedTuple):
    """One lesion of one CT; paths below the data folder."""

    case: str
    ct: str
    mask: str
    labels: str  # as in the list's column
    finding: str
    organ: str
    sentences: tuple[str, ...]
    masks: str = ""  # organs, where they are at hand


READERS = ">=2"
"""Voxels that at least two of four readers marked."""

LESIONS = (
    Lesion(
        "LIDC-IDRI-0001",
        "LIDC-IDRI-0001/ct_2mm.nii.gz",
        "LIDC-IDRI-0001/nodule_votes_2mm.nii.gz",
        READERS,
        "Lung nodule",
        "lung_lower_lobe_left",
        (
            "There is a spiculated nodule in the left lower lobe.",
            "Left lower lobe: solid nodule with irregular margins.",
            "A nodule is identified in the lower lobe of the left lung.",
        ),
        "LIDC-IDRI-0001/totalseg117_2mm.nii.gz",
    ),
    Lesion(
        "LIDC-IDRI-0002",
        "LIDC-IDRI-0002/ct_2mm.nii.gz",
        "LIDC-IDRI-0002/nodule_votes_2mm.nii.gz",
        READERS,
        "Lung nodule",
        "lung_upper_lobe_left",
        (
            "There is a ground-glass nodule in the left upper lobe.",
            "Left upper lobe: nonsolid nodule against the posterior pleura.",
            "A faint ground-glass nodule is identified in the upper lobe of the left lung.",
        ),
    ),
    Lesion(
        "LUNG1-001",
        "LUNG1-001/ct_2mm.nii.gz",
        "LUNG1-001/rtstruct_2mm.nii.gz",
        "6",
        "lung mass",
        "lung_upper_lobe_left",
        (
            "There is a large mass in the left upper lobe.",
            "Left upper lobe: large mass that reaches the hilum.",
            "A large soft tissue mass is identified in the upper lobe of the left lung.",
        ),
    ),
    Lesion(
        "LUNG1-003",
        "LUNG1-003/ct_2mm.nii.gz",
        "LUNG1-003/rtstruct_2mm.nii.gz",
        "6",
        "lung mass",
        "lung_upper_lobe_left",
        (
            "There is a mass in the left upper lobe.",
            "Left upper lobe: mass beside the aortic arch.",
            "A soft tissue mass is identified in the upper lobe of the left lung.",
        ),
    ),
    Lesion(
        "pyradiomics_lung2",
        "pyradiomics_lung2/ct_2mm.nii.gz",
        "pyradiomics_lung2/tumour_2mm.nii.gz",
        "",
        "lung mass",
        "lung_lower_lobe_left",
        (
            "There is a mass in the left lower lobe.",
            "Left lower lobe: mass at the posterior base.",
            "A soft tissue mass is identified in the lower lobe of the left lung.",
        ),
    ),
)
"""Lung lesions. LUNG1-003 has two more outlines, nodes above the clavicle and in the mediastinum: no lung lesions."""


@dataclass(frozen=True)
class ListLesionsConfig:
    """Where the CTs lie and where the list goes."""

    data: Path
    """Folder with a folder for each of the CTs."""
    out: Path
    """JSON list to write."""
    only: tuple[str, ...] = ()
    """Cases to list; () = all that are there."""

    def __post_init__(self) -> None:
        unknown = set(self.only) - {lesion.case for lesion in LESIONS}
        if unknown:
            raise ConfigError(f"There is no case {min(unknown)}; expected {', '.join(one.case for one in LESIONS)}.")


def list_lesions(config: ListLesionsConfig) -> list[dict[str, Any]]:
    """Rows of docs/grounding_evaluation.md's list, paths from the list's folder; ConfigError where no CT is there."""
    wanted = [one for one in LESIONS if not config.only or one.case in config.only]
    there = [lesion for lesion in wanted if (config.data / lesion.ct).is_file()]
    if not there:
        raise ConfigError(f"{config.data} holds none of the CTs; expected {wanted[0].ct} and its like.")
    return [_row(lesion, config) for lesion in there]


def _row(lesion: Lesion, config: ListLesionsConfig) -> dict[str, Any]:
    base = config.out.parent.resolve()
    row = {
        "case": lesion.case,
        "ct": lesion.ct,
        "mask": lesion.mask,
        "masks": lesion.masks,
        "labels": lesion.labels,
        "finding": lesion.finding,
        "organ": lesion.organ,
        "sentence": list(lesion.sentences),
    }
    for column in ("ct", "mask", "masks"):
        if row[column]:
            row[column] = os.path.relpath((config.data / str(row[column])).resolve(), base)
    return {column: value for column, value in row.items() if value}


def main(config: ListLesionsConfig) -> None:
    """Write the list."""
    rows = list_lesions(config)
    replace_file(config.out, (json.dumps(rows, indent=1) + "\n").encode())
    sys.stdout.write(json.dumps({"out": str(config.out), "cases": [row["case"] for row in rows]}) + "\n")


if __name__ == "__main__":
    try:
        main(tyro.cli(ListLesionsConfig))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
