"""Small CT files with a landmark whose place in the patient is known, for the tests of preparation."""

from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (60, 70, 30)
BLOCK = (slice(20, 36), slice(30, 44), slice(11, 19))
BLOCK_HU = 900


def a_ct(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """(I, J, K) int16 HU: noisy air, fat, soft tissue and lung, and one block of `BLOCK_HU`."""
    rng = np.random.default_rng(3)
    hu = np.full(shape, -1000.0)
    i, j, _ = shape
    hu[i // 8 : -i // 8, j // 8 : -j // 8] = -100
    hu[i // 6 : -i // 6, j // 6 : -j // 6] = 40
    hu[i // 5 : i // 4, j // 4 : -j // 4] = -850
    hu += rng.normal(0, 8, shape)
    hu[BLOCK] = BLOCK_HU
    return np.clip(np.rint(hu), -1024, 3000).astype(np.int16)


def block_mask(number: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """(I, J, K) uint8: `number` where the block is."""
    mask = np.zeros(shape, np.uint8)
    mask[BLOCK] = number
    return mask


def block_centre(affine: np.ndarray) -> np.ndarray:
    """Patient mm (3,) of the middle of the block."""
    middle = [(side.start + side.stop - 1) / 2 for side in BLOCK]
    return (affine @ [*middle, 1.0])[:3]


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    """Write a NIfTI file, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path
