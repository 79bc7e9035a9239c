"""Round findings of the lung: nodules of several kinds, cavities, masses; free, on the pleura, or beside a vessel."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from core.synthesis.balls import Shape, ball_depth_mm, ball_mask, measure_mm
from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.scene import (
    Box,
    Finding,
    Scene,
    blend,
    box_around,
    mask_in_box,
    noise_mm,
    pick_voxel,
    soft_share,
    with_rim,
)

TRIES = 25
"""Random places tried before a finding is given up."""
AERATED_HU = -600.0
"""A nodule is put where the lung is on average darker than this."""
ATTACHED_CHANCE = {"mass": 0.5, "spiculated nodule": 0.3, "ground-glass nodule": 0.15}
"""How often a kind touches pleura, fissure or mediastinum; others `ATTACHED`."""
ATTACHED = 0.25
BESIDE_VESSEL = 0.15
"""How often a nodule sits on a vessel."""


class Room(NamedTuple):
    """How much of a ball's surroundings must be lung of its lobe."""

    least: float
    most: float


FREE, TOUCHING = Room(0.93, 1.01), Room(0.5, 0.88)


def insert_lung_ball(scene: Scene, kind: str, rng: np.random.Generator) -> Finding | None:
    """A nodule or mass of `kind` at a random aerated place of a random lobe; None where none fits."""
    lobes = scene.lobes()
    if not lobes:
        return None
    lobe = lobes[rng.integers(len(lobes))]
    size_mm = draw_size_mm(scene, kind, rng)
    inside = scene.mask(lobe)
    room = TOUCHING if rng.random() < ATTACHED_CHANCE.get(kind, ATTACHED) else FREE
    anchors = inside & (scene.hu > -350) if rng.random() < BESIDE_VESSEL else inside
    for attempt in range(2 * TRIES):
        voxel = pick_voxel(anchors if attempt < TRIES else inside, rng)
        wanted = room if attempt < TRIES else Room(0.6, 1.01)
        if voxel is not None and _fits(scene, inside, voxel, size_mm / 2, wanted):
            return _paint_lung_ball(scene, kind, (lobe, voxel, size_mm), inside, rng)
    return None


def draw_size_mm(scene: Scene, kind: str, rng: np.random.Generator) -> float:
    """A diameter from the kind's range that the grid can hold, small ones more often."""
    low, high = KINDS[kind].sizes_mm or (10.0, 30.0)
    low = max(low, LEAST_VOXELS * scene.coarsest_mm())
    return float(low + max(0.0, high - low) * rng.beta(1.1, 1.9))


LEAST_VOXELS = 1.7
"""A ball is at least this many voxels wide."""


def _fits(scene: Scene, lobe: np.ndarray, voxel: np.ndarray, radius_mm: float, room: Room) -> bool:
    """Whether the ball's surroundings are lobe as far as `room` says, and dark where they are."""
    box = box_around(scene, voxel, radius_mm * 0.85)
    inside = lobe[box]
    values = scene.hu[box][inside]
    return room.least <= inside.mean() < room.most and len(values) > 0 and float(np.mean(values)) < AERATED_HU


def _paint_lung_ball(
    scene: Scene, kind: str, place: tuple[str, np.ndarray, float], lobe: np.ndarray, rng: np.random.Generator
) -> Finding | None:
    name, voxel, size_mm = place
    box = box_around(scene, voxel, size_mm * 1.1 + 6.0)
    shape = Shape(size_mm / 2, _ROUGHNESS.get(kind, 0.07), lobes=_draw_lobes(kind, rng), spikes=_draw_spikes(kind, rng))
    depth = ball_depth_mm(scene, box, voxel, shape, rng)
    allowed = with_rim(scene, box, lobe[box])
    share = soft_share(depth, _EDGE_VOXELS.get(kind, 1.0) * scene.coarsest_mm()) * allowed
    _DENSITIES[kind](Brush(scene, box, share, depth, size_mm), rng)
    inside = ball_mask(share) & lobe[box]
    if not inside.any():
        return None
    long_mm, short_mm = measure_mm(scene, inside, size_mm, rng)
    long_mm = max(long_mm, (KINDS[kind].sizes_mm or (0.0,))[0])  # cut by the pleura, it is still of its kind
    claim = Claim(kind, "present", (name,), side_of_organs([name]), long_mm, short_mm)
    return Finding(claim, mask_in_box(scene, box, inside))


_ROUGHNESS = {"mass": 0.1, "spiculated nodule": 0.12, "calcified nodule": 0.03, "ground-glass nodule": 0.12}
_EDGE_VOXELS = {"ground-glass nodule": 1.6, "part-solid nodule": 1.4}


