"""A chest that exists only in formulas: every organ and lesion at known millimetres.

Body coordinates: x grows to the patient's Right, y Anterior, z Superior, in mm from the middle of the chest. The
phantom is evaluated at voxel centres, so any spacing, orientation and tilt shows the same body.
"""

from dataclasses import dataclass

import nibabel.orientations as nio
import numpy as np

from core.anatomy.masks import OrganMasks
from core.errors import ConfigError
from core.structures import BY_NAME, side_of
from core.synthesis.chest import SOFTNESS_MM, Tissue, paint_chest, paint_empty_body
from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.reports import GeneratedReport, write_report
from core.volume import Grid, Volume, ras_grid

DENSITY_HU = {"solid nodule": 45.0, "calcified nodule": 480.0, "ground-glass nodule": -550.0, "mass": 40.0}
"""HU in the middle of each kind of ball the phantom can hold."""
FLUID_HU = 8.0


@dataclass(frozen=True)
class PhantomLesion:
    """One finding to place. Balls take a centre and a diameter; an effusion takes a side and a depth."""

    kind: str
    """A key of `DENSITY_HU`, or "pleural effusion"."""
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Body coordinates of a ball's middle; an effusion reads only the sign of x (positive = right)."""
    size_mm: float = 20.0
    """Diameter of a ball; depth of an effusion above the deepest point of its lung."""


DEFAULT_LESIONS = (
    PhantomLesion("solid nodule", (-80.0, -45.0, -30.0), 24.0),
    PhantomLesion("calcified nodule", (75.0, 10.0, 70.0), 12.0),
    PhantomLesion("pleural effusion", (1.0, 0.0, 0.0), 40.0),
)
"""Left lower lobe nodule, right upper lobe granuloma, right effusion."""


@dataclass(frozen=True)
class PhantomConfig:
    """How the phantom is scanned and what it suffers from."""

    shape: tuple[int, int, int] = (120, 88, 112)
    """Voxels along patient Right, Anterior, Superior."""
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    """Voxel edges along the same axes."""
    orientation: str = "LPS"
    """Directions in which the axes of the source file grow."""
    tilt_deg: float = 0.0
    """Rotation of the source grid about the left-right axis, like a tilted gantry that was resampled."""
    centre_mm: tuple[float, float, float] = (12.0, -25.0, -140.0)
    """Patient mm of the middle of the chest and of the grid."""
    lesions: tuple[PhantomLesion, ...] = DEFAULT_LESIONS
    """What it suffers from."""
    has_chest: bool = True
    """False: a body of soft tissue without lungs, for software that must not invent any."""
    noise_hu: float = 12.0
    """Standard deviation of the noise."""
    seed: int = 0
    """Seed of noise and wording."""

    def __post_init__(self) -> None:
        if min(self.shape) < 8 or min(self.spacing_mm) <= 0:
            raise ConfigError(
                f"Phantom of {self.shape} voxels of {self.spacing_mm} mm: expected at least 8 voxels > 0 mm."
            )
        if sorted(self.orientation) not in (
            sorted(code) for code in ("RAS", "LAS", "RPS", "LPS", "RAI", "LAI", "RPI", "LPI")
        ):
            raise ConfigError(
                f'Orientation "{self.orientation}": expected three letters such as LPS, one of each axis.'
            )
        unknown = {lesion.kind for lesion in self.lesions} - set(DENSITY_HU) - {"pleural effusion"}
        if unknown:
            raise ConfigError(
                f"The phantom cannot show {sorted(unknown)}; it knows {[*DENSITY_HU, 'pleural effusion']}."
            )


@dataclass(frozen=True, eq=False)
class PhantomTruth:
    """One lesion as it was painted."""

    claim: Claim
    """Kind, structures, side and size."""
    centre_mm: tuple[float, float, float]
    """Patient mm (RAS+) of its middle: of the ball, or the centroid of the fluid."""
    mask: np.ndarray
    """(X, Y, Z) bool on the volume's RAS grid, True = more than half lesion."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A CT whose truth is known."""

    volume: Volume
    masks: OrganMasks
    """True organs; lesions keep the number of the lobe they lie in, fluid that of the pleura."""
    lesions: tuple[PhantomTruth, ...]
    report: GeneratedReport


def build_phantom(config: PhantomConfig | None = None) -> Phantom:
    """Scan the phantom as `config` says. Raises ConfigError where a ball does not lie in a lobe."""
    config = config or PhantomConfig()
    source = source_grid(config)
    grid = ras_grid(source)
    points = _body_points(grid, config)
    tissue = paint_chest(points) if config.has_chest else paint_empty_body(points)
    truths = tuple(_paint_lesion(lesion, tissue, points, grid) for lesion in config.lesions if config.has_chest)
    rng = np.random.default_rng(config.seed)
    noisy = tissue.hu + config.noise_hu * rng.standard_normal(tissue.hu.shape, np.float32)
    hu = np.rint(np.clip(noisy, -1024, 3071)).astype(np.int16)
    report = write_report([truth.claim for truth in truths], _normal_organs(config), rng, "PHANTOM", is_plain=True)
    masks = OrganMasks(tissue.labels, "phantom", notes=("Exact: drawn by the phantom itself.",))
    return Phantom(Volume(hu, grid, source), masks, truths, report)


