"""Round findings: nodules of several kinds, masses, cysts, lymph nodes."""

from collections.abc import Callable

import numpy as np

from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.scene import (
    Box,
    Finding,
    Scene,
    blend,
    box_around,
    mask_in_box,
    offsets_mm,
    pick_voxel,
    smooth_noise,
    soft_share,
)

LEAST_SIZE_MM = 7.0
"""Smaller nodules vanish on a grid of 3 to 4 mm: they are not drawn."""
TRIES = 12
"""Random places tried before a finding is given up."""
AERATED_HU = -600.0
"""A nodule is put where the lung is on average darker than this."""


def insert_lung_ball(scene: Scene, kind: str, rng: np.random.Generator) -> Finding | None:
    """A nodule or mass of `kind` at a random aerated place of a random lobe; None where none fits."""
    lobes = scene.lobes()
    if not lobes:
        return None
    lobe = lobes[rng.integers(len(lobes))]
    size_mm = draw_size_mm(kind, rng)
    inside_lobe = scene.mask(lobe)
    lung = scene.mask("lung")
    for _ in range(TRIES):
        voxel = pick_voxel(inside_lobe, rng)
        if voxel is not None and _is_aerated(scene, lung, voxel, size_mm / 2):
            return _paint_lung_ball(scene, kind, (lobe, voxel, size_mm), lung, rng)
    return None


def draw_size_mm(kind: str, rng: np.random.Generator) -> float:
    """A diameter from the kind's range, small ones more often."""
    low, high = KINDS[kind].sizes_mm or (10.0, 30.0)
    low = max(low, LEAST_SIZE_MM)
    return float(low + (high - low) * rng.beta(1.1, 1.9))


def _is_aerated(scene: Scene, lung: np.ndarray, voxel: np.ndarray, radius_mm: float) -> bool:
    """Whether the surroundings are nearly all lung, and dark."""
    box = box_around(scene, voxel, radius_mm * 0.8)
    return bool(lung[box].mean() > 0.72) and float(scene.hu[box][lung[box]].mean()) < AERATED_HU


def _paint_lung_ball(
    scene: Scene, kind: str, place: tuple[str, np.ndarray, float], lung: np.ndarray, rng: np.random.Generator
) -> Finding | None:
    lobe, voxel, size_mm = place
    box = box_around(scene, voxel, size_mm)
    depth = _depth_mm(scene, box, voxel, (size_mm / 2, kind), rng)
    share = soft_share(depth, float(scene.spacing_mm.max())) * lung[box]
    _DENSITIES[kind](scene.hu[box], share, depth, rng)
    inside = share >= 0.5
    if not inside.any():
        return None
    second = float(size_mm * rng.uniform(0.7, 0.95))
    claim = Claim(kind, "present", (lobe,), side_of_organs([lobe]), size_mm, second)
    return Finding(claim, mask_in_box(scene, box, inside))


def _depth_mm(
    scene: Scene, box: Box, voxel: np.ndarray, shape: tuple[float, str], rng: np.random.Generator
) -> np.ndarray:
    """Signed distance to an irregular ball's surface in mm, negative inside, on `box`."""
    radius_mm, kind = shape
    offset = offsets_mm(scene, box, voxel + rng.uniform(-0.5, 0.5, 3))
    stretch = rng.uniform(0.85, 1.15, 3).astype(np.float32)[:, None, None, None]
    distance = np.sqrt(((offset * stretch) ** 2).sum(axis=0))
    roughness = {"mass": 0.14, "spiculated nodule": 0.10, "calcified nodule": 0.03}.get(kind, 0.07)
    bumps = smooth_noise(distance.shape, max(1.5, radius_mm / float(scene.spacing_mm.max())), rng)
    depth = distance - radius_mm * (1.0 + roughness * bumps)
    if kind == "spiculated nodule" or (kind == "mass" and rng.random() < 0.4):
        depth = depth - _spikes_mm(offset, distance, radius_mm, rng)
    return depth


