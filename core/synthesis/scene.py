"""The CT that findings are painted into, and the shapes and textures they are painted with."""

from dataclasses import dataclass

import numpy as np

from core.structures import BY_NAME, LOBES, UNIONS, parts_of
from core.synthesis.claims import Claim
from core.volume import Grid

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Scene:
    """A CT being changed in place."""

    hu: np.ndarray
    """(X, Y, Z) float32 HU, axes RAS."""
    labels: np.ndarray
    """(X, Y, Z) uint8 numbers of `core.structures`; fluid and air around the lung become pleura."""
    grid: Grid
    """Where the voxels lie; axes RAS to within a few degrees."""

    @property
    def spacing_mm(self) -> np.ndarray:
        """(3,) voxel edges in mm."""
        return np.array(self.grid.spacing_mm, np.float32)

    def mask(self, *names: str) -> np.ndarray:
        """Where any of the structures or unions is: (X, Y, Z) bool, True = inside."""
        member = np.zeros(256, bool)
        for name in names:
            member[list(parts_of(name))] = True
        return member[self.labels]

    def volumes_ml(self) -> dict[str, float]:
        """Volume in mL of every structure that occurs, and of the unions of them."""
        counts = np.bincount(self.labels.ravel(), minlength=256) * self.grid.voxel_ml
        return {name: float(counts[list(parts_of(name))].sum()) for name in (*BY_NAME, *UNIONS)}

    def lobes(self, least_ml: float = 60.0) -> list[str]:
        """Lobes that are large enough to hold a finding; whole lungs where no lobes are known."""
        volume = self.volumes_ml()
        found = [name for name in LOBES if volume[name] >= least_ml]
        return found or [name for name in ("lung_left", "lung_right") if volume[name] >= least_ml]


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
    """A random field of about zero mean and unit deviation, correlated over `scale_voxels`: float32 of `shape`."""
    step = max(1.0, scale_voxels)
    coarse_shape = [int(np.ceil(n / step)) + 2 for n in shape]
    coarse = rng.standard_normal(coarse_shape, np.float32)
    places = [np.arange(n, dtype=np.float32) / step + rng.uniform(0, 0.9) for n in shape]
    field: np.ndarray = coarse
    for axis, at in enumerate(places):
        field = _interpolate_axis(field, at, axis)
    return field / max(float(field.std()), 1e-6)


def _interpolate_axis(field: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Smoothstep interpolation along one axis at fractional places `at`."""
    low = np.minimum(at.astype(int), field.shape[axis] - 2)
    share = at - low
    share = (share * share * (3 - 2 * share)).astype(np.float32)
    share = share.reshape([-1 if a == axis else 1 for a in range(field.ndim)])
    below, above = np.take(field, low, axis), np.take(field, low + 1, axis)
    return below + share * (above - below)


def soft_share(distance_mm: np.ndarray, edge_mm: float) -> np.ndarray:
    """1 well inside (negative distance), 0 well outside, a ramp of `edge_mm` between: partial volume."""
    return np.clip(0.5 - distance_mm / edge_mm, 0.0, 1.0)


def blend(hu: np.ndarray, share: np.ndarray, target_hu: np.ndarray | float) -> None:
    """Replace `share` of each voxel's content by `target_hu`, in place."""
    hu += share * (target_hu - hu)


def tube_distance_mm(scene: Scene, box: Box, points: np.ndarray) -> np.ndarray:
    """Distance in mm to the polyline through `points` (P, 3) voxels, on `box`."""
    nearest = np.full([part.stop - part.start for part in box], np.inf, np.float32)
    for start, end in zip(points, points[1:], strict=False):
        offset = offsets_mm(scene, box, start)
        along = ((end - start) * scene.spacing_mm).astype(np.float32)
        share = np.clip(np.einsum("i,ixyz->xyz", along, offset) / max(float(along @ along), 1e-3), 0.0, 1.0)
        gap = offset - share * along[:, None, None, None]
        np.minimum(nearest, np.sqrt((gap**2).sum(axis=0)), out=nearest)
    return nearest


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
