"""A CT as its file stores it, and how values of any type become int16 Hounsfield units."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from core.errors import StudyError

if TYPE_CHECKING:
    import pydicom

INT16 = np.iinfo(np.int16)
SMALLEST_EDGE_MM, LARGEST_EDGE_MM, LARGEST_EXTENT_MM, FARTHEST_MM = 0.01, 50.0, 5000.0, 1e5

DAMAGE = (
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    NotImplementedError,
    EOFError,
    OSError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
)
"""What third-party parsers raise on damaged files; zlib and codec errors are named where they occur."""


@dataclass(frozen=True, eq=False)
class Scan:
    """Values and geometry in the order of the source file, not yet turned to RAS+."""

    values: np.ndarray
    """(I, J, K) int16, Hounsfield units if the file keeps its promise."""
    affine: np.ndarray
    """(4, 4) float64, source voxel -> patient mm (RAS+)."""
    modality: str
    description: str
    source: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    headers: "tuple[pydicom.Dataset, ...] | None" = field(default=None, repr=False)


class HuArray:
    """An int16 array that is filled slab by slab, so that no float copy of a whole CT ever exists."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.values = np.empty(shape, np.int16, order="F")
        """(I, J, K); K varies slowest, as in the files."""
        self.low, self.high = np.inf, -np.inf

    def put(self, start: int, slab: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> None:
        """Store slope * slab + intercept at slices start...; slab: (I, J, k) of any real dtype. Refuses NaN."""
        low, high = float(slab.min()) * slope + intercept, float(slab.max()) * slope + intercept
        if not (np.isfinite(low) and np.isfinite(high)):
            raise StudyError(
                f"The volume holds NaN or infinite values (first near slice {start + 1}). Expected a number of "
                "Hounsfield units in every voxel: fill the gaps with -1024 and save it again."
            )
        self.low, self.high = min(self.low, low, high), max(self.high, low, high)
        self.values[:, :, start : start + slab.shape[2]] = _as_int16(slab, slope, intercept)

    def notes(self) -> list[str]:
        """Words about what was cut off, if anything was."""
        if self.low >= INT16.min and self.high <= INT16.max:
            return []
        return [f"Values from {self.low:.6g} to {self.high:.6g} were clipped to {INT16.min}..{INT16.max}."]


def _as_int16(slab: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """slope * slab + intercept, rounded and clipped to int16; the same array where nothing is to be done."""
    if slab.dtype.kind in "iu" and slope == 1 and intercept == int(intercept):
        if slab.dtype.itemsize <= 2 and intercept == 0 and slab.dtype.kind == "i":
            return slab
        shifted = slab.astype(np.int64 if slab.dtype.itemsize > 2 else np.int32) + int(intercept)
        return np.clip(shifted, INT16.min, INT16.max).astype(np.int16)
    scaled: np.ndarray = slab.astype(np.float64 if slab.dtype.itemsize > 2 else np.float32)
    np.multiply(scaled, slope, out=scaled)
    np.add(scaled, intercept, out=scaled)
    return np.clip(np.rint(scaled), INT16.min, INT16.max).astype(np.int16)


def require_affine(affine: np.ndarray, name: str) -> np.ndarray:
    """The affine (4, 4) as float64, or a refusal if it does not place voxels in space."""
    affine = np.asarray(affine, np.float64)
    edges = np.linalg.norm(affine[:3, :3], axis=0) if np.isfinite(affine).all() else np.zeros(3)
    flat = bool((edges <= 0).any()) or abs(np.linalg.det(affine[:3, :3] / np.where(edges > 0, edges, 1))) < 1e-3
    if flat:
        raise StudyError(
            f"{name}: the header gives no usable voxel size or directions (affine {affine[:3].round(3).tolist()}). "
            "Expected three independent axes in mm: export the image again with its geometry."
        )
    return affine


def require_size(shape: tuple[int, ...], max_voxels: int, name: str) -> None:
    """Refuse an image too large for memory before any is taken."""
    voxels = int(np.prod([int(n) for n in shape], dtype=object))
    if voxels > max_voxels:
        raise StudyError(
            f"{name} claims {' x '.join(str(n) for n in shape)} voxels ({voxels / 1e6:.0f} million); at most "
            f"{max_voxels / 1e6:.0f} million are read. Crop or resample it."
        )


def _require_possible_size(edges: np.ndarray, extent: np.ndarray, origin: np.ndarray) -> None:
    """Refuse voxels and scans that no scanner makes: working grids in mm would have no voxels, or trillions."""
    is_small = extent.max() <= LARGEST_EXTENT_MM and np.abs(origin).max() <= FARTHEST_MM
    if is_small and edges.min() >= SMALLEST_EDGE_MM and edges.max() <= LARGEST_EDGE_MM:
        return
    raise StudyError(
        f"The header gives voxels of {_by(edges)} mm and a scan of {_by(extent)} mm at {origin.round(1).tolist()}. "
        f"Expected edges of {SMALLEST_EDGE_MM:g} to {LARGEST_EDGE_MM:g} mm, at most {LARGEST_EXTENT_MM / 1000:g} m in "
        "all: check the unit, and export the image again with its geometry."
    )


def _by(numbers: np.ndarray) -> str:
    return " x ".join(f"{number:.3g}" for number in numbers)


def geometry_warnings(affine: np.ndarray, shape: tuple[int, int, int]) -> list[str]:
    """What is odd about voxel sizes and axes, in plain words. StudyError where no CT can have them."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    _require_possible_size(edges, edges * np.array(shape), affine[:3, 3])
    cosines = (affine[:3, :3] / edges).T @ (affine[:3, :3] / edges) - np.eye(3)
    found = []
    if np.abs(cosines).max() > 0.01:
        skew = float(np.degrees(np.arcsin(min(1.0, np.abs(cosines).max()))))
        found.append(f"The axes are not perpendicular (off by {skew:.1f} degrees, as a tilted gantry leaves them).")
    if edges.min() < 0.05 or edges.max() > 20:
        found.append(f"Voxels of {_by(edges)} mm are unusual: check the unit.")
    extent = edges * np.array(shape)
    if extent.max() > 2500 or extent.max() < 20:
        found.append(f"The scan measures {_by(extent)} mm: no usual chest CT.")
    return found
