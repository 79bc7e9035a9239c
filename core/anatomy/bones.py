"""Bone by its density, named by the nearest bone of the network; the spine also without it."""

import numpy as np

from core.anatomy.frame import Frame
from core.anatomy.shapes import close, components, distance_to, fill_solid, grow, parts_over, shrink

BONE_HU = 160
_DENSE_HU = 200
_REACH_MM = 8.0
_VESSEL_WALL_MM = 3.0
_GAP_MM = 3.0
_LEAST_BONE_ML = 0.15
_SPINE_HALF_WIDTH_MM = 36.0
_LEAST_SPINE_ML = 15.0


def name_bones(
    frame: Frame, allowed: np.ndarray, hints: dict[str, np.ndarray], vessels: np.ndarray
) -> dict[str, np.ndarray]:
    """Give every dense voxel to the nearest of the `hints` (name -> rough bone) within 8 mm.

    allowed, vessels and the results are (X, Y, Z) bool; `allowed` is where bone may be, `vessels` where
    brightness may be contrast agent instead.
    """
    dense = allowed & (frame.hu > BONE_HU) & ~grow(vessels, _VESSEL_WALL_MM / frame.edge_mm)
    reach = _REACH_MM / frame.edge_mm
    names = [name for name, hint in hints.items() if hint.any()]
    if not names:
        return {}
    distance = np.stack([distance_to(hints[name]) for name in names])
    nearest = np.where(distance.min(axis=0) <= reach, distance.argmin(axis=0), -1)
    named = {name: dense & (nearest == index) for index, name in enumerate(names)}
    return {name: _filled(mask, hints[name], allowed & ~vessels, frame) for name, mask in named.items()}


def _filled(dense: np.ndarray, hint: np.ndarray, allowed: np.ndarray, frame: Frame) -> np.ndarray:
    """Dense shell plus the marrow it encloses and the heart of the rough bone."""
    marrow = shrink(hint, _GAP_MM / frame.edge_mm) & (frame.hu > 30)
    whole = fill_solid(close(dense | marrow, _GAP_MM / frame.edge_mm))
    return parts_over(whole & allowed, _LEAST_BONE_ML / frame.grid.voxel_ml)


def find_spine(frame: Frame, body: np.ndarray) -> np.ndarray:
    """The vertebral column by density and place alone: (X, Y, Z) bool, all False when none is in view.

    Takes the dense parts near the body's middle and behind its centre; ribs and hips are cut off sideways.
    """
    dense = body & (frame.hu > _DENSE_HU)
    column = np.zeros_like(dense)
    half = _SPINE_HALF_WIDTH_MM / frame.edge_mm
    x = np.arange(dense.shape[0])[:, None]
    y = np.arange(dense.shape[1])[None, :]
    for z in np.flatnonzero(body.any(axis=(0, 1))):
        bx, by = np.nonzero(body[:, :, z])
        middle, front = (bx.min() + bx.max()) / 2, by.min() + 0.6 * np.ptp(by)
        near = dense[:, :, z] & (np.abs(x - middle) < 2 * half) & (y < front)
        if near.any():
            centre = np.median(np.nonzero(near)[0])
            column[:, :, z] = near & (np.abs(x - centre) < half)
    labels, counts = components(close(column, 4.0 / frame.edge_mm) & body)
    if len(counts) < 2 or counts[1:].max() * frame.grid.voxel_ml < _LEAST_SPINE_ML:
        return np.zeros_like(dense)
    part = labels == int(np.argmax(counts[1:])) + 1
    return fill_solid(close(part, 4.0 / frame.edge_mm)) & body