def _spikes_mm(offset: np.ndarray, distance: np.ndarray, radius_mm: float, rng: np.random.Generator) -> np.ndarray:
    """How far spicules push the surface outwards in each direction, in mm."""
    count = int(rng.integers(10, 22))
    directions = rng.standard_normal((count, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    cosine = np.einsum("ni,ixyz->nxyz", directions, offset / np.maximum(distance, 1e-3))
    lengths = radius_mm * rng.uniform(0.35, 0.9, (count, 1, 1, 1)).astype(np.float32)
    return (lengths * np.exp((cosine - 1.0) / 0.035)).max(axis=0)


def _solid(hu: np.ndarray, share: np.ndarray, _depth: np.ndarray, rng: np.random.Generator) -> None:
    texture = smooth_noise(hu.shape, 1.5, rng) * 14
    blend(hu, share, rng.normal(40, 20) + texture)


def _ground_glass(hu: np.ndarray, share: np.ndarray, _depth: np.ndarray, rng: np.random.Generator) -> None:
    texture = smooth_noise(hu.shape, 1.5, rng) * 40
    blend(hu, share * 0.9, np.maximum(hu, rng.normal(-520, 60) + texture))


def _part_solid(hu: np.ndarray, share: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> None:
    _ground_glass(hu, share, depth, rng)
    core = soft_share(depth - float(depth.min()) * rng.uniform(0.35, 0.6), 4.0)
    blend(hu, core * share, rng.normal(20, 20))


def _calcified(hu: np.ndarray, share: np.ndarray, _depth: np.ndarray, rng: np.random.Generator) -> None:
    blend(hu, share, rng.uniform(280, 900))


def _cavitary(hu: np.ndarray, share: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> None:
    _solid(hu, share, depth, rng)
    hollow = soft_share(depth - float(depth.min()) * rng.uniform(0.4, 0.6), 4.0)
    blend(hu, hollow * share, -930.0)


def _mass(hu: np.ndarray, share: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> None:
    _solid(hu, share, depth, rng)
    if rng.random() < 0.4:  # necrosis
        core = soft_share(depth - float(depth.min()) * 0.4, 8.0)
        blend(hu, core * share * 0.8, 12.0)


_DENSITIES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], None]] = {
    "solid nodule": _solid,
    "spiculated nodule": _solid,
    "ground-glass nodule": _ground_glass,
    "part-solid nodule": _part_solid,
    "calcified nodule": _calcified,
    "cavitary nodule": _cavitary,
    "mass": _mass,
}


def insert_lymph_node(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """An enlarged node in the soft tissue beside the trachea or below its fork."""
    airway = np.argwhere(scene.mask("trachea"))
    if len(airway) == 0:
        return None
    size_mm = draw_size_mm("lymph node", rng)
    taken = scene.mask("lung", "airway", "aorta", "heart", "spine", "ribs", "sternum", "esophagus")
    for _ in range(TRIES):
        anchor = airway[rng.integers(len(airway) // 2)]  # the list runs along x: any part of the tube
        shift_mm = rng.uniform([-26, -14, -30], [26, 16, 6])
        voxel = np.rint(anchor + shift_mm / scene.spacing_mm).astype(int)
        if (voxel < 1).any() or (voxel >= np.array(scene.hu.shape) - 1).any() or taken[tuple(voxel)]:
            continue
        return _paint_soft_ball(scene, "lymph node", (voxel, size_mm), ~taken, rng)
    return None


def insert_liver_cyst(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """A cyst of water density inside the liver."""
    liver = scene.mask("liver")
    size_mm = draw_size_mm("liver cyst", rng)
    for _ in range(TRIES):
        voxel = pick_voxel(liver, rng)
        if voxel is not None and liver[box_around(scene, voxel, size_mm * 0.45)].mean() > 0.85:
            return _paint_soft_ball(scene, "liver cyst", (voxel, size_mm), liver, rng)
    return None


def _paint_soft_ball(
    scene: Scene, kind: str, place: tuple[np.ndarray, float], allowed: np.ndarray, rng: np.random.Generator
) -> Finding | None:
    """A ball inside `allowed` tissue: node or cyst."""
    voxel, size_mm = place
    box = box_around(scene, voxel, size_mm)
    depth = _depth_mm(scene, box, voxel, (size_mm / 2, kind), rng)
    share = soft_share(depth, float(scene.spacing_mm.max())) * allowed[box]
    inside = share >= 0.5
    if inside.sum() * scene.grid.voxel_ml < 0.2:
        return None
    blend(scene.hu[box], share, rng.normal(8, 5) if kind == "liver cyst" else rng.normal(45, 12))
    organs = KINDS[kind].organs
    return Finding(Claim(kind, "present", organs, "", size_mm, size_mm * 0.8), mask_in_box(scene, box, inside))
