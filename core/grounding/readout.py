"""From patch vectors and sentence vectors to heat maps in the patient (specification of ASAP, section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from core.anatomy.masks import OrganMasks
from core.errors import ConfigError
from core.grounding.calibration import PresenceScores
from core.grounding.canvas import Canvas
from core.grounding.constraint import Constraint, Region, Regions
from core.grounding.engine import GroundingEngine, PatchFeatures, Readable, ReadsAlone
from core.grounding.heatmap import HeatMap, SentenceGrounding
from core.grounding.presence import Calibrated, Judgement, judge
from core.grounding.query import SentenceQuery
from core.progress import Progress, silent
from core.resample import lies_inside, resample, spaced_grid
from core.structures import BY_NAME, BY_NUMBER, UNIONS
from core.volume import Grid, Volume

__all__ = [
    "Canvas",
    "ReadoutConfig",
    "SentenceQuery",
    "ground_sentences",
    "heat_on_source",
    "make_canvas",
    "peak_on_source",
    "raw_heat_on_source",
]

TISSUE_HU = -300
"""Denser voxels are tissue or fluid."""


@dataclass(frozen=True)
class ReadoutConfig:
    """How scores become heat."""

    spacing_mm: float = 4.0
    """Voxel size of the heat maps: patches are interpolated to it, masks are sampled on it."""
    contrast: float = 1.0
    """How much of the mean over the report's other sentences is taken away: 0 = plain cosine, 1 = all of it. Engines
    that were trained to read every sentence alone (`reads_alone`) are never contrasted."""
    floor_quantile: float = 0.8
    """Scores below this quantile of what is seen (of the organ, by engines that read organs), or of the named organ
    where that is lower, are drawn as 0, the best one as 1."""
    margin_mm: float = 6.0
    """How far around the organ it names the heat of a sentence fades out, in tissue that is no other organ's."""
    lit: float = 0.5
    """Least heat of an organ that a sentence calls normal, or clears of a finding: it is lit whole."""

    def __post_init__(self) -> None:
        if self.spacing_mm <= 0:
            raise ConfigError(f"spacing_mm is {self.spacing_mm}; expected a positive size in mm.")
        if not 0 <= self.floor_quantile < 1:
            raise ConfigError(f"floor_quantile is {self.floor_quantile}; expected a fraction from 0 to below 1.")
        if self.margin_mm < 0 or not 0 <= self.lit <= 1:
            raise ConfigError(f"margin_mm is {self.margin_mm}, lit {self.lit}; expected at least 0 mm, and 0 to 1.")


def make_canvas(
    volume: Volume, features: PatchFeatures, masks: OrganMasks | None, config: ReadoutConfig = ReadoutConfig()
) -> Canvas:
    """The heat grid of a CT: the engine's field of view in voxels of `config.spacing_mm`."""
    grid = spaced_grid(features.grid, np.full(3, config.spacing_mm))
    labels = np.zeros(grid.shape, np.uint8)
    if masks is not None:
        labels = resample(masks.labels, volume.grid, grid, "nearest")
    seen = resample(features.covered.astype(np.uint8), features.grid, grid, "nearest") > 0
    dense = resample(volume.hu, volume.grid, grid, "nearest", fill=-1024) > TISSUE_HU
    return Canvas(grid, labels, lies_inside(grid, volume.grid) & seen, dense, masks)


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
    regions = Regions(canvas, config.margin_mm)
    groundings = []
    for at, query in enumerate(queries):
        progress(at / len(queries), f"Sentence {at + 1} of {len(queries)}")
        groundings.append(_ground_one(told, at, canvas, regions.of(query.places), config))
    return tuple(groundings)


class Told(NamedTuple):
    """All sentences of one grounding and what they are compared with."""

    engine: GroundingEngine
    features: PatchFeatures
    queries: Sequence[SentenceQuery]
    vectors: np.ndarray  # (S, D) of the sentences
    negations: np.ndarray  # (S, D) of their opposites


class Scores(NamedTuple):
    """One sentence against every voxel of the canvas: (X, Y, Z) float32 each."""

    cosine: np.ndarray  # with the sentence
    contrasted: np.ndarray  # with what sets it apart from the others
    negated: np.ndarray  # with its negation


