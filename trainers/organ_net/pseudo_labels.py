"""Organ masks of unlabelled CT by the net itself, to learn from: `python -m trainers.organ_net.pseudo_labels`.

Voxels that the net is unsure of stay unknown (255) and do not count in training.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import tyro

from core.anatomy.frame import Frame
from core.anatomy.organ_naming import judge_voxels
from core.anatomy.organ_net import load_organ_net
from core.anatomy.shapes import distance_to
from core.errors import AsapError, ConfigError
from core.structures import BY_NAME, LOBES
from core.volume import Volume
from trainers.organ_net.labelled import UNKNOWN


@dataclass(frozen=True)
class PseudoConfig:
    """Where the CT comes from and how sure the net has to be."""

    ct: Path
    """CT as NIfTI, about 2 mm."""
    weights: Path
    """organ_net.safetensors."""
    out: Path
    """NIfTI to write, on the same grid."""
    lesion: Path | None = None
    """Mask on the CT's grid, above 0 = a lesion of the lung: it becomes part of the nearest lobe."""
    least_share: float = 0.6
    """Share of the net's opinion below which a voxel stays unknown."""

    def __post_init__(self) -> None:
        if not 0 <= self.least_share < 1:
            raise ConfigError(f"least_share is {self.least_share}; expected a fraction from 0 to below 1.")


def label_scan(config: PseudoConfig) -> tuple[np.ndarray, Volume]:
    """Numbers of `core.structures` (X, Y, Z) uint8 on the RAS grid, 255 where unsure; and the CT."""
    image = nib.nifti1.load(config.ct)
    hu = np.clip(np.asanyarray(image.dataobj), -1024, 3071).astype(np.int16)
    volume = Volume.from_source(hu, image.affine)
    frame = Frame(volume.hu, np.ones(volume.shape, bool), volume.grid)
    labels, share = judge_voxels(load_organ_net(config.weights), frame)
    labels[share < config.least_share] = UNKNOWN
    if config.lesion is not None:
        lesion = volume.from_source_array(np.asanyarray(nib.nifti1.load(config.lesion).dataobj)) > 0
        distance = np.stack([distance_to(labels == BY_NAME[name].number) for name in LOBES])
        nearest = np.array([BY_NAME[name].number for name in LOBES], np.uint8)[distance.argmin(axis=0)]
        labels[lesion] = nearest[lesion]
    return labels, volume


def main(config: PseudoConfig) -> None:
    """Write the labels."""
    labels, volume = label_scan(config)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    nib.nifti1.save(nib.nifti1.Nifti1Image(volume.to_source(labels), volume.source.affine), config.out)


if __name__ == "__main__":
    try:
        main(tyro.cli(PseudoConfig, description=__doc__))
    except AsapError as error:
        sys.exit(str(error))
