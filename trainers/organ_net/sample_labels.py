"""Labels that the organ net learns from: `python -m trainers.organ_net.sample_labels --ct … --organs … --out …`.

TotalSegmentator's heart of LIDC-IDRI-0001 takes in the pulmonary trunk and its first branches, and leaves out the fat
between the chambers. Here the trunk becomes a structure of its own, and the heart what the pericardium holds, which is
how radiotherapy contours it (Feng et al., Int J Radiat Oncol Biol Phys 2011; 79: 10-18).
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import tyro
from scipy import ndimage

from core.anatomy.shapes import close, grow
from core.errors import AsapError, ConfigError
from core.structures import BY_NAME, parts_of
from core.volume import Volume

TRUNK_ABOVE_MM = -147.0
"""LIDC-IDRI-0001, patient z: all that is called heart above is pulmonary artery; seen on its axial slices."""
TRUNK_START_MM = (-65.6, 20.0, -161.0)
"""Behind, left of and below this point the bright part of the heart is no pulmonary trunk: x, y, z."""
BRANCH_START_MM = (-7.6, -149.0)
"""Right of this x, from this z upwards, the heart's label is the right pulmonary artery."""
TRUNK_HU = 230.0
"""The trunk is brighter in that scan."""
GAP_MM = 12.0
"""Width of the gaps between chambers that are filled."""
FAT_HU = -200.0
"""Fat between chambers is denser than this; lung is not."""


@dataclass(frozen=True)
class LabelConfig:
    """Where the labels come from and go to."""

    ct: Path
    """LIDC-IDRI-0001 as NIfTI."""
    organs: Path
    """TotalSegmentator's masks of it, on its grid."""
    out: Path
    """NIfTI to write, on the same grid."""


def split_heart(volume: Volume, labels: np.ndarray) -> np.ndarray:
    """Labels (X, Y, Z) uint8 in which LIDC-IDRI-0001's heart is divided and filled, as the module says."""
    heart = labels == BY_NAME["heart"].number
    x, y, z = _coordinates(volume)
    bright = ndimage.gaussian_filter(volume.hu.astype(np.float32), 2.0 / np.array(volume.grid.spacing_mm)) > TRUNK_HU
    first_x, first_y, first_z = TRUNK_START_MM
    trunk = (z > first_z) & (y > first_y) & (x > first_x) & bright
    branch = (x > BRANCH_START_MM[0]) & (z > BRANCH_START_MM[1])
    artery = heart & ((z > TRUNK_ABOVE_MM) | trunk | branch)
    divided = np.where(artery, np.uint8(BY_NAME["pulmonary_artery"].number), labels)
    divided[_gaps(volume, divided) & (z < TRUNK_ABOVE_MM)] = BY_NAME["heart"].number
    return divided


def _coordinates(volume: Volume) -> list[np.ndarray]:
    """Patient mm of the voxels along each axis of an unturned grid, ready to broadcast."""
    axes = []
    for axis, count in enumerate(volume.shape):
        shape = [1, 1, 1]
        shape[axis] = count
        axes.append((volume.affine[axis, 3] + volume.affine[axis, axis] * np.arange(count)).reshape(shape))
    return axes


def _gaps(volume: Volume, labels: np.ndarray) -> np.ndarray:
    """Unnamed tissue between the chambers and the root of the aorta: (X, Y, Z) bool."""
    edge_mm = float(np.mean(volume.grid.spacing_mm))
    chambers = np.isin(labels, list(parts_of("heart")))
    root = (labels == BY_NAME["aorta"].number) & grow(chambers, 16.0 / edge_mm) & _in_front_of(chambers)
    whole = chambers | root
    return close(whole, GAP_MM / edge_mm) & ~whole & (labels == 0) & (volume.hu > FAT_HU)


def _in_front_of(chambers: np.ndarray) -> np.ndarray:
    """Rows before the hindmost tenth of the heart, so that the descending aorta is none of it: (1, Y, 1) bool."""
    rows = np.nonzero(chambers)[1]
    return (np.arange(chambers.shape[1]) > np.quantile(rows, 0.1))[None, :, None]


def main(config: LabelConfig) -> None:
    """Read, divide, write."""
    image, organs = nib.nifti1.load(config.ct), nib.nifti1.load(config.organs)
    if not np.allclose(image.affine, organs.affine, atol=1e-3) or image.shape != organs.shape:
        raise ConfigError(f"{config.organs} is not on the grid of {config.ct}: make both from the same CT.")
    volume = Volume.from_source(np.asanyarray(image.dataobj).astype(np.int16), image.affine)
    labels = volume.from_source_array(np.asanyarray(organs.dataobj).astype(np.uint8))
    config.out.parent.mkdir(parents=True, exist_ok=True)
    nib.nifti1.save(nib.nifti1.Nifti1Image(volume.to_source(split_heart(volume, labels)), image.affine), config.out)


if __name__ == "__main__":
    try:
        main(tyro.cli(LabelConfig, description=__doc__))
    except AsapError as error:
        sys.exit(str(error))
