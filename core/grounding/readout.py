"""From patch vectors and sentence vectors to heat maps in the patient (specification of ASAP, section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt

from core.anatomy.masks import OrganMasks
from core.errors import ConfigError
from core.grounding.engine import GroundingEngine, PatchFeatures
from core.grounding.heatmap import HeatMap, SentenceGrounding
from core.progress import Progress, silent
from core.resample import lies_inside, resample, spaced_grid
from core.structures import BY_NUMBER
from core.volume import Grid, Volume


@dataclass(frozen=True)
class ReadoutConfig:
    """How scores become heat."""

    spacing_mm: float = 4.0
    """Voxel size of the heat maps: patches are interpolated to it, masks are sampled on it."""
    contrast: float = 1.0
    """How much of the mean over the report's other sentences is taken away: 0 = plain cosine, 1 = all of it."""
    floor_quantile: float = 0.8
    """Scores below this quantile of what is seen (of the organ, by engines that read organs) are drawn as 0, the best
    one as 1."""
    margin_mm: float = 8.0
    """How far outside the organ it names a sentence may still light up."""

    def __post_init__(self) -> None:
        if self.spacing_mm <= 0:
            raise ConfigError(f"spacing_mm is {self.spacing_mm}; expected a positive size in mm.")
        if not 0 <= self.floor_quantile < 1:
            raise ConfigError(f"floor_quantile is {self.floor_quantile}; expected a fraction from 0 to below 1.")


@dataclass(frozen=True)
class SentenceQuery:
    """A sentence to be found in the CT."""

    index: int
    text: str
    negation: str
    """The same sentence saying the opposite."""
    organs: tuple[str, ...] = ()
    """Structures it names; heat is kept inside those that the masks contain. Empty = anywhere."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """The grid on which heat is drawn for one CT, and what is known about each of its voxels."""

    grid: Grid
    labels: np.ndarray
    """(X, Y, Z) uint8 structure numbers, 0 where there are no masks."""
    inside: np.ndarray
    """(X, Y, Z) bool, True = inside the scan and seen by the engine."""


def make_canvas(
    volume: Volume, features: PatchFeatures, masks: OrganMasks | None, config: ReadoutConfig = ReadoutConfig()
) -> Canvas:
    """The heat grid of a CT: the engine's field of view in voxels of `config.spacing_mm`."""
    grid = spaced_grid(features.grid, np.full(3, config.spacing_mm))
    labels = np.zeros(grid.shape, np.uint8)
    if masks is not None:
        labels = resample(masks.labels, volume.grid, grid, "nearest")
    seen = resample(features.covered.astype(np.uint8), features.grid, grid, "nearest") > 0
    return Canvas(grid, labels, lies_inside(grid, volume.grid) & seen)


def ground_sentences(
    engine: GroundingEngine,
    features: PatchFeatures,
    canvas: Canvas,
    queries: Sequence[SentenceQuery],
    config: ReadoutConfig = ReadoutConfig(),
    progress: Progress = silent,
) -> tuple[SentenceGrounding, ...]:
    """One grounding per query, in their order. All vectors are computed in one batch."""
    if not queries:
        return ()
    progress(0.0, "Reading the sentences")
    vectors = engine.embed_sentences([query.text for query in queries] + [query.negation for query in queries])
    told = Told(engine, features, queries, vectors[: len(queries)], vectors[len(queries) :])
    groundings = []
    for at, query in enumerate(queries):
        progress(at / len(queries), f"Sentence {at + 1} of {len(queries)}")
        groundings.append(_ground_one(told, at, query, canvas, config))
    return tuple(groundings)


class Told(NamedTuple):
    """All sentences of one grounding and what they are compared with."""

    engine: GroundingEngine
    features: PatchFeatures
    queries: Sequence[SentenceQuery]
    vectors: np.ndarray  # (S, D) of the sentences
    negations: np.ndarray  # (S, D) of their opposites


def _ground_one(told: Told, at: int, query: SentenceQuery, canvas: Canvas, config: ReadoutConfig) -> SentenceGrounding:
    """One sentence: its scores on the canvas, and what is read off them."""
    features, readable = told.features, told.features.readable(query.organs)
    region, seen = _region_of(query.organs, canvas, config), canvas.inside
    if readable.organ is not None:
        seen = seen & (resample(readable.covered.astype(np.uint8), features.grid, canvas.grid, "nearest") > 0)
        region = region & seen
    if not region.any():
        return _nothing_to_see(query, canvas)
    rest = config.contrast * _mean_of_others(told, at)
    asked = np.stack([told.vectors[at], told.vectors[at] - rest, told.negations[at]])
    cosine = np.einsum("xyzd,sd->sxyz", readable.vectors, asked)
    if readable.organ is not None:
        cosine = _extend(cosine, readable.covered, features.grid)
    raw, contrasted, negated = (resample(score, features.grid, canvas.grid) for score in cosine)
    heat = _heat_from(contrasted, region, seen, config.floor_quantile)
    peak = np.unravel_index(int(np.argmax(np.where(region, contrasted, -np.inf))), heat.shape)
    x, y, z = canvas.grid.to_mm(peak)
    score, negated_score = float(raw[peak]), float(negated[peak])
    judged = (score, negated_score)
    if features.organs is not None and readable.organ is not None:  # what it was trained on: the organ as a whole
        whole = features.organs.whole[readable.organ[features.grid.nearest_voxel((x, y, z))]]
        judged = (float(whole @ told.vectors[at]), float(whole @ told.negations[at]))
    return SentenceGrounding(
        query.index,
        query.text,
        HeatMap(heat, raw, canvas.grid),
        (float(x), float(y), float(z)),
        score,
        negated_score,
        told.engine.presence_probability(*judged),
        _share_per_organ(heat, canvas.labels),
    )


