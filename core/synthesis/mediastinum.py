"""Findings of the heart, the aorta and what lies between the lungs."""

import numpy as np
from scipy import ndimage

from core.synthesis.claims import Claim
from core.synthesis.scene import (
    Finding,
    Scene,
    blend,
    bounding_box,
    box_around,
    mask_in_box,
    offsets_mm,
    pick_voxel,
    smooth_noise,
    soft_share,
    tube_distance_mm,
)

LEAST_HEART_ML = 150.0
ENLARGED_RATIO = 0.55
"""Heart width over inner chest width above which the heart is called enlarged."""
NORMAL_RATIO = 0.50


def cardiothoracic_ratio(scene: Scene) -> float:
    """Largest heart width over the largest lung-to-lung width of one axial slice; 0 without heart or lungs."""
    heart, lung = _widths(scene.mask("heart")), _widths(scene.mask("lung"))
    return float(heart.max() / lung.max()) if lung.max() > 0 else 0.0


def _widths(mask: np.ndarray) -> np.ndarray:
    """Extent along x in voxels of every axial slice: (Z,)."""
    columns = np.asarray(mask.any(axis=1))  # (X, Z)
    first, last = columns.argmax(axis=0), columns.shape[0] - columns[::-1].argmax(axis=0)
    return np.where(columns.any(axis=0), last - first, 0)


