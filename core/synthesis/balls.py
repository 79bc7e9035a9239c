"""Irregular balls: their surface, which voxels are theirs, and how a reader would measure them."""

from typing import NamedTuple

import numpy as np

from core.synthesis.scene import Box, Scene, noise_mm, offsets_mm

MEASURED_VOXELS = 40
"""A mask of fewer voxels says less about a diameter than the ball it was drawn from."""


class Shape(NamedTuple):
    """How a ball departs from one."""

    radius_mm: float
    roughness: float
    """Deviation of the surface relative to the radius."""
    lobes: int = 0
    """Smaller balls that bulge out of it."""
    spikes: int = 0
    """Spicules."""
    oblong: float = 0.15
    """Most that an axis is stretched or shrunk."""


def ball_depth_mm(scene: Scene, box: Box, voxel: np.ndarray, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Signed distance in mm to an irregular ball's surface, negative inside, on `box`: (x, y, z) float32."""
    radius = shape.radius_mm
    offset = offsets_mm(scene, box, voxel + rng.uniform(-0.5, 0.5, 3))
    stretch = 1.0 + shape.oblong * rng.uniform(-1, 1, 3).astype(np.float32)
    distance = np.sqrt(((offset * stretch[:, None, None, None]) ** 2).sum(axis=0))
    depth = distance - radius * (0.8 if shape.lobes else 1.0)
    for _ in range(shape.lobes):
        direction = rng.standard_normal(3)
        bulge = float(rng.uniform(0.4, 0.65)) * radius
        centre = (radius - bulge) * (direction / np.linalg.norm(direction)).astype(np.float32)
        depth = np.minimum(depth, np.sqrt(((offset - centre[:, None, None, None]) ** 2).sum(axis=0)) - bulge)
    depth = depth - radius * shape.roughness * noise_mm(scene, depth.shape, max(3.0, radius * 0.8), rng)
    return depth - _spikes_mm(offset, shape, rng) if shape.spikes else depth


def _spikes_mm(offset: np.ndarray, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """How far thin spicules push the surface outwards in each direction, in mm."""
    directions = rng.standard_normal((shape.spikes, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    unit = offset / np.maximum(np.sqrt((offset**2).sum(axis=0)), 1e-3)
    reach = np.zeros(offset.shape[1:], np.float32)
    for direction in directions:
        length = shape.radius_mm * float(rng.uniform(0.3, 0.9))
        cosine = np.tensordot(direction, unit, 1)
        np.maximum(reach, length * np.exp((cosine - 1.0) / 0.009), out=reach)
    return reach


def ball_mask(share: np.ndarray) -> np.ndarray:
    """Voxels at least half taken; of a ball that fills no voxel by half, those it fills most."""
    most = float(share.max(initial=0.0))
    return share >= min(0.5, 0.8 * most) if most > 0.05 else np.zeros(share.shape, bool)


def measure_mm(scene: Scene, inside: np.ndarray, drawn_mm: float, rng: np.random.Generator) -> tuple[float, float]:
    """Long and short axial diameter in mm of a mask (x, y, z), from the spread of its largest slice's voxels."""
    if inside.sum() < MEASURED_VOXELS:
        return drawn_mm, drawn_mm * float(rng.uniform(0.75, 0.95))
    level = int(inside.sum(axis=(0, 1)).argmax())
    places = np.argwhere(inside[:, :, level]) * scene.spacing_mm[:2]
    if len(places) < 6:
        return drawn_mm, drawn_mm * float(rng.uniform(0.75, 0.95))
    spread = np.linalg.eigvalsh(np.cov(places.T) + np.diag(scene.spacing_mm[:2] ** 2) / 12)
    short, long = 4.0 * np.sqrt(np.maximum(spread, 0.25))  # a filled ellipse of half axis a has variance a^2 / 4
    return float(np.clip(long, 0.7 * drawn_mm, 1.2 * drawn_mm)), float(np.clip(short, 0.4 * drawn_mm, drawn_mm))