def _nothing_to_see(query: SentenceQuery, canvas: Canvas) -> SentenceGrounding:
    """A sentence about an organ that the engine has no idea of, or that is not in its view: no heat, no opinion."""
    empty = np.zeros(canvas.grid.shape, np.float32)
    named = np.isin(canvas.labels, [number for organ in query.organs for number in _numbers_near(organ)])
    middle = canvas.grid.to_mm(np.argwhere(named).mean(axis=0)) if named.any() else canvas.grid.centre_mm
    x, y, z = (float(value) for value in middle)
    return SentenceGrounding(query.index, query.text, HeatMap(empty, empty, canvas.grid), (x, y, z), 0.0, 0.0, 0.5)


def _mean_of_others(told: Told, at: int) -> np.ndarray:
    """Mean vector (D,) of the sentences that one can be held against; zero where there is none."""
    own = told.queries[at].organs
    rivals = [
        other for other, query in enumerate(told.queries) if other != at and told.features.are_rivals(own, query.organs)
    ]
    return told.vectors[rivals].mean(axis=0) if rivals else np.zeros_like(told.vectors[at])


def _region_of(organs: tuple[str, ...], canvas: Canvas, config: ReadoutConfig) -> np.ndarray:
    """Where a sentence may light up: (X, Y, Z) bool, True = allowed. Everything seen if no organ is known."""
    member = np.zeros(256, bool)
    for organ in organs:
        member[_numbers_near(organ)] = True
    named = member[canvas.labels]
    if not named.any():
        return canvas.inside
    steps = int(np.ceil(config.margin_mm / config.spacing_mm))
    allowed = binary_dilation(named, iterations=steps) & canvas.inside
    return allowed if allowed.any() else canvas.inside


def _numbers_near(organ: str) -> list[int]:
    """Label numbers that stand for an organ; a pleural space without a mask stands at its lung."""
    from core.structures import parts_of

    stand_in = {"pleura_left": "lung_left", "pleura_right": "lung_right", "pleura": "lung", "pericardium": "heart"}
    stand_in |= {"coronary_arteries": "heart"}
    numbers = set(parts_of(organ))
    if organ in stand_in:
        numbers |= parts_of(stand_in[organ])
    return sorted(numbers)


def _extend(scores: np.ndarray, covered: np.ndarray, grid: Grid) -> np.ndarray:
    """Scores (S, X, Y, Z) in which patches that an organ does not touch have those of the nearest that it does.

    What they would score as that organ means nothing, and must not be mixed in at its border.
    """
    nearest = distance_transform_edt(~covered, sampling=grid.spacing_mm, return_distances=False, return_indices=True)
    return scores[:, *nearest]


def _heat_from(score: np.ndarray, region: np.ndarray, seen: np.ndarray, floor_quantile: float) -> np.ndarray:
    """Scores (X, Y, Z) -> heat float32 in [0, 1]: the floor becomes 0, the best allowed voxel 1, outside 0."""
    best = float(score[region].max())
    floor = min(float(np.quantile(score[seen], floor_quantile)), best - 1e-6)
    heat = np.clip((score - floor) / (best - floor), 0.0, 1.0)
    return np.where(region, heat, 0.0).astype(np.float32)


def _share_per_organ(heat: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Structure name -> share of the heat inside it, largest first; shares under 1 % are left out."""
    mass = np.bincount(labels.ravel(), weights=heat.ravel(), minlength=256)
    shares = mass / max(float(heat.sum()), 1e-9)
    order = [int(number) for number in np.argsort(-shares) if number and shares[number] >= 0.01]
    return {BY_NUMBER[number].name: round(float(shares[number]), 4) for number in order}


def heat_on_source(grounding: SentenceGrounding, volume: Volume) -> np.ndarray:
    """Heat (I, J, K) float32 in [0, 1] on the grid of the CT's own file, 0 outside the engine's view."""
    return volume.to_source(resample(grounding.map.heat, grounding.map.grid, volume.grid))


def peak_on_source(heat: np.ndarray, grounding: SentenceGrounding, volume: Volume) -> tuple[int, int, int]:
    """Voxel (i, j, k) of the CT's own file where `heat`, (I, J, K) from `heat_on_source`, is hottest.

    Of voxels that are equally hot the one nearest to the grounding's peak is taken, then the lowest in patient mm, so
    that copies of one CT stored along other axes agree. A map that is nowhere warm has its peak at the grounding's.
    """
    if not heat.any():
        return volume.source.nearest_voxel(grounding.peak_ras_mm)
    hottest = np.argwhere(heat >= heat.max() - 1e-4)
    places = volume.source.to_mm(hottest)
    distance = np.linalg.norm(places - np.array(grounding.peak_ras_mm), axis=1).round(2)
    order = np.lexsort((*places.round(2).T, distance))
    i, j, k = hottest[order[0]]
    return int(i), int(j), int(k)