def _ground_one(told: Told, at: int, canvas: Canvas, region: Region, config: ReadoutConfig) -> SentenceGrounding:
    """One sentence: its scores on the canvas, and what is read off them."""
    query, features = told.queries[at], told.features
    readable, seen = features.readable(query.organs), canvas.inside
    if readable.organ is not None:
        seen = seen & (resample(readable.covered.astype(np.uint8), features.grid, canvas.grid, "nearest") > 0)
    region = region._replace(core=region.core & seen)
    if not region.core.any():
        return _nothing_to_see(query, canvas, region.constraint)
    scores = _scores_of(told, at, readable, canvas, config)
    peak, free_peak = (_hottest(scores.contrasted, allowed) for allowed in (region.core, seen))
    point, found = _point(canvas, peak), (float(scores.cosine[peak]), float(scores.negated[peak]))
    heat = _heat_of(scores.contrasted, seen, region, query, config)
    own = told.engine.presence_probability(*_whole_or(found, told, at, readable, point))
    presence = _presence_of(told, at, scores, region.core, readable, canvas)
    calibration = told.engine.calibration if isinstance(told.engine, Calibrated) else None
    judgement = judge(calibration, query.asked, presence, own)
    return SentenceGrounding(
        query.index,
        query.text,
        HeatMap(heat.heat, scores.cosine, canvas.grid, heat.anywhere),
        point,
        *found,
        judgement.probability,
        _share_per_organ(heat.heat, canvas.labels),
        region.constraint,
        query.places.is_spot,
        _point(canvas, free_peak),
        presence,
        judgement,
    )


def _scores_of(told: Told, at: int, readable: Readable, canvas: Canvas, config: ReadoutConfig) -> Scores:
    is_alone = isinstance(told.engine, ReadsAlone) and told.engine.reads_alone
    rest = 0 if is_alone else config.contrast * _mean_of_others(told, at)
    asked = np.stack([told.vectors[at], told.vectors[at] - rest, told.negations[at]])
    cosine = np.ascontiguousarray(np.moveaxis(readable.vectors @ asked.T, -1, 0))  # four times as fast as einsum
    if readable.organ is not None:
        cosine = _extend(cosine, readable.covered, told.features.grid)
    return Scores(*(resample(score, told.features.grid, canvas.grid) for score in cosine))


def _hottest(scores: np.ndarray, allowed: np.ndarray) -> tuple[np.intp, ...]:
    return np.unravel_index(int(np.argmax(np.where(allowed, scores, -np.inf))), scores.shape)


class _Heat(NamedTuple):
    """Heat (X, Y, Z) float32 in [0, 1]."""

    heat: np.ndarray  # kept inside the region
    anywhere: np.ndarray  # raw


def _heat_of(
    contrasted: np.ndarray, seen: np.ndarray, region: Region, query: SentenceQuery, config: ReadoutConfig
) -> _Heat:
    """Heat of a sentence: warmest where it points to, or all of an organ lit that it calls normal."""
    anywhere = _heat_from(contrasted, seen, seen, config.floor_quantile)
    if region.constraint.kind == "none":
        return _Heat(anywhere, anywhere)
    heat = _heat_from(contrasted, region.core, seen, config.floor_quantile)
    if not query.places.is_spot and region.constraint.kind != "side":
        lit = config.lit + (1 - config.lit) * heat
        return _Heat(np.where(region.core, lit, np.float32(0)).astype(np.float32), anywhere)
    return _Heat(np.where(seen, region.keep(heat), np.float32(0)), anywhere)


def _presence_of(
    told: Told, at: int, scores: Scores, allowed: np.ndarray, readable: Readable, canvas: Canvas
) -> PresenceScores:
    """Scores of what a sentence claims, or denies, at their best voxel of its region.

    Nothing of the report's other sentences is taken away: what is concluded of one must not depend on them.
    """
    is_denied = told.queries[at].asked.is_denied
    claim, denial = (scores.negated, scores.cosine) if is_denied else (scores.cosine, scores.negated)
    best = _hottest(claim, allowed)
    inside = claim[allowed]
    contrast = float((claim[best] - inside.mean()) / max(float(inside.std()), 1e-6))
    pair = (float(claim[best]), float(denial[best]))
    score, denied = _whole_or(pair, told, at, readable, _point(canvas, best), is_denied)
    return PresenceScores(score, score - denied, contrast if inside.std() > 1e-6 else 0.0)


def _whole_or(
    scores: tuple[float, float],
    told: Told,
    at: int,
    readable: Readable,
    point: tuple[float, float, float],
    is_denied: bool = False,
) -> tuple[float, float]:
    """A pair of scores, or those of the whole organ at a patient point where an engine was trained on organs."""
    organs = told.features.organs
    if organs is None or readable.organ is None:
        return scores
    whole = organs.whole[readable.organ[told.features.grid.nearest_voxel(point)]]
    found = (float(whole @ told.vectors[at]), float(whole @ told.negations[at]))
    return (found[1], found[0]) if is_denied else found


