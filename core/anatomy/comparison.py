"""What the atlas and a patient are compared by: each lung, and soft tissue against fat."""

import numpy as np

from core.anatomy.frame import Frame, cubic_grid, part_of_grid
from core.anatomy.lungs import Lungs
from core.anatomy.registration import Channels
from core.anatomy.shapes import bounding_box
from core.resample import resample_smooth

_FAT_HU = -150
_TISSUE_HU = 40
"""Everything above looks the same, so that contrast in the blood and calcium do not matter."""
_REACH_MM = 160.0
"""Slices farther above or below the lungs are not compared."""
_AROUND_MM = 10.0


def compare_by(frame: Frame, body: np.ndarray, lungs: Lungs, edge_mm: float) -> Channels:
    """Channels (right lung minus left lung, soft tissue) on cubes of `edge_mm`, from slices near the lungs.

    body (X, Y, Z) bool, True in the patient; body and lungs must not be empty.
    """
    box = chest_box(body, lungs.both, frame.edge_mm)
    source = part_of_grid(frame.grid, box)
    grid = cubic_grid(source, edge_mm)
    hu = np.clip(frame.hu[box], _FAT_HU, _TISSUE_HU).astype(np.float32)
    hu[~body[box] | lungs.both[box]] = _FAT_HU
    soft = (hu - _FAT_HU) / (_TISSUE_HU - _FAT_HU)
    sides = lungs.right[box].astype(np.float32) - lungs.left[box]
    values = np.stack([resample_smooth(image, source, grid) for image in (sides, soft)])
    weight = resample_smooth(frame.inside[box].astype(np.float32), source, grid) > 0.5
    return Channels(values, weight.astype(np.float32), grid)


def chest_box(body: np.ndarray, lungs: np.ndarray, edge_mm: float) -> tuple[slice, slice, slice]:
    """The body in the axial slices within reach of the lungs, as slices of the working frame."""
    z = bounding_box(lungs, round(_REACH_MM / edge_mm))[2]
    x, y, within = bounding_box(body[:, :, z], round(_AROUND_MM / edge_mm))
    return x, y, slice(z.start + within.start, z.start + within.stop)
