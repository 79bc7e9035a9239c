"""Another patient from the same one: turned, stretched, organs swollen or shrunk, everything bent."""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from core.anatomy.organ_net import CLASSES, EDGE_MM, TILE
from core.errors import ConfigError
from trainers.organ_net.labelled import LabelledScan

MIRRORED = np.arange(256, dtype=np.uint8)
for _at, _name in enumerate(CLASSES):
    _twin = _name.replace("left", "*").replace("right", "left").replace("*", "right")
    MIRRORED[_at] = CLASSES.index("lung_upper_lobe_left" if "middle" in _name else _twin)


@dataclass(frozen=True)
class WarpConfig:
    """How far a patient is varied."""

    turn_deg: float = 10.0
    """Deviation of the rotation about each axis."""
    stretch: float = 0.10
    """Deviation of the logarithm of each axis' size, and of the whole."""
    shear: float = 0.06
    """Deviation of each shear."""
    bend_mm: tuple[float, float] = (9.0, 3.5)
    """Deviation of smooth displacements with waves of about 90 and 40 mm."""
    swell: float = 0.35
    """Largest logarithm of the local change of size about a random organ's middle."""
    swellings: int = 3
    """Organs changed in size."""
    mirror_chance: float = 0.12
    """How often the patient is mirrored, left classes becoming right ones."""
    tile: tuple[int, int, int] = TILE
    """Voxels of a sample."""

    def __post_init__(self) -> None:
        if min(self.tile) < 32 or any(n % 16 for n in self.tile):
            raise ConfigError(f"tile is {self.tile}; expected multiples of 16 voxels, at least 32.")


def smooth_field(shape: torch.Size | tuple[int, ...], wave: float, rng: np.random.Generator) -> Tensor:
    """Random field (X, Y, Z) of deviation about 1 that changes over `wave` voxels."""
    coarse = [max(4, int(np.ceil(n / wave)) + 3) for n in shape]
    noise = torch.from_numpy(rng.standard_normal((1, 1, *coarse), np.float32))
    field = F.interpolate(F.avg_pool3d(noise, 2, stride=1), tuple(shape), mode="trilinear", align_corners=True)
    return field[0, 0] * 4.0


def draw_warped(scan: LabelledScan, config: WarpConfig, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One tile of a varied patient: HU (X, Y, Z) float32 and classes uint8 at `EDGE_MM`, axes RAS."""
    centre = _draw_centre(scan, rng)
    offsets = [(torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * EDGE_MM for n in config.tile]
    place = torch.stack(torch.meshgrid(*offsets, indexing="ij"))
    is_mirrored = rng.random() < config.mirror_chance
    linear = torch.from_numpy(_draw_linear(config, is_mirrored, rng))
    place = torch.einsum("ij,jxyz->ixyz", linear, place) + centre[:, None, None, None]
    _swell(place, scan, config, rng)
    for wave_mm, size_mm in zip((90.0, 40.0), config.bend_mm, strict=True):
        for axis in range(3):
            place[axis] += size_mm * rng.uniform(0.2, 1.0) * 0.5 * smooth_field(config.tile, wave_mm / EDGE_MM, rng)
    hu, classes = _read(scan, place)
    if is_mirrored:
        classes = torch.from_numpy(MIRRORED)[classes.long()]
    return hu, classes


def _draw_centre(scan: LabelledScan, rng: np.random.Generator) -> Tensor:
    """Middle of the tile in mm from the scan's first voxel: (3,), nearer to the patient's axis than to the skin."""
    size = np.array(scan.hu.shape) * np.array(scan.spacing_mm)
    share = np.array([rng.normal(0.5, 0.1), rng.normal(0.5, 0.08), rng.uniform(0.15, 0.85)])
    return torch.from_numpy((share * size).astype(np.float32))


def _draw_linear(config: WarpConfig, is_mirrored: bool, rng: np.random.Generator) -> np.ndarray:
    """(3, 3) float32 that turns, stretches, shears and perhaps mirrors."""
    linear = np.diag(np.exp(rng.normal(0, config.stretch, 3) + rng.normal(0, config.stretch)))
    linear += rng.normal(0, config.shear, (3, 3)) * (1 - np.eye(3))
    for axis, angle in enumerate(np.radians(rng.normal(0, config.turn_deg, 3))):
        first, second = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        linear = linear @ turn
    mirror = np.diag([-1.0 if is_mirrored else 1.0, 1.0, 1.0])
    return (mirror @ linear).astype(np.float32)


def _swell(place: Tensor, scan: LabelledScan, config: WarpConfig, rng: np.random.Generator) -> None:
    """Change the size of random organs about their middle, fading outwards; `place` (3, X, Y, Z) mm, in place."""
    present = [at for at in torch.unique(scan.classes[::4, ::4, ::4]).tolist() if 0 < at < len(CLASSES)]
    for at in rng.choice(present, min(config.swellings, len(present)), replace=False):
        voxels = torch.nonzero(scan.classes[::3, ::3, ::3] == int(at)).float() * 3
        if len(voxels) < 8:
            continue
        spacing = torch.tensor(scan.spacing_mm)
        middle, reach = voxels.mean(dim=0) * spacing, float((voxels.std(dim=0) * spacing).max()) * 2 + 10
        away = place - middle[:, None, None, None]
        fading = torch.exp(-0.5 * (away**2).sum(dim=0) / reach**2)
        place += away * (fading * (np.exp(rng.uniform(-1, 1) * config.swell) - 1))


def _read(scan: LabelledScan, place: Tensor) -> tuple[Tensor, Tensor]:
    """HU (linear) and classes (nearest) at `place` (3, X, Y, Z) mm; air and rest outside the scan."""
    ends = torch.tensor([(n - 1) * s for n, s in zip(scan.hu.shape, scan.spacing_mm, strict=True)])
    at = rearrange(place / ends[:, None, None, None] * 2 - 1, "i x y z -> 1 x y z i").flip(-1)
    hu = F.grid_sample(scan.hu[None, None] + 1024, at, mode="bilinear", align_corners=True)[0, 0] - 1024
    numbers = F.grid_sample(scan.classes[None, None].float(), at, mode="nearest", align_corners=True)[0, 0]
    return hu, numbers.to(torch.uint8)