def _draw_lobes(kind: str, rng: np.random.Generator) -> int:
    """Lobulations: balls on the surface of the ball."""
    return int(rng.integers(3, 8)) if kind == "mass" else int(rng.integers(0, 3)) if kind == "solid nodule" else 0


def _draw_spikes(kind: str, rng: np.random.Generator) -> int:
    if kind == "spiculated nodule" or (kind == "mass" and rng.random() < 0.35):
        return int(rng.integers(18, 36))
    return 0


class Brush(NamedTuple):
    """A ball about to be painted."""

    scene: Scene
    box: Box
    share: np.ndarray
    """(x, y, z) share of each voxel that the ball takes."""
    depth: np.ndarray
    """(x, y, z) signed distance in mm to its surface, negative inside."""
    size_mm: float

    @property
    def hu(self) -> np.ndarray:
        """The box of the CT, to be changed in place."""
        return self.scene.hu[self.box]

    def texture(self, scale_mm: float, rng: np.random.Generator) -> np.ndarray:
        """Noise of unit deviation on the box."""
        return noise_mm(self.scene, self.share.shape, scale_mm, rng)

    def core(self, share_of_radius: float, edge_mm: float) -> np.ndarray:
        """Share of the voxels that lie deeper than a share of the radius below the surface."""
        return soft_share(self.depth + self.size_mm / 2 * share_of_radius, max(edge_mm, self.scene.coarsest_mm()))


def _solid(brush: Brush, rng: np.random.Generator) -> None:
    blend(brush.hu, brush.share, float(rng.normal(40, 18)) + 12 * brush.texture(4.0, rng))


def _ground_glass(brush: Brush, rng: np.random.Generator) -> None:
    level = float(np.clip(rng.normal(-570, 75), -690, -400)) + 35 * brush.texture(4.0, rng)
    blend(brush.hu, brush.share, np.maximum(brush.hu, level))


def _part_solid(brush: Brush, rng: np.random.Generator) -> None:
    _ground_glass(brush, rng)
    core = brush.core(float(rng.uniform(0.3, 0.6)), 2.0) * np.clip(1 + 0.4 * brush.texture(6.0, rng), 0.2, 1)
    blend(brush.hu, core * brush.share, float(rng.normal(15, 20)))


def _calcified(brush: Brush, rng: np.random.Generator) -> None:
    """Calcium all through, in the middle, or in grains like popcorn."""
    level, kind = float(rng.uniform(250, 900)), rng.random()
    if kind < 0.5 or brush.size_mm < max(10.0, 4 * brush.scene.coarsest_mm()):
        blend(brush.hu, brush.share, level)
        return
    _solid(brush, rng)
    grains = np.clip(0.6 + 0.6 * brush.texture(4.0, rng), 0.2, 1) if kind < 0.75 else 1.0
    blend(brush.hu, brush.core(0.25, 2.0) * brush.share * grains, level)


def _cavitary(brush: Brush, rng: np.random.Generator) -> None:
    """Air within a wall of 2 to 7 mm that is thicker on one side."""
    _solid(brush, rng)
    wall_mm = float(np.clip(rng.uniform(0.2, 0.5) * brush.size_mm / 2, max(2.0, 0.8 * brush.scene.coarsest_mm()), 8.0))
    uneven = 1.0 + 0.25 * brush.texture(brush.size_mm / 2, rng)
    hollow = soft_share(brush.depth + wall_mm * uneven, max(1.5, brush.scene.coarsest_mm()))
    blend(brush.hu, hollow * brush.share, -950.0)


def _mass(brush: Brush, rng: np.random.Generator) -> None:
    """Soft tissue, enhancing or not; some with a darker dead middle, few with air or calcium in it."""
    level = float(rng.normal(48, 18))
    blend(brush.hu, brush.share, level + 12 * brush.texture(6.0, rng))
    kind = rng.random()
    if kind < 0.4:
        dead = brush.core(0.35, 8.0) * np.clip(0.8 + 0.5 * brush.texture(12.0, rng), 0, 1)
        blend(brush.hu, dead * brush.share, float(rng.uniform(2, 25)))
    elif kind < 0.5:
        blend(brush.hu, brush.core(0.55, 3.0) * brush.share * np.clip(brush.texture(8.0, rng) + 0.6, 0, 1), -900.0)


_DENSITIES: dict[str, Callable[[Brush, np.random.Generator], None]] = {
    "solid nodule": _solid,
    "spiculated nodule": _solid,
    "ground-glass nodule": _ground_glass,
    "part-solid nodule": _part_solid,
    "calcified nodule": _calcified,
    "cavitary nodule": _cavitary,
    "mass": _mass,
}
