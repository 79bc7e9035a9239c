"""Fat and muscle outside the cavities of chest and abdomen, by density."""

import numpy as np

from core.anatomy.frame import Frame
from core.anatomy.shapes import grow, parts_over

FAT_HU = (-190.0, -30.0)
MUSCLE_HU = (-29.0, 150.0)
"""The ranges of body composition studies (for instance Gomez-Perez et al., JPEN 2016)."""
_LEAST_ML = 0.5
_SKIN_MM = 3.0
_STEP = 2
"""Hulls are drawn on every second voxel of a slice."""


def find_body_wall(frame: Frame, body: np.ndarray, inner: np.ndarray) -> dict[str, np.ndarray]:
    """ "subcutaneous_fat" and "skeletal_muscle", (X, Y, Z) bool each.

    inner: (X, Y, Z) bool, organs, lungs and the bones of the trunk: what lies inside their hull, slice by slice, is no
    wall. Slices without any of them have no wall either. Intercostal muscles and fat between organs are not counted.
    """
    outside = body & ~fill_hulls(inner) & np.any(inner, axis=(0, 1))[None, None, :]
    least = _LEAST_ML / frame.grid.voxel_ml
    fat = outside & (frame.hu >= FAT_HU[0]) & (frame.hu <= FAT_HU[1])
    skin = body & grow(~body, _SKIN_MM / frame.edge_mm)
    muscle = outside & (frame.hu >= MUSCLE_HU[0]) & (frame.hu <= MUSCLE_HU[1]) & ~skin
    return {"subcutaneous_fat": parts_over(fat, least), "skeletal_muscle": parts_over(muscle, least)}


def fill_hulls(mask: np.ndarray) -> np.ndarray:
    """The convex hull of `mask` (X, Y, Z) in every axial slice, bool; rounded to two voxels."""
    from skimage.morphology import convex_hull_image

    hulls = np.zeros_like(mask)
    for z in np.flatnonzero(mask.any(axis=(0, 1))):
        coarse = mask[::_STEP, ::_STEP, z]
        if not coarse.any():
            continue
        hull = convex_hull_image(coarse)  # by corners of pixels, so that a row of them has one too
        hulls[:, :, z] = np.repeat(np.repeat(hull, _STEP, axis=0), _STEP, axis=1)[: mask.shape[0], : mask.shape[1]]
    return hulls | mask
