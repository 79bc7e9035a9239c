"""The CT that findings are painted into, and the shapes and textures they are painted with."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from core.structures import BY_NAME, LOBES, UNIONS, parts_of
from core.synthesis.claims import Claim
from core.volume import Grid

Box = tuple[slice, slice, slice]
FEW_NUMBERS = 10
_PARTS = {name: parts_of(name) for name in (*BY_NAME, *UNIONS)}


@dataclass(frozen=True, eq=False)
class Scene:
    """A CT being changed in place."""

    hu: np.ndarray
    """(X, Y, Z) float32 HU, axes RAS."""
    labels: np.ndarray
    """(X, Y, Z) uint8 numbers of `core.structures`; fluid and air around the lung become pleura."""
    grid: Grid
    """Where the voxels lie; axes RAS to within a few degrees."""
    is_prone: bool = False
    """Whether gravity pulls to the front instead of the back."""
    is_seen: np.ndarray | None = None
    """(X, Y, Z) bool, False = outside of the scanned or reconstructed field: padding. None = all is seen."""
    closed_lobes: frozenset[str] = frozenset()
    """Lobes that hold a finding of the kind being painted already."""

    @property
    def spacing_mm(self) -> np.ndarray:
        """(3,) voxel edges in mm."""
        return np.array(self.grid.spacing_mm, np.float32)

    def mask(self, *names: str) -> np.ndarray:
        """Where any of the structures or unions is: (X, Y, Z) bool, True = inside."""
        numbers = frozenset[int]().union(*(_PARTS[name] for name in names))
        if len(numbers) <= FEW_NUMBERS:  # comparing is several times faster than looking up
            where = np.zeros(self.labels.shape, bool)
            for number in numbers:
                where |= self.labels == number
            return where
        member = np.zeros(256, bool)
        member[list(numbers)] = True
        return np.take(member, self.labels)

    def volumes_ml(self) -> dict[str, float]:
        """Volume in mL of every structure that occurs, and of the unions of them."""
        counts = np.bincount(self.labels.ravel(), minlength=256) * self.grid.voxel_ml
        return {name: float(counts[list(numbers)].sum()) for name, numbers in _PARTS.items()}

    def coarsest_mm(self) -> float:
        """The longest voxel edge: no edge is sharper."""
        return float(max(self.grid.spacing_mm))

    def lobes(self, least_ml: float = 60.0) -> list[str]:
        """Lobes that are large enough to hold a finding; whole lungs where no lobes are known."""
        volume = self.volumes_ml()
        found = [name for name in LOBES if volume[name] >= least_ml]
        found = found or [name for name in ("lung_left", "lung_right") if volume[name] >= least_ml]
        return [name for name in found if name not in self.closed_lobes]


@dataclass(frozen=True, eq=False)
class Finding:
    """What was painted."""

    claim: Claim
    """Kind, organs, side and size: what a sentence about it may say."""
    mask: np.ndarray
    """(X, Y, Z) bool on the scene's grid, True = finding."""

    def centre_mm(self, grid: Grid) -> np.ndarray:
        """Patient mm (3,) of the mask's centroid."""
        return grid.to_mm(np.argwhere(self.mask).mean(axis=0))


