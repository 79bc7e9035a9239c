"""What the atlas and a patient are compared by: each lung, and soft tissue against fat."""

import numpy as np

from core.anatomy.frame import Frame, cubic_grid
from core.anatomy.lungs import Lungs
from core.anatomy.registration import Channels
from core.anatomy.shapes import bounding_box
from core.resample import resample_smooth
from core.volume import Grid

_FAT_HU = -150
_TISSUE_HU = 40
"""Everything above looks the same, so that contrast in the blood and calcium do not matter."""
_REACH_MM = 160.0
"""Slices farther above or below the lungs are not compared."""


def compare_by(frame: Frame, body: np.ndarray, lungs: Lungs, edge_mm: float) -> Channels:
    """Channels (left lung, right lung, soft tissue) on cubes of `edge_mm`, from slices near the lungs.

    body (X, Y, Z) bool, True in the patient.
    """
    span = chest_span(lungs.both, frame.edge_mm)
    grid = cubic_grid(_slab_grid(frame.grid, span), edge_mm)
    hu = np.clip(frame.hu[..., span], _FAT_HU, _TISSUE_HU).astype(np.float32)
    hu[~body[..., span] | lungs.both[..., span]] = _FAT_HU
    soft = (hu - _FAT_HU) / (_TISSUE_HU - _FAT_HU)
    images = (lungs.left[..., span].astype(np.float32), lungs.right[..., span].astype(np.float32), soft)
    source = _slab_grid(frame.grid, span)
    values = np.stack([resample_smooth(image, source, grid) for image in images])
    weight = resample_smooth(frame.inside[..., span].astype(np.float32), source, grid) > 0.5
    return Channels(values, weight.astype(np.float32), grid)


def chest_span(lungs: np.ndarray, edge_mm: float) -> slice:
    """The axial slices within reach of the lungs (X, Y, Z) bool, which must not be empty."""
    return bounding_box(lungs, round(_REACH_MM / edge_mm))[2]


def _slab_grid(grid: Grid, span: slice) -> Grid:
    """The grid of the axial slices `span` of `grid`."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_mm((0, 0, span.start))
    return Grid((grid.shape[0], grid.shape[1], span.stop - span.start), affine)
