"""Findings of the heart and of what lies between the lungs."""

import numpy as np
from scipy import ndimage

from core.resample import sample_at
from core.synthesis.claims import Claim
from core.synthesis.lobe_fields import VESSEL_HU
from core.synthesis.scene import (
    Box,
    Finding,
    Scene,
    blend,
    bounding_box,
    box_around,
    mask_in_box,
    noise_mm,
    offsets_mm,
    soft_share,
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
    places = offset * shrink / scene.spacing_mm[:, None, None, None]
    places += (centre - origin).astype(np.float32)[:, None, None, None]
    scene.hu[box] = sample_at(scene.hu[box], places)
    scene.labels[box] = sample_at(scene.labels[box], places, "nearest")


SAC_MM = (5.0, 8.0, 13.0, 20.0)
"""Thickness of the fluid around the heart, by grade."""


def insert_pericardial_effusion(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """Fluid around the heart, thickest where gravity pulls and below; vessels with contrast medium stay."""
    heart = scene.mask("heart")
    if heart.sum() * scene.grid.voxel_ml < LEAST_HEART_ML:
        return None
    grade = int(rng.integers(4))
    thick_mm = SAC_MM[grade] * float(rng.uniform(0.85, 1.15))
    box = bounding_box(heart, margin=int(np.ceil(thick_mm * 1.8 / scene.spacing_mm.min())) + 1)
    assert box is not None  # the heart has voxels
    sac = heart[box] | (_smoothed(scene, heart[box], 9.0) > 0.5)
    distance = ndimage.distance_transform_edt(~sac, sampling=scene.spacing_mm).astype(np.float32)
    reach = thick_mm * _pooling(scene, sac, rng)
    allowed = ~sac & ~scene.mask("spine", "ribs", "sternum", "airway", "trachea", "aorta", "liver", "stomach")[box]
    allowed &= ~scene.mask("spinal_cord", "esophagus", "pulmonary_artery", "pulmonary_vein", "superior_vena_cava")[box]
    allowed &= (scene.hu[box] < VESSEL_HU + 20) & (scene.labels[box] > 0)
    share = soft_share(distance - reach, scene.coarsest_mm()) * allowed
    blend(scene.hu[box], share, float(rng.normal(14, 6)) + 4 * noise_mm(scene, share.shape, 8.0, rng))
    claim = Claim("pericardial effusion", "present", ("heart",), "", thick_mm, None, grade)
    return Finding(claim, mask_in_box(scene, box, share >= 0.5))


def _smoothed(scene: Scene, mask: np.ndarray, sigma_mm: float) -> np.ndarray:
    sigma = [sigma_mm / step for step in scene.grid.spacing_mm]
    return ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=2.0)


def _pooling(scene: Scene, sac: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share of its full thickness that the fluid reaches: 0.3 on top, 1.3 at the bottom, 0 near its top."""
    places = np.argwhere(sac)
    low, high = places.min(axis=0), places.max(axis=0)
    x, y, z = (np.arange(n, dtype=np.float32) for n in sac.shape)
    up = (y - low[1]) / (high[1] - low[1] + 1)
    up = 1 - up if scene.is_prone else up
    rise = (z - low[2]) / (high[2] - low[2] + 1)
    depth = 1.25 - 0.55 * up[None, :, None] - 0.5 * rise[None, None, :] + 0 * x[:, None, None]
    depth = depth + 0.12 * noise_mm(scene, sac.shape, 25.0, rng)
    return np.clip(depth, 0.2, 1.4) * np.clip((0.8 - rise) / 0.15, 0, 1)[None, None, :]


HERNIA_MM = (14.0, 21.0, 30.0)
"""Radius of a hiatal hernia, by grade."""


def insert_hiatal_hernia(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """Part of the stomach above the diaphragm: a walled pouch with fluid and air, where the oesophagus ends."""
    tube, heart = np.argwhere(scene.mask("esophagus")), np.argwhere(scene.mask("heart"))
    if len(tube) == 0 or len(heart) == 0:
        return None
    floor = np.quantile(heart[:, 2], 0.12)
    low = tube[np.abs(tube[:, 2] - floor) * scene.spacing_mm[2] <= 10]
    if len(low) == 0:
        return None
    grade = int(rng.integers(3))
    radius_mm = HERNIA_MM[grade] * float(rng.uniform(0.9, 1.1))
    voxel = low.mean(axis=0) + [0, 0.3 * radius_mm / scene.spacing_mm[1], 0]
    box = box_around(scene, np.rint(voxel).astype(int), radius_mm * 1.5)
    offset = offsets_mm(scene, box, voxel)
    stretch = rng.uniform(0.85, 1.15, 3).astype(np.float32) * np.array([1.0, 1.15, 0.9], np.float32)
    depth = np.sqrt(((offset * stretch[:, None, None, None]) ** 2).sum(axis=0))
    depth = depth - radius_mm * (1 + 0.06 * noise_mm(scene, depth.shape, radius_mm, rng))
    allowed = ~scene.mask("spine", "ribs", "aorta", "heart", "spinal_cord", "liver")[box] & (scene.labels[box] > 0)
    share = soft_share(depth, scene.coarsest_mm()) * allowed
    blend(scene.hu[box], share, float(rng.normal(42, 8)))
    _fill_pouch(scene, box, depth + float(rng.uniform(3, 6)), offset[1] * allowed, rng)
    claim = Claim("hiatal hernia", "present", ("esophagus",), grade=grade)
    return Finding(claim, mask_in_box(scene, box, share >= 0.5))


def _fill_pouch(scene: Scene, box: Box, depth: np.ndarray, height: np.ndarray, rng: np.random.Generator) -> None:
    """Fluid or food inside the wall, and above a level, in most, swallowed air."""
    inner = soft_share(depth, scene.coarsest_mm()) * (height != 0)
    hu = scene.hu[box]
    content = float(rng.uniform(5, 45)) + float(rng.uniform(0, 30)) * noise_mm(scene, hu.shape, 7.0, rng)
    blend(hu, inner, content)
    if rng.random() < 0.75:
        up = -height if scene.is_prone else height
        level = float(rng.uniform(-0.3, 0.6)) * float(up.max())
        blend(hu, inner * soft_share(level - up, scene.coarsest_mm()), -960.0)
