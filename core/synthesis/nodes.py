"""Soft-tissue balls outside of the lung: lymph nodes by station, cysts of the liver."""

import numpy as np

from core.synthesis.balls import Shape, ball_depth_mm, ball_mask, measure_mm
from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.nodules import TRIES, draw_size_mm
from core.synthesis.scene import (
    Finding,
    Scene,
    blend,
    bounding_box,
    box_around,
    dilate,
    mask_in_box,
    pick_voxel,
    soft_share,
)

KEPT_OUT = ("airway", "trachea", "aorta", "heart", "spine", "ribs", "sternum", "esophagus", "lung", "spinal_cord")
"""Structures that a node does not grow into."""


STATIONS_MM = {
    "right paratracheal": ((8, 24), (-6, 16), (6, 50)),
    "left paratracheal": ((-24, -8), (-6, 16), (2, 40)),
    "subcarinal": ((-12, 12), (-16, 6), (-28, -4)),
    "prevascular": ((-22, 22), (18, 45), (0, 50)),
}
"""Boxes to the right, front and top of where the trachea forks, in mm: lowest and highest."""


def insert_lymph_node(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """An enlarged node at one of `STATIONS_MM`: beside the trachea, below its fork, or before the great vessels."""
    fork = _fork(scene)
    if fork is None:
        return None
    free = ~scene.mask(*KEPT_OUT) & (scene.labels > 0) & (scene.hu > -200) & (scene.hu < 80)
    free_between = free & between_lungs(scene)
    for name in rng.permutation(list(STATIONS_MM)):
        corners = fork[:, None] + np.array(STATIONS_MM[str(name)]) / scene.spacing_mm[:, None]
        found = _insert_node(scene, "lymph node", _within(free_between, corners), free, rng)
        if found is not None:
            return found
    return None


def _fork(scene: Scene) -> np.ndarray | None:
    """Voxel (3,) of the lower end of the trachea, where the main bronchi leave it."""
    trachea = np.argwhere(scene.mask("trachea"))
    if len(trachea) == 0:
        return None
    low = trachea[trachea[:, 2] <= trachea[:, 2].min() + 15 / scene.spacing_mm[2]]
    return np.array([*low[:, :2].mean(axis=0), low[:, 2].min()])


def _within(where: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """`where` (X, Y, Z) bool inside a box of `corners` (3, 2) in voxels, False outside."""
    part = tuple(slice(max(0, int(low)), max(0, int(high) + 1)) for low, high in corners)
    field = np.zeros_like(where)
    field[part] = where[part]
    return field


HILUM_MM = ((14, 44), (-24, 14), (-42, 0))
"""Where the right hilum is, as `STATIONS_MM`; the left one is its mirror image."""


def insert_hilar_node(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """An enlarged node at the root of one lung, bulging into it."""
    fork, side = _fork(scene), ("left", "right")[rng.integers(2)]
    lung = scene.mask(f"lung_{side}")
    if fork is None or not lung.any():
        return None
    away = np.array([1 if side == "right" else -1, 1, 1])[:, None]
    corners = fork[:, None] + np.sort(np.array(HILUM_MM) * away, axis=1) / scene.spacing_mm[:, None]
    free = ~scene.mask("trachea", "airway", "aorta", "spine", "heart", "esophagus") & (scene.labels > 0)
    field = _within(free & ~lung & dilate(lung, 2), corners)
    size_mm, voxel = draw_size_mm(scene, "hilar lymph node", rng), pick_voxel(field, rng)
    if voxel is None:
        return None
    return _paint_soft_ball(scene, "hilar lymph node", (voxel, size_mm), free, rng, side)


def insert_axillary_node(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """An enlarged node in the fat beside an upper lung, outside of the ribs."""
    lungs = bounding_box(scene.mask("lung"))
    if lungs is None:
        return None
    free = ~scene.mask("lung", "ribs", "heart", "liver", "scapula_left", "scapula_right") & (scene.labels > 0)
    free &= scene.hu < 90
    x, step = lungs[0], scene.spacing_mm
    high = slice(int(lungs[2].stop - 75 / step[2]), int(lungs[2].stop - 15 / step[2]))
    deep = slice(lungs[1].start + int(25 / step[1]), max(lungs[1].stop - int(25 / step[1]), 0))
    field = np.zeros_like(free)
    reach = int(45 / step[0])
    for part in (
        slice(max(0, x.start - reach), x.start - int(9 / step[0])),
        slice(x.stop + int(9 / step[0]), x.stop + reach),
    ):
        field[part, deep, high] = free[part, deep, high] & (scene.hu[part, deep, high] < -40)
    return _insert_node(scene, "axillary lymph node", field, free, rng)


def between_lungs(scene: Scene) -> np.ndarray:
    """(X, Y, Z) bool: voxels with left lung on one side and right lung on the other in their row."""
    left, right = scene.mask("lung_left", "pleura_left"), scene.mask("lung_right", "pleura_right")
    beyond_left = np.logical_or.accumulate(left, axis=0)
    before_right = np.logical_or.accumulate(right[::-1], axis=0)[::-1]
    between: np.ndarray = beyond_left & before_right & ~left & ~right
    return between


def _insert_node(
    scene: Scene, kind: str, field: np.ndarray, free: np.ndarray, rng: np.random.Generator
) -> Finding | None:
    """A node in `field` where most of its surroundings are `free`, best in fat, in which it can be told."""
    size_mm = draw_size_mm(scene, kind, rng)
    best, best_fat = None, -1.0
    fat = free & (scene.hu < -20)
    for _ in range(TRIES):
        voxel = pick_voxel(field, rng)
        if voxel is None:
            return None
        box = box_around(scene, voxel, size_mm * 0.4)
        share = float(fat[box].mean())
        if free[box].mean() > 0.6 and share > best_fat:
            best, best_fat = voxel, share
    return None if best is None else _paint_soft_ball(scene, kind, (best, size_mm), free, rng)


def insert_liver_cyst(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """A cyst of water density inside the liver."""
    liver = scene.mask("liver")
    size_mm = draw_size_mm(scene, "liver cyst", rng)
    for _ in range(TRIES):
        voxel = pick_voxel(liver, rng)
        if voxel is not None and liver[box_around(scene, voxel, size_mm * 0.45)].mean() > 0.85:
            return _paint_soft_ball(scene, "liver cyst", (voxel, size_mm), liver, rng)
    return None


def _paint_soft_ball(
    scene: Scene,
    kind: str,
    place: tuple[np.ndarray, float],
    allowed: np.ndarray,
    rng: np.random.Generator,
    side: str = "",
) -> Finding | None:
    """A ball inside `allowed` tissue: node or cyst; `side` where the kind is one of a pair."""
    voxel, size_mm = place
    box = box_around(scene, voxel, size_mm)
    depth = ball_depth_mm(scene, box, voxel, Shape(size_mm / 2, 0.05, oblong=0.1 if kind == "liver cyst" else 0.3), rng)
    share = soft_share(depth, scene.coarsest_mm()) * allowed[box]
    inside = ball_mask(share)
    if inside.sum() * scene.grid.voxel_ml < 0.2:
        return None
    if kind != "liver cyst":  # nodes lie in fat; where there is none they could not be told
        blend(scene.hu[box], np.clip(1.2 - np.abs(depth - 1.5) / 2.0, 0, 0.8) * allowed[box], -85.0)
    blend(scene.hu[box], share, rng.normal(8, 5) if kind == "liver cyst" else _node_hu(scene, rng))
    long_mm, short_mm = measure_mm(scene, inside, size_mm, rng)
    organs = tuple(name for name in KINDS[kind].organs if side in name)
    claim = Claim(kind, "present", organs, side_of_organs(organs), long_mm, short_mm)
    return Finding(claim, mask_in_box(scene, box, inside))


def _node_hu(scene: Scene, rng: np.random.Generator) -> float:
    """As dense as muscle, brighter where the blood is."""
    aorta = scene.hu[scene.mask("aorta")]
    enhanced = len(aorta) > 0 and float(np.median(aorta)) > 110
    return float(rng.normal(75 if enhanced else 42, 12))
