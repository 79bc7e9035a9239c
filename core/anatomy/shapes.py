"""Binary shape operations on cubic voxels; sizes in voxels, True = inside."""

import cc3d
import fill_voids
import numpy as np
from scipy import ndimage


def grow(mask: np.ndarray, radius: float) -> np.ndarray:
    """Every voxel whose centre is at most `radius` voxels from `mask`. -> bool, same shape."""
    if not mask.any():
        return mask.copy()
    box = bounding_box(mask, int(np.ceil(radius)) + 1)
    out = np.zeros_like(mask)
    out[box] = distance_to(mask[box]) <= radius
    return out


def shrink(mask: np.ndarray, radius: float, border: bool = True) -> np.ndarray:
    """Voxels of `mask` farther than `radius` voxels from its outside. border: beyond the array counts as inside."""
    if not mask.any():
        return mask.copy()
    box = bounding_box(mask, 1)
    part = mask[box] if border else np.pad(mask[box], 1)
    if part.all():
        return mask.copy()
    kept = distance_to(~part) > radius
    out = np.zeros_like(mask)
    out[box] = kept if border else kept[1:-1, 1:-1, 1:-1]
    return out


def close(mask: np.ndarray, radius: float) -> np.ndarray:
    """Fill gaps narrower than 2 * `radius` voxels."""
    if not mask.any():
        return mask.copy()
    pad = int(np.ceil(radius)) + 1
    box = bounding_box(mask, pad)
    part = np.pad(mask[box], pad, mode="edge")  # a lung cut by the scan's end is not rounded off there
    closed = distance_to(distance_to(part) > radius) > radius
    out = mask.copy()
    out[box] |= closed[pad:-pad, pad:-pad, pad:-pad]
    return out


def distance_to(mask: np.ndarray) -> np.ndarray:
    """Distance in voxels from every voxel centre to the nearest True one, (X, Y, Z) float32."""
    import SimpleITK as sitk  # noqa: N813  (threaded and twice as fast as scipy; half a second to import)

    if not mask.any():
        return np.full(mask.shape, np.float32(np.inf))
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    squared = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=False)
    return np.maximum(sitk.GetArrayFromImage(squared), 0.0)


def components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Face-connected parts: labels (X, Y, Z) from 1 and voxel counts (N + 1,), background first."""
    labels = np.asarray(cc3d.connected_components(np.asfortranarray(mask), connectivity=6))
    return labels, np.bincount(labels.ravel())


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest face-connected part of `mask`; empty stays empty."""
    labels, counts = components(mask)
    if len(counts) < 2:
        return mask.copy()
    return labels == int(np.argmax(counts[1:])) + 1


def parts_over(mask: np.ndarray, voxels: float) -> np.ndarray:
    """`mask` without its face-connected parts smaller than `voxels`."""
    labels, counts = components(mask)
    keep = counts >= voxels
    keep[0] = False
    return keep[labels]


def touching(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The face-connected parts of `mask` that contain a voxel of `seeds`."""
    labels, counts = components(mask)
    keep = np.zeros(len(counts), bool)
    keep[np.unique(labels[seeds])] = True
    keep[0] = False
    return keep[labels]


def fill_solid(mask: np.ndarray) -> np.ndarray:
    """`mask` with its enclosed cavities filled."""
    return np.asarray(fill_voids.fill(np.asfortranarray(mask))).astype(bool)


def fill_slices(mask: np.ndarray) -> np.ndarray:
    """`mask` with the holes of every axial slice filled."""
    filled = np.empty_like(mask)
    for z in range(mask.shape[2]):
        filled[:, :, z] = ndimage.binary_fill_holes(mask[:, :, z]) if mask[:, :, z].any() else False
    return filled


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice, slice]:
    """Slices around the True voxels, `margin` voxels wider, within the array. The mask must not be empty."""
    spans = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        at = np.flatnonzero(mask.any(axis=others))
        spans.append(slice(max(0, int(at[0]) - margin), min(mask.shape[axis], int(at[-1]) + 1 + margin)))
    return spans[0], spans[1], spans[2]
