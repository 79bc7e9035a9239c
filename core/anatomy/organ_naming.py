"""The organ net's opinion of every voxel of a frame, tile by tile."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from core.anatomy.frame import AIR_HU, Frame
from core.anatomy.organ_net import CLASSES, EDGE_MM, TILE, OrganNet, show_windows
from core.progress import Progress, silent
from core.resample import resample
from core.structures import BY_NAME
from core.volume import Grid

_OVERLAP = 0.25
"""Least share of a tile's edge that its neighbour sees as well."""
_UNBIAS = 0.25
"""How much of the weight that a class had in training is taken back: training by Dice wants some of it kept. Of 0,
0.25, 0.5 and 1 it named the training patient's voxels best (mean Dice 0.859, 0.864, 0.862, 0.829)."""
_SIDED = ("scapula", "clavicula", "humerus", "autochthon")


def name_voxels(net: OrganNet, frame: Frame, progress: Progress = silent) -> np.ndarray:
    """Numbers of `core.structures` (X, Y, Z) uint8 on the frame's grid, which the body must fill; 0 = no organ."""
    return judge_voxels(net, frame, progress)[0]


def judge_voxels(net: OrganNet, frame: Frame, progress: Progress = silent) -> tuple[np.ndarray, np.ndarray]:
    """`name_voxels`, and the share in [0, 1] of its opinion that each voxel's name holds, (X, Y, Z) float32."""
    grid = _coarse_grid(frame.grid)
    hu = torch.from_numpy(resample(frame.hu, frame.grid, grid, fill=AIR_HU))
    shares = _add_tiles(net, hu, progress)
    best = np.zeros(frame.hu.shape, np.float32)
    total = np.full(frame.hu.shape, 1e-6, np.float32)
    found = np.zeros(frame.hu.shape, np.uint8)
    for at, weight in enumerate(net.class_weights.tolist()):
        share = resample(shares[at].float().numpy(), grid, frame.grid) / weight**_UNBIAS
        total += share
        is_better = share > best
        best[is_better] = share[is_better]
        found[is_better] = at
    return _numbers_of(found), best / total


def _coarse_grid(grid: Grid) -> Grid:
    """`grid` in the net's voxels, from the same corner; at least one tile large, so it may reach beyond `grid`."""
    edges = np.array(grid.spacing_mm)
    shape = np.maximum(TILE, np.ceil(np.array(grid.shape) * edges / EDGE_MM)).astype(int)
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] / edges * EDGE_MM
    affine[:3, 3] = grid.to_mm((EDGE_MM / edges - 1) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


@torch.inference_mode()
def _add_tiles(net: OrganNet, hu: Tensor, progress: Progress) -> Tensor:
    """Class shares (K, X, Y, Z) float16 of HU (X, Y, Z), tiles weighted towards their middles; not normalised."""
    total = torch.zeros((len(CLASSES), *hu.shape), dtype=torch.float16)
    weight = _tile_weight()
    tiles = list(_tile_boxes(tuple(hu.shape)))
    is_fast = torch.cpu.get_capabilities().get("avx512_bf16", False) or torch.cpu.get_capabilities().get("amx_bf16")
    for done, box in enumerate(tiles):
        progress(done / len(tiles), f"Naming organs, part {done + 1} of {len(tiles)}")
        windows = show_windows(hu[box])[None].contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(is_fast)):  # without its instructions far slower
            logits = net(windows)[0]
        total[:, *box] += (logits.float().softmax(dim=0) * weight).to(torch.float16)
    return total


def _tile_weight() -> Tensor:
    """(X, Y, Z) float32 over a tile, 1 in its middle, falling to 0.05 at its faces."""
    weight = torch.ones(TILE)
    for axis, size in enumerate(TILE):
        ramp = 1 - ((torch.arange(size) + 0.5) / size * 2 - 1).abs()
        shape = [1, 1, 1]
        shape[axis] = size
        weight = weight * (ramp * 2).clamp(0.05, 1).reshape(shape)
    return weight


def _tile_boxes(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice, slice]]:
    """Evenly spaced tiles that cover `shape`, which is at least a tile large."""
    starts = []
    for size, tile in zip(shape, TILE, strict=True):
        count = 1 if size <= tile else int(np.ceil((size - tile) / (tile * (1 - _OVERLAP)))) + 1
        starts.append(np.linspace(0, size - tile, count).round().astype(int))
    for x, y, z in itertools.product(*starts):
        yield slice(x, x + TILE[0]), slice(y, y + TILE[1]), slice(z, z + TILE[2])


def _numbers_of(found: np.ndarray) -> np.ndarray:
    """The net's classes (X, Y, Z) as numbers of `core.structures`; paired names by their side of the spine."""
    table = np.array([BY_NAME[name].number if name in BY_NAME else 0 for name in CLASSES], np.uint8)
    numbers = table[found]
    spine = np.flatnonzero((found == CLASSES.index("spine")).any(axis=(1, 2)))
    middle = float(np.median(spine)) if len(spine) else (found.shape[0] - 1) / 2
    is_right = np.arange(found.shape[0])[:, None, None] > middle  # x grows to the patient's right
    for name in _SIDED:
        here = found == CLASSES.index(name)
        numbers[here & is_right] = BY_NAME[f"{name}_right"].number
        numbers[here & ~is_right] = BY_NAME[f"{name}_left"].number
    return numbers