def pick_voxel(where: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A random True voxel of (X, Y, Z) bool as (3,) int, or None if there is none."""
    places = np.flatnonzero(where)
    if len(places) == 0:
        return None
    return np.array(np.unravel_index(places[rng.integers(len(places))], where.shape))


def box_around(scene: Scene, voxel: np.ndarray, radius_mm: float) -> Box:
    """The part of the grid within `radius_mm` of a voxel along each axis."""
    reach = np.ceil(radius_mm / scene.spacing_mm).astype(int)
    low = np.maximum(voxel - reach, 0)
    high = np.minimum(voxel + reach + 1, scene.hu.shape)
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def offsets_mm(scene: Scene, box: Box, centre: np.ndarray) -> np.ndarray:
    """Millimetres from `centre` (3,) voxel, fractions allowed, to each voxel of `box`: (3, x, y, z) float32."""
    axes = [
        (np.arange(part.start, part.stop, dtype=np.float32) - np.float32(at)) * step
        for part, at, step in zip(box, centre, scene.spacing_mm, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def smooth_noise(shape: tuple[int, ...], scale_voxels: float, rng: np.random.Generator) -> np.ndarray:
    """A random field of about zero mean and unit deviation, correlated over `scale_voxels`: (X, Y, Z) float32.

    A coarse lattice of normal numbers under cubic B-splines: one product of matrices per axis.
    """
    step = max(1.0, scale_voxels)
    coarse = rng.standard_normal([int(np.ceil(n / step)) + 4 for n in shape], np.float32)
    field: np.ndarray = coarse
    for n, m in zip(shape, coarse.shape, strict=True):
        field = np.tensordot(field, _spline_weights(n, m, step, float(rng.uniform(0, 1))), axes=(0, 1))
    return field / _SPLINE_DEVIATION


_SPLINE_DEVIATION = np.float32((151 / 315) ** 1.5)
"""Deviation of a three-dimensional cubic B-spline over unit normal numbers, averaged over places."""


def _spline_weights(n: int, m: int, step: float, phase: float) -> np.ndarray:
    """(n, m) float32 cubic B-spline weights of `m` lattice points at `n` places `step` voxels per point apart."""
    at = np.arange(n, dtype=np.float32) / np.float32(step) + np.float32(1 + phase)
    gap = np.abs(at[:, None] - np.arange(m, dtype=np.float32)[None, :])
    near = 2 / 3 - gap**2 * (1 - gap / 2)
    far = np.clip(2 - gap, 0, None) ** 3 / 6
    return np.where(gap < 1, near, far).astype(np.float32)


def noise_mm(scene: Scene, shape: tuple[int, ...], scale_mm: float, rng: np.random.Generator) -> np.ndarray:
    """`smooth_noise` with its scale in millimetres: the same texture at any spacing that can hold it."""
    return smooth_noise(shape, scale_mm / scene.coarsest_mm(), rng)


def soft_share(distance_mm: np.ndarray, edge_mm: float) -> np.ndarray:
    """1 well inside (negative distance), 0 well outside, a ramp of `edge_mm` between: partial volume."""
    return np.clip(0.5 - distance_mm / edge_mm, 0.0, 1.0)


def blend(hu: np.ndarray, share: np.ndarray, target_hu: np.ndarray | float) -> None:
    """Replace `share` of each voxel's content by `target_hu`, in place."""
    hu += share * (target_hu - hu)


def tube_depth_mm(scene: Scene, box: Box, points: np.ndarray, radii_mm: np.ndarray | float) -> np.ndarray:
    """Signed distance in mm to the surface of a tube, negative inside, on `box`; `FAR_MM` where no segment is near.

    points: (P, 3) voxels of the tube's middle line; radii_mm: its radius at each of them, or one for all.
    """
    depth = np.full([part.stop - part.start for part in box], FAR_MM, np.float32)
    radii = np.broadcast_to(np.asarray(radii_mm, np.float32), (len(points),))
    for number, (start, end) in enumerate(zip(points, points[1:], strict=False)):
        reach = (float(radii[number : number + 2].max()) + 6.0 + 2 * scene.coarsest_mm()) / scene.spacing_mm
        part = _overlap(box, np.minimum(start, end) - reach, np.maximum(start, end) + reach)
        if part is None:
            continue
        inner = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
        offset = offsets_mm(scene, part, start)
        along = ((end - start) * scene.spacing_mm).astype(np.float32)
        share = np.clip(np.tensordot(along, offset, 1) / max(float(along @ along), 1e-3), 0.0, 1.0)
        offset -= share * along[:, None, None, None]
        gap = np.sqrt((offset**2).sum(axis=0)) - (radii[number] + share * (radii[number + 1] - radii[number]))
        np.minimum(depth[inner], gap, out=depth[inner])
    return depth


FAR_MM = 999.0
"""Depth where no tube is near."""


def _overlap(box: Box, low: np.ndarray, high: np.ndarray) -> Box | None:
    """The part of `box` between two corners (3,) in voxels; None if they do not meet."""
    starts = [max(part.start, int(np.floor(a))) for part, a in zip(box, low, strict=True)]
    stops = [min(part.stop, int(np.ceil(b)) + 1) for part, b in zip(box, high, strict=True)]
    if any(stop <= start for start, stop in zip(starts, stops, strict=True)):
        return None
    return slice(starts[0], stops[0]), slice(starts[1], stops[1]), slice(starts[2], stops[2])


def box_of_points(scene: Scene, points: np.ndarray, margin_mm: float) -> Box | None:
    """The part of the grid within `margin_mm` of the corners of `points` (P, 3) voxels; None outside of the grid."""
    reach = margin_mm / scene.spacing_mm
    x, y, z = scene.hu.shape
    return _overlap((slice(0, x), slice(0, y), slice(0, z)), points.min(axis=0) - reach, points.max(axis=0) + reach)


def with_rim(scene: Scene, box: Box, inside: np.ndarray) -> np.ndarray:
    """`inside` (x, y, z) bool of a lung's box and the half-aerated voxels along its surface.

    A label map's edge runs through voxels that are part lung: left as they are they would ring every opacity in black.
    """
    reach = max(1, round(2.5 / scene.coarsest_mm()))
    grown = dilate(inside, reach)
    is_free = ~scene.mask("airway", "trachea", "lung", "pleura")[box] & (scene.hu[box] < RIM_HU)
    return inside | (grown & is_free & (scene.labels[box] > 0))


RIM_HU = -60.0


def dilate(mask: np.ndarray, times: int = 1) -> np.ndarray:
    """Grow a mask by one voxel along each axis, `times` times."""
    for _ in range(times):
        grown = mask.copy()
        for axis in range(mask.ndim):
            low = (slice(None),) * axis + (slice(None, -1),)
            high = (slice(None),) * axis + (slice(1, None),)
            grown[low] |= mask[high]
            grown[high] |= mask[low]
        mask = grown
    return mask


def edge_closeness(scene: Scene, inside: np.ndarray, reach_mm: float) -> np.ndarray:
    """About 0 well inside `inside` (x, y, z) bool, 0.5 and more on its surface: float32, over `reach_mm`."""
    size = [max(1, 2 * round(reach_mm / step) + 1) for step in scene.grid.spacing_mm]
    return 1.0 - ndimage.uniform_filter(inside.astype(np.float32), size, mode="constant")


def bounding_box(where: np.ndarray, margin: int = 0) -> Box | None:
    """The smallest box that holds all True voxels, grown by `margin` voxels; None if there are none."""
    rows = np.asarray(where.any(axis=2))
    occupied = (
        np.flatnonzero(rows.any(axis=1)),
        np.flatnonzero(rows.any(axis=0)),
        np.flatnonzero(where.any(axis=(0, 1))),
    )
    if len(occupied[0]) == 0:
        return None
    first, second, third = (
        slice(max(0, int(at[0]) - margin), min(n, int(at[-1]) + 1 + margin))
        for at, n in zip(occupied, where.shape, strict=True)
    )
    return first, second, third


def mask_in_box(scene: Scene, box: Box, inside: np.ndarray) -> np.ndarray:
    """A mask of the whole scene that is `inside` in `box` and False elsewhere."""
    mask = np.zeros(scene.hu.shape, bool)
    mask[box] = inside
    return mask