def _point(canvas: Canvas, voxel: tuple[np.intp, ...]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in canvas.grid.to_mm(voxel))
    return x, y, z


def _nothing_to_see(query: SentenceQuery, canvas: Canvas, constraint: Constraint) -> SentenceGrounding:
    """A sentence about an organ that the engine has no idea of, or that is not in its view: no heat, no opinion."""
    empty = np.zeros(canvas.grid.shape, np.float32)
    named = canvas.mask(*(name for name in constraint.kept if name in BY_NAME or name in UNIONS))
    middle = canvas.grid.to_mm(np.argwhere(named).mean(axis=0)) if named.any() else canvas.grid.centre_mm
    x, y, z = (float(value) for value in middle)
    heat = HeatMap(empty, empty, canvas.grid, empty)
    unseen = Judgement("cannot tell", 0.5, "Cannot tell: the engine does not see what the sentence names.")
    return SentenceGrounding(
        *(query.index, query.text, heat, (x, y, z), 0.0, 0.0, 0.5, {}, constraint, query.places.is_spot),
        judgement=unseen,
    )


def _mean_of_others(told: Told, at: int) -> np.ndarray:
    """Mean vector (D,) of the sentences that one can be held against; zero where there is none.

    Another wording of the same is no rival: held against it, both would lose what they have in common, the finding.
    """
    own, likeness = told.queries[at], told.vectors @ told.vectors[at]
    rest = np.delete(likeness, at)
    too_near = (1 + rest.mean()) / 2 if len(rest) else 1.0  # sentences of some encoders are all alike
    rivals = [
        other
        for other, query in enumerate(told.queries)
        if other != at
        and told.features.are_rivals(own.organs, query.organs)
        and not own.repeats(query)
        and likeness[other] < too_near
    ]
    return told.vectors[rivals].mean(axis=0) if rivals else np.zeros_like(told.vectors[at])


def _extend(scores: np.ndarray, covered: np.ndarray, grid: Grid) -> np.ndarray:
    """Scores (S, X, Y, Z) in which patches that an organ does not touch have those of the nearest that it does.

    What they would score as that organ means nothing, and must not be mixed in at its border.
    """
    nearest = distance_transform_edt(~covered, sampling=grid.spacing_mm, return_distances=False, return_indices=True)
    return scores[:, *nearest]


def _heat_from(score: np.ndarray, region: np.ndarray, seen: np.ndarray, floor_quantile: float) -> np.ndarray:
    """Scores (X, Y, Z) -> heat float32 in [0, 1]: the floor becomes 0, the best voxel of the region 1; 0 unseen.

    A region that is cold as a whole has a floor of its own: where in it a sentence lies best is to be seen there too.
    """
    best = float(score[region].max())
    floor = min(*(float(np.quantile(score[where], floor_quantile)) for where in (seen, region)), best - 1e-6)
    heat = np.clip((score - floor) / (best - floor), 0.0, 1.0)
    return np.where(seen, heat, 0.0).astype(np.float32)


def _share_per_organ(heat: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Structure name -> share of the heat inside it, largest first; shares under 1 % are left out."""
    mass = np.bincount(labels.ravel(), weights=heat.ravel(), minlength=256)
    shares = mass / max(float(heat.sum()), 1e-9)
    order = [int(number) for number in np.argsort(-shares) if number and shares[number] >= 0.01]
    return {BY_NUMBER[number].name: round(float(shares[number]), 4) for number in order}


def heat_on_source(grounding: SentenceGrounding, volume: Volume) -> np.ndarray:
    """Heat (I, J, K) float32 in [0, 1] on the grid of the CT's own file, 0 outside of where it may lie."""
    return volume.to_source(resample(grounding.map.heat, grounding.map.grid, volume.grid))


def raw_heat_on_source(grounding: SentenceGrounding, volume: Volume) -> np.ndarray:
    """Raw heat (I, J, K) float32 in [0, 1], kept to nothing, on the grid of the CT's own file."""
    return volume.to_source(resample(grounding.map.anywhere, grounding.map.grid, volume.grid))


def peak_on_source(heat: np.ndarray, grounding: SentenceGrounding, volume: Volume) -> tuple[int, int, int]:
    """Voxel (i, j, k) of the CT's own file where `heat`, (I, J, K) on the file's grid, is hottest.

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