def source_grid(config: PhantomConfig) -> Grid:
    """The grid of the phantom's imaginary file: oriented, tilted, its middle at `config.centre_mm`."""
    axes = nio.axcodes2ornt(tuple(config.orientation))
    order = axes[:, 0].astype(int)
    shape = tuple(int(config.shape[axis]) for axis in order)
    directions = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(axes):
        directions[int(axis), column] = sign * config.spacing_mm[int(axis)]
    turned = _rotation_about_x(config.tilt_deg) @ directions
    affine = np.eye(4)
    affine[:3, :3] = turned
    affine[:3, 3] = np.array(config.centre_mm) - turned @ ((np.array(shape) - 1) / 2)
    return Grid((shape[0], shape[1], shape[2]), affine)


def _rotation_about_x(angle_deg: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])


def _body_points(grid: Grid, config: PhantomConfig) -> np.ndarray:
    """Body coordinates of every voxel centre: (3, X, Y, Z) float32 mm."""
    indices = np.indices(grid.shape, dtype=np.float32)
    linear = grid.affine[:3, :3].astype(np.float32)
    offset = (grid.affine[:3, 3] - np.array(config.centre_mm)).astype(np.float32)
    return np.einsum("ij,jxyz->ixyz", linear, indices) + offset[:, None, None, None]


def _paint_lesion(lesion: PhantomLesion, tissue: Tissue, points: np.ndarray, grid: Grid) -> PhantomTruth:
    if lesion.kind == "pleural effusion":
        return _paint_effusion(lesion, tissue, points, grid)
    return _paint_ball(lesion, tissue, points, grid)


def _paint_ball(lesion: PhantomLesion, tissue: Tissue, points: np.ndarray, grid: Grid) -> PhantomTruth:
    """A ball with an edge as soft as a voxel is large."""
    centre = np.array(lesion.centre_mm, np.float32)[:, None, None, None]
    distance = np.sqrt(((points - centre) ** 2).sum(axis=0)) - lesion.size_mm / 2
    share = np.clip(0.5 - distance / max(SOFTNESS_MM, *grid.spacing_mm), 0.0, 1.0)
    inside = share >= 0.5
    lobe = _lobe_of(tissue.labels[inside], lesion)
    tissue.hu += share * (DENSITY_HU[lesion.kind] - tissue.hu)
    tissue.labels[inside] = BY_NAME[lobe].number
    claim = Claim(lesion.kind, "present", (lobe,), side_of_organs([lobe]), lesion.size_mm, lesion.size_mm)
    at = points[:, 0, 0, 0]
    centre_mm = grid.to_mm(np.zeros(3)) + np.array(lesion.centre_mm) - at
    return PhantomTruth(claim, (float(centre_mm[0]), float(centre_mm[1]), float(centre_mm[2])), inside)


def _lobe_of(labels: np.ndarray, lesion: PhantomLesion) -> str:
    counts = np.bincount(labels, minlength=256)
    lobes = KINDS[lesion.kind].organs
    best = max(lobes, key=lambda name: counts[BY_NAME[name].number])
    if counts[BY_NAME[best].number] == 0:
        raise ConfigError(
            f"The {lesion.kind} at {lesion.centre_mm} mm lies in no lobe of the phantom: move it into one."
        )
    return best


def _paint_effusion(lesion: PhantomLesion, tissue: Tissue, points: np.ndarray, grid: Grid) -> PhantomTruth:
    """Fluid fills the lung's space from the back (the patient lies supine) up to a level."""
    side = "right" if lesion.centre_mm[0] > 0 else "left"
    lobes = [BY_NAME[name].number for name in KINDS["solid nodule"].organs if side_of(name) == side]
    lung = np.isin(tissue.labels, lobes)
    lowest = points[1][lung].min()
    fluid = lung & (points[1] < lowest + lesion.size_mm)
    tissue.hu[fluid] = FLUID_HU
    name = f"pleura_{side}"
    tissue.labels[fluid] = BY_NAME[name].number
    centroid = grid.to_mm(np.argwhere(fluid).mean(axis=0))
    claim = Claim("pleural effusion", "present", (name,), side_of_organs([name]), lesion.size_mm)
    return PhantomTruth(claim, (float(centroid[0]), float(centroid[1]), float(centroid[2])), fluid)


def _normal_organs(config: PhantomConfig) -> list[str]:
    return ["heart", "aorta", "trachea", "liver", "spine"] if config.has_chest else ["liver", "spine"]
