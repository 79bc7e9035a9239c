"""Medical material: pacemaker, central line, sternal wires, stents. Metal, and the streaks it draws."""

import numpy as np
from scipy import ndimage

from core.synthesis.calcium import apex_side, coronary_lines
from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.scene import (
    Box,
    Finding,
    Scene,
    blend,
    bounding_box,
    box_around,
    box_of_points,
    mask_in_box,
    noise_mm,
    offsets_mm,
    tube_depth_mm,
)

METAL_HU = 2800.0
SEEN_SHARE = 0.3
"""Voxels that a wire fills by more than this are its mask."""


def insert_pacemaker_lead(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """A generator under the skin, and its lead, which is the finding, through the upper vein into the right heart."""
    upper, heart = _upper_vein(scene), scene.mask("heart")
    if upper is None or not heart.any():
        return None
    middle, step, right = np.argwhere(heart).mean(axis=0), scene.spacing_mm, -apex_side(scene)
    shoulder = _shoulder(scene, float(rng.choice([-1.0, 1.0])), rng)
    points = [] if shoulder is None else [shoulder, _under_collarbone(scene, shoulder, upper)]
    points += [upper, middle + np.array([32 * right, 0, 22]) / step, middle + np.array([26 * right, 4, -12]) / step]
    points += [middle + np.array([right * rng.uniform(-22, 4), rng.uniform(8, 24), -rng.uniform(18, 34)]) / step]
    mask = np.zeros(scene.hu.shape, bool)
    _draw_wire(scene, mask, np.array(points), 1.2, METAL_HU)
    if shoulder is not None:
        _draw_generator(scene, shoulder, rng)
    return _found(scene, "pacemaker lead", mask)


def _under_collarbone(scene: Scene, shoulder: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Half-way from the shoulder to the upper vein, over the top of the lung."""
    lungs = bounding_box(scene.mask("lung"))
    top = upper[2] if lungs is None else lungs[2].stop + 2
    return np.array([*(shoulder[:2] * 0.45 + upper[:2] * 0.55), max(top, upper[2])])


def _found(scene: Scene, kind: str, mask: np.ndarray) -> Finding | None:
    mask &= scene.labels > 0
    if mask.sum() * scene.grid.voxel_ml < 0.1:
        return None
    organs = KINDS[kind].organs
    return Finding(Claim(kind, "present", organs, side_of_organs(organs)), mask)


def _upper_vein(scene: Scene) -> np.ndarray | None:
    """A voxel (3,) of the superior vena cava, or where it should be: in front of and beside the trachea's lower end."""
    vein = np.argwhere(scene.mask("superior_vena_cava"))
    if len(vein) > 20:
        top = vein[vein[:, 2] >= np.quantile(vein[:, 2], 0.7)]
        return top.mean(axis=0)
    trachea = np.argwhere(scene.mask("trachea"))
    if len(trachea) == 0:
        return None
    low = trachea[trachea[:, 2] <= np.quantile(trachea[:, 2], 0.3)].mean(axis=0)
    return low + np.array([-22 * apex_side(scene), 14, 12]) / scene.spacing_mm


def _shoulder(scene: Scene, side: float, rng: np.random.Generator) -> np.ndarray | None:
    """A voxel (3,) under the skin in front of an upper lung; None where the view does not show it."""
    lungs = bounding_box(scene.mask("lung"))
    if lungs is None:
        return None
    x = (lungs[0].start + lungs[0].stop) / 2 + side * 0.36 * (lungs[0].stop - lungs[0].start)
    z = lungs[2].stop - float(rng.uniform(35, 60)) / scene.spacing_mm[2]
    at = np.clip(np.rint([x, z]).astype(int), 0, [scene.hu.shape[0] - 1, scene.hu.shape[2] - 1])
    column = np.flatnonzero(scene.labels[at[0], :, at[1]] > 0)
    if len(column) == 0 or column[-1] >= scene.hu.shape[1] - 1:
        return None
    return np.array([at[0], column[-1] - 14 / scene.spacing_mm[1], at[1]])


def _draw_generator(scene: Scene, middle: np.ndarray, rng: np.random.Generator) -> None:
    """A flat rounded metal box and the streaks around it."""
    box = box_around(scene, np.rint(middle).astype(int), 80.0)
    offset = offsets_mm(scene, box, middle)
    half = np.array([rng.uniform(18, 26), rng.uniform(4, 6), rng.uniform(18, 26)], np.float32)
    depth = ((offset / half[:, None, None, None]) ** 4).sum(axis=0) ** 0.25 - 1.0
    share = np.clip(0.5 - depth * half.min() / scene.coarsest_mm(), 0, 1)
    _draw_streaks(scene, box, (offset, np.abs(offset[2]) < half[2]), rng)
    blend(scene.hu[box], share, METAL_HU)


def _draw_streaks(scene: Scene, box: Box, metal: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> None:
    """Bright and dark rays in the slices of the metal that fade over 40 mm."""
    offset, is_level = metal
    angle = np.arctan2(offset[1], offset[0])
    rays = np.sin(angle * int(rng.integers(5, 10)) + rng.uniform(0, 6)) + np.sin(angle * int(rng.integers(9, 17)))
    fade = np.exp(-np.hypot(offset[0], offset[1]) / 40.0) * is_level * (scene.labels[box] > 0)
    scene.hu[box] += (rays * fade * float(rng.uniform(40, 160))).astype(np.float32)
    np.maximum(scene.hu[box], -1010, out=scene.hu[box], where=scene.labels[box] > 0)


def _draw_wire(scene: Scene, mask: np.ndarray, points: np.ndarray, radius_mm: float, density_hu: float) -> None:
    """A tube along `points` (P, 3) voxels; marks the voxels it fills in `mask`."""
    box = box_of_points(scene, points, radius_mm + 2 * scene.coarsest_mm())
    if box is None:
        return
    edge = scene.coarsest_mm()
    full = min(1.0, 2.2 * (radius_mm / edge) ** 0.8)
    share = np.clip(0.5 - tube_depth_mm(scene, box, points, radius_mm) / edge, 0.0, 1.0) * full
    share *= scene.labels[box] > 0
    blend(scene.hu[box], share, density_hu)
    mask[box] |= share >= SEEN_SHARE * full


def insert_central_line(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """A catheter from the neck or below the collarbone to the mouth of the right atrium."""
    upper, heart = _upper_vein(scene), bounding_box(scene.mask("heart"))
    lungs = bounding_box(scene.mask("lung"))
    if upper is None or heart is None or lungs is None:
        return None
    step, side = scene.spacing_mm, float(rng.choice([-apex_side(scene), -apex_side(scene), apex_side(scene)]))
    top = np.array([upper[0] + side * rng.uniform(14, 30) / step[0], upper[1] + 4 / step[1], lungs[2].stop + 3.0])
    start = top + np.array([side * rng.uniform(0, 12), rng.uniform(0, 10), rng.uniform(20, 60)]) / step
    if rng.random() < 0.4:  # from below the collarbone
        start = top + np.array([side * rng.uniform(50, 80), 16, -rng.uniform(5, 25)]) / step
    tip = np.array([upper[0], upper[1] + 4 / step[1], max(heart[2].start, upper[2] - rng.uniform(30, 75) / step[2])])
    mask = np.zeros(scene.hu.shape, bool)
    _draw_wire(scene, mask, np.array([start, top, upper, tip]), 1.3, float(rng.uniform(500, 1500)))
    return _found(scene, "central venous catheter", mask)


def insert_sternal_wires(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """Four to seven loops of steel around the sternum."""
    sternum = np.argwhere(scene.mask("sternum"))
    if len(sternum) * scene.grid.voxel_ml < 8:
        return None
    low, high = np.quantile(sternum[:, 2], [0.05, 0.95])
    mask, step = np.zeros(scene.hu.shape, bool), scene.spacing_mm
    turn = np.linspace(0, 2 * np.pi, 17)
    for level in np.linspace(low, high, int(rng.integers(4, 8))):
        slab = sternum[np.abs(sternum[:, 2] - level) * step[2] <= 4]
        if len(slab) < 3:
            continue
        middle, half = (slab.min(axis=0) + slab.max(axis=0)) / 2, np.ptp(slab, axis=0) / 2 + 1.5 / step
        tilt = float(rng.uniform(-4, 4)) / step[2]
        loop = middle + np.stack([np.cos(turn) * half[0] * 0.8, np.sin(turn) * half[1], np.cos(turn) * tilt], axis=1)
        _draw_wire(scene, mask, loop, 0.7, METAL_HU)
    return _found(scene, "sternal wires", mask)


def insert_coronary_stent(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """A metal tube of 12 to 30 mm in one coronary artery."""
    lines = coronary_lines(scene, rng)
    if not lines:
        return None
    line = lines[rng.integers(min(2, len(lines)))]
    start = int(rng.integers(max(1, len(line) // 2)))
    mask = np.zeros(scene.hu.shape, bool)
    _draw_wire(scene, mask, line[start : start + int(rng.integers(3, 7))], 1.8, float(rng.uniform(1200, 2200)))
    return _found(scene, "coronary stent", mask)


def _descending(scene: Scene, aorta: np.ndarray) -> np.ndarray:
    """The hindmost 36 mm of the aorta in every axial slice: (X, Y, Z) bool."""
    first = np.asarray(aorta.any(axis=0)).argmax(axis=0)  # (Z,)
    y = np.arange(aorta.shape[1])[:, None]
    behind: np.ndarray = aorta & (y < first[None, :] + 36 / scene.spacing_mm[1])[None]
    return behind


def insert_aortic_stent(scene: Scene, rng: np.random.Generator) -> Finding | None:
    """A stent graft: rings of wire in zigzag within the wall of a stretch of the descending aorta."""
    aorta = scene.mask("aorta")
    box = bounding_box(aorta)
    if box is None or aorta.sum() * scene.grid.voxel_ml < 30:
        return None
    long = float(rng.uniform(60, 140)) / scene.spacing_mm[2]
    room = max(1.0, (box[2].stop - box[2].start) - long)
    first = int(box[2].start + float(rng.uniform(0.2, 0.8)) * room)
    stretch = np.zeros_like(aorta)
    stretch[:, :, first : int(first + long)] = _descending(scene, aorta)[:, :, first : int(first + long)]
    inside = stretch[box]
    if inside.sum() * scene.grid.voxel_ml < 8:
        return None
    wall = inside & ~ndimage.binary_erosion(inside)
    height = (np.arange(inside.shape[2]) * scene.spacing_mm[2])[None, None, :]
    wave = 5.0 * noise_mm(scene, inside.shape, 8.0, rng)
    struts = np.clip(1.6 - np.abs((height + wave) % 12.0 - 6.0) / 2.0, 0, 1) * wall
    blend(scene.hu[box], struts * min(1.0, 1.6 / scene.coarsest_mm()), 2300.0)
    return _found(scene, "aortic stent graft", mask_in_box(scene, box, wall))
