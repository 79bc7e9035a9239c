"""How far each place of an organ is from what it would be if it were normal: the map of an engine that models normal
organs (ViSD-Boost spec 4, S3). It is a distance in the engine's own space, calibrated for nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from core.anatomy.masks import OrganMasks
from core.errors import EngineError
from core.organ_map import OrganMap
from core.progress import Progress, silent
from core.resample import resample
from core.volume import Grid, Volume


class NormalityMap(NamedTuple):
    """Distances of the patches of each organ; an organ that is not in the CT has none."""

    distances: np.ndarray  # (O, X, Y, Z) float32, 0 outside the organ; axes RAS
    inside: np.ndarray  # (O, X, Y, Z) bool, True = the patch touches the organ
    grid: Grid  # of patch centres
    organs: OrganMap
    engine: str


class OrganDistance(NamedTuple):
    """One organ in numbers, for comparing places of one organ in one CT."""

    mean: float  # over its patches
    highest: float
    peak_ras_mm: tuple[float, float, float]  # middle of the patch with the highest


@runtime_checkable
class NormalityJudge(Protocol):
    """An engine that knows what organs look like when they are normal."""

    def measure_normality(self, volume: Volume, masks: OrganMasks | None, progress: Progress = silent) -> NormalityMap:
        """Distance from normal of every patch of its organs. StudyError without masks of any."""
        ...


def require_normality(engine: object) -> NormalityJudge:
    """The engine, or an EngineError for one that has no model of normal organs."""
    if not isinstance(engine, NormalityJudge):
        name = getattr(engine, "name", "This engine")
        raise EngineError(f"{name} has no model of normal organs. Choose visd, or a run of recipe visd.")
    return engine


def summarise_normality(found: NormalityMap) -> Mapping[str, OrganDistance]:
    """Organ -> its distances, in the order of the engine's organs; absent ones are left out."""
    told = {}
    for name, distance, inside in zip(found.organs.names, found.distances, found.inside, strict=True):
        if inside.any():
            place = np.unravel_index(int(np.where(inside, distance, -1).argmax()), distance.shape)
            x, y, z = found.grid.to_mm(place).tolist()
            told[name] = OrganDistance(float(distance[inside].mean()), float(distance[place]), (x, y, z))
    return told


def draw_normality(found: NormalityMap, volume: Volume, masks: OrganMasks) -> np.ndarray:
    """The distance of the patch that each voxel lies in: (X, Y, Z) float32 on the volume's grid, 0 outside organs."""
    numbers = found.organs.lut()[masks.labels]
    drawn = np.zeros(volume.shape, np.float32)
    for organ, distance in enumerate(found.distances, start=1):
        is_organ = numbers == organ
        if is_organ.any():
            drawn[is_organ] = resample(distance, found.grid, volume.grid, "nearest")[is_organ]
    return drawn