def insert_cardiomegaly(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """Blow the heart up until it is wide for the chest; lung and fat around it give way."""
    heart = scene.mask("heart")
    if heart.sum() * scene.grid.voxel_ml < LEAST_HEART_ML:
        return None
    for _ in range(3):
        if cardiothoracic_ratio(scene) > ENLARGED_RATIO:
            break
        _magnify_heart(scene, float(rng.uniform(1.15, 1.3)))
    ratio = cardiothoracic_ratio(scene)
    if ratio <= ENLARGED_RATIO:
        return None
    grade = int(np.clip((ratio - ENLARGED_RATIO) / 0.05, 0, 2))
    return Finding(Claim("cardiomegaly", "present", ("heart",), grade=grade), scene.mask("heart"))


def _magnify_heart(scene: Scene, factor: float) -> None:
    """Stretch the surroundings of the heart's middle by `factor`, fading to nothing at twice its radius."""
    heart = scene.mask("heart")
    centre = np.argwhere(heart).mean(axis=0)
    radius_mm = float(np.cbrt(heart.sum() * scene.grid.voxel_ml * 1000.0 * 0.239)) * 1.2
    box = box_around(scene, np.rint(centre).astype(int), radius_mm * 2.2)
    offset = offsets_mm(scene, box, centre)
    distance = np.sqrt((offset**2).sum(axis=0)) / (radius_mm * 2.2)
    shrink = 1.0 - (1.0 - 1.0 / factor) * np.clip(1.0 - distance**2, 0.0, 1.0)
    origin = np.array([part.start for part in box])
    steps = scene.spacing_mm[:, None, None, None]
    places = offset * shrink / steps + (centre - origin)[:, None, None, None]
    scene.hu[box] = ndimage.map_coordinates(scene.hu[box], places, order=1, mode="nearest")
    moved = ndimage.map_coordinates(scene.labels[box], places, order=0, mode="nearest")
    scene.labels[box] = moved


def insert_pericardial_effusion(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """A shell of fluid around the heart, thicker below and behind."""
    heart = scene.mask("heart")
    if heart.sum() * scene.grid.voxel_ml < LEAST_HEART_ML:
        return None
    grade = int(rng.integers(4))
    thick_mm = (6.0, 9.0, 14.0, 22.0)[grade] * float(rng.uniform(0.85, 1.15))
    box = bounding_box(heart, margin=int(np.ceil(thick_mm * 1.5 / scene.spacing_mm.min())) + 1)
    assert box is not None  # the heart has voxels
    sac = ndimage.binary_fill_holes(ndimage.binary_closing(heart[box], iterations=3)) | heart[box]
    distance = ndimage.distance_transform_edt(~sac, sampling=scene.spacing_mm).astype(np.float32)
    offset = offsets_mm(scene, box, np.array([float(part.start) for part in box]))
    depth = 1.0 - 0.4 * (offset[1] / offset[1].max() + offset[2] / offset[2].max() - 1.0)
    allowed = ~sac & ~scene.mask("spine", "ribs", "sternum", "airway", "aorta", "liver", "stomach")[box]
    share = soft_share(distance - thick_mm * depth, float(scene.spacing_mm.max())) * allowed
    blend(scene.hu[box], share, rng.normal(12, 5))
    claim = Claim("pericardial effusion", "present", ("heart",), "", thick_mm, None, grade)
    return Finding(claim, mask_in_box(scene, box, share >= 0.5))


def insert_calcification(scene: Scene, kind: str, rng: np.random.Generator) -> Finding | None:
    """Calcium on the surface of the heart's front and left (coronary) or in the wall of the aorta."""
    organ = "heart" if kind == "coronary calcification" else "aorta"
    body = scene.mask(organ)
    box = bounding_box(body, margin=1)
    if box is None or body.sum() * scene.grid.voxel_ml < 30.0:
        return None
    grade = int(rng.integers(3))
    inside = body[box]
    wall = inside & ~ndimage.binary_erosion(inside)
    if organ == "heart":
        wall &= _coronary_field(wall)
    spots = _spots(wall, (2, 4, 7)[grade], rng) if organ == "heart" else _plaques(wall, grade, rng)
    if not spots.any():
        return None
    density = rng.uniform(0.5, 1.0, spots.shape).astype(np.float32)
    blend(scene.hu[box], spots * density, float(rng.uniform(500, 1000)))
    return Finding(Claim(kind, "present", (organ,), grade=grade), mask_in_box(scene, box, spots))


def _coronary_field(wall: np.ndarray) -> np.ndarray:
    """The upper front of the heart, where the coronary arteries start: (x, y, z) bool of the wall's box."""
    places = np.argwhere(wall)
    field = np.zeros(wall.shape, bool)
    field[:, int(np.quantile(places[:, 1], 0.35)) :, int(np.quantile(places[:, 2], 0.45)) :] = True
    return field


def _spots(wall: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Short runs of wall voxels."""
    spots = np.zeros(wall.shape, bool)
    for _ in range(count):
        voxel = pick_voxel(wall, rng)
        if voxel is not None:
            low = np.maximum(voxel - rng.integers(0, 3, 3), 0)
            run = tuple(slice(int(a), int(b) + 1) for a, b in zip(low, voxel, strict=True))
            spots[run] |= wall[run]
    return spots


def _plaques(wall: np.ndarray, grade: int, rng: np.random.Generator) -> np.ndarray:
    """Patches of the wall."""
    field = smooth_noise(wall.shape, 3.0, rng)
    return wall & (field > np.quantile(field[wall], (0.93, 0.85, 0.7)[grade]))


def insert_hiatal_hernia(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """Part of the stomach above the diaphragm: a soft ball with air on top, where the oesophagus ends."""
    tube = np.argwhere(scene.mask("esophagus"))
    heart = np.argwhere(scene.mask("heart"))
    if len(tube) == 0 or len(heart) == 0:
        return None
    floor = np.quantile(heart[:, 2], 0.1)
    low = tube[np.abs(tube[:, 2] - floor) <= 3]
    if len(low) == 0:
        return None
    voxel = np.rint(low.mean(axis=0)).astype(int)
    grade = int(rng.integers(3))
    radius_mm = (13.0, 20.0, 28.0)[grade] * float(rng.uniform(0.9, 1.1))
    box = box_around(scene, voxel, radius_mm * 1.3)
    offset = offsets_mm(scene, box, voxel)
    depth = np.sqrt((offset**2).sum(axis=0)) - radius_mm * (1 + 0.1 * smooth_noise(offset.shape[1:], 4.0, rng))
    allowed = ~scene.mask("spine", "ribs", "aorta", "heart", "liver")[box]
    share = soft_share(depth, float(scene.spacing_mm.max())) * allowed
    blend(scene.hu[box], share, rng.normal(30, 12))
    if rng.random() < 0.7:  # swallowed air rises to the front
        blend(scene.hu[box], soft_share(depth + 7.0, 4.0) * (offset[1] > radius_mm * 0.25) * allowed, -950.0)
    claim = Claim("hiatal hernia", "present", ("esophagus",), grade=grade)
    return Finding(claim, mask_in_box(scene, box, share >= 0.5))


def insert_pacemaker_lead(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """A metal wire from the upper right mediastinum through the right heart to its tip."""
    heart, trachea = np.argwhere(scene.mask("heart")), np.argwhere(scene.mask("trachea"))
    if len(heart) == 0 or len(trachea) == 0:
        return None
    middle, step = heart.mean(axis=0), scene.spacing_mm
    right = np.array([30.0, 0.0, 0.0]) / step
    top = np.array([trachea[:, 0].mean(), trachea[:, 1].mean() + 12 / step[1], np.quantile(trachea[:, 2], 0.7)])
    points = [top + right * rng.uniform(0.6, 1.2), middle + right * 1.1 + [0, 0, 20 / step[2]]]
    points += [middle + right * rng.uniform(0.5, 1.0) - [0, 0, 15 / step[2]]]
    points += [middle + rng.uniform([-25, 0, -35], [5, 25, -20]) / step]
    line = np.array(points)
    whole = (slice(0, scene.hu.shape[0]), slice(0, scene.hu.shape[1]), slice(0, scene.hu.shape[2]))
    low = np.clip(np.floor(line.min(axis=0)).astype(int) - 2, 0, scene.hu.shape)
    high = np.clip(np.ceil(line.max(axis=0)).astype(int) + 3, 0, scene.hu.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    if len(box) != len(whole) or any(part.stop <= part.start for part in box):
        return None
    distance = tube_distance_mm(scene, (box[0], box[1], box[2]), line)
    share = soft_share(distance - 1.2, float(scene.spacing_mm.max()))
    blend(scene.hu[box], share, 3000.0)
    inside = distance <= max(2.0, float(scene.spacing_mm.max()) * 0.8)
    return Finding(Claim("pacemaker lead", "present", ("heart",)), mask_in_box(scene, (box[0], box[1], box[2]), inside))
