"""Fixtures of the organ tests."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.volume import Volume

ASSETS = Path(__file__).parents[3] / "assets"
SAMPLE = ASSETS / "sample" / "lidc-idri-0001"


@pytest.fixture(scope="session")
def organ_net():
    """Weights of the embedded engine's network, as shipped."""
    return ASSETS / "models" / "organs" / "organ_net.safetensors"


@pytest.fixture(scope="session")
def sample_chest():
    """The shipped CT at 4 mm along x and y, so that it is quick, and its organs: (Volume, labels (X, Y, Z) uint8)."""
    image, organs = (nib.nifti1.load(SAMPLE / f"{name}.nii.gz") for name in ("ct", "organs"))
    affine = image.affine @ np.diag([2.0, 2.0, 1.0, 1.0])
    volume = Volume.from_source(np.asanyarray(image.dataobj)[::2, ::2].astype(np.int16), affine)
    return volume, volume.from_source_array(np.asanyarray(organs.dataobj)[::2, ::2].astype(np.uint8))
