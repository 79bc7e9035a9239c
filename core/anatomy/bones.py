"""Bone by its density, named by the nearest bone of the network; the spine also without it."""

import numpy as np

from core.anatomy.frame import Frame, crop_frame
from core.anatomy.shapes import bounding_box, close, components, distance_to, fill_solid, grow, parts_over, shrink

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
    names = [name for name, hint in hints.items() if hint.any()]
    nearest = _nearest_hint([hints[name] for name in names], _REACH_MM / frame.edge_mm)
    margin = int(np.ceil((_REACH_MM + _GAP_MM) / frame.edge_mm)) + 1
    named = {}
    for at, name in enumerate(names):
        box = bounding_box(hints[name], margin)
        part = crop_frame(frame, box)
        named[name] = np.zeros_like(dense)
        named[name][box] = _filled(
            dense[box] & (nearest[box] == at), hints[name][box], allowed[box] & ~vessels[box], part
        )
    return named


def _nearest_hint(hints: list[np.ndarray], reach: float) -> np.ndarray:
    """Number of the nearest mask (X, Y, Z) bool, none empty, that is at most `reach` voxels away; else -1."""
    shape = hints[0].shape if hints else (0, 0, 0)
    best = np.full(shape, np.float32(reach + 1e-3))
    nearest = np.full(shape, -1, np.int8)
    for at, hint in enumerate(hints):
        box = bounding_box(hint, int(np.ceil(reach)) + 1)
        distance = distance_to(hint[box])
        is_closer = distance < best[box]
        best[box][is_closer] = distance[is_closer]
        nearest[box][is_closer] = at
    return nearest


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
