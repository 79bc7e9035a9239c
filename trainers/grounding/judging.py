"""One case judged: each sentence's heat against its mask, free and kept to what the sentence names."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from core.errors import AsapError, ConfigError
from core.grounding.canvas import Canvas, middle_plane
from core.grounding.constraint import Region as Place
from core.grounding.constraint import Regions
from core.grounding.engine import GroundingEngine, PatchFeatures
from core.grounding.heatmap import SentenceGrounding
from core.grounding.readout import ReadoutConfig, ground_sentences, make_canvas
from core.resample import resample
from core.volume import Grid, Volume
from trainers.grounding.cases import Case, OpenedCase, Problem, Sentence
from trainers.grounding.regions import Region, cut_region
from trainers.metrics.heat import BEYOND, BODY, LEVELS, ORGAN, TRUTH, area_of_levels, best_dice, count_levels, dice_from

SLAB_VOXELS = 8_000_000
"""Voxels of the CT that heat is brought to at a time."""
Way = Literal["raw", "constrained"]
WAYS: tuple[Way, ...] = ("raw", "constrained")
"""raw: heat may be anywhere. constrained: heat is kept to the organ, lobe and side that the sentence names."""


@dataclass(frozen=True)
class JudgeConfig:
    """How heat is made and judged."""

    tolerance_mm: float = 10.0
    """A peak this near to the finding, in millimetres, has found it."""
    threshold: float = 0.5
    """Heat that counts as the finding in dice_fixed."""
    together: bool = False
    """Read a case's true sentences as one report, contrasted with each other, as the page does; False: each alone, for
    several ways to say one finding must not be held against each other."""
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    """How scores become heat."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or self.tolerance_mm < 0:
            raise ConfigError(
                f"threshold is {self.threshold}, tolerance_mm {self.tolerance_mm}; expected a heat in (0, 1] and mm."
            )


class Reading(NamedTuple):
    """One sentence read in one way; NaN = not defined for it."""

    hit: float  # 1: the peak lies within the tolerance of the finding; 0 too where there is no heat at all
    chance: float  # share of the places the peak could have been at that would have been a hit
    wrong_side: float  # 1: the peak lies in the other half of the chest; NaN where no single side is named
    dice_best: float  # at the threshold that is best for this sentence: an oracle
    dice_fixed: float  # at `JudgeConfig.threshold`
    voxel_auroc: float  # voxels of the finding against all others of the body
    voxel_auroc_in_organ: float  # against those of the structure that the sentence names
    heat_in_organ: float  # share of the heat inside that structure, or what stands for it
    distance_mm: float  # from the peak to the finding, 0 inside; NaN where there is no heat
    best_threshold: float
    peak_x_mm: float
    peak_y_mm: float
    peak_z_mm: float


class SentenceRow(NamedTuple):
    """What is known of one sentence."""

    case: str
    patient: str
    finding: str
    sentence: str
    organs: tuple[str, ...]
    side: str
    volume_ml: float  # of the finding
    kept: str  # what constrained heat was kept to, in words
    raw: Reading
    constrained: Reading


class Answer(NamedTuple):
    """One question "is it there?" with its answer, read alone and kept to what the sentence names."""

    case: str
    patient: str
    finding: str
    sentence: str
    is_there: bool
    score: float  # read-out at the peak
    margin: float  # above the sentence's negation
    probability: float


class Seen(NamedTuple):
    """One sentence with all that a picture of it needs."""

    row: SentenceRow
    region: Region
    volume: Volume
    found: SentenceGrounding


class Judged(NamedTuple):
    """One case."""

    seen: tuple[Seen, ...]
    answers: tuple[Answer, ...]
    problems: tuple[Problem, ...]  # sentences that were left out
    warnings: tuple[Problem, ...]  # what is doubtful but counted


def heat_of(found: SentenceGrounding, way: Way) -> np.ndarray:
    """(X, Y, Z) float32 heat in [0, 1] on `found.map.grid`."""
    return found.map.anywhere if way == "raw" else found.map.heat


def peak_of(found: SentenceGrounding, way: Way) -> np.ndarray:
    """Patient mm (3,) where heat is hottest."""
    return np.array(found.raw_peak_ras_mm or found.peak_ras_mm if way == "raw" else found.peak_ras_mm)


class _View(NamedTuple):
    """A case as one engine sees it."""

    engine: GroundingEngine
    features: PatchFeatures
    canvas: Canvas
    places: Regions
    opened: OpenedCase
    config: JudgeConfig


class _Asked(NamedTuple):
    """One sentence, where it is true, and where it says to look."""

    sentence: Sentence
    truth: Region
    place: Place
    zones: np.ndarray  # (X, Y, Z) uint8 on the CT's RAS grid, zones of `trainers.metrics.heat`


def judge_case(engine: GroundingEngine, case: Case, opened: OpenedCase, config: JudgeConfig) -> Judged:
    """Ground a case's sentences and judge them; sentences whose mask cannot be used are left out and told.

    `opened.masks` may be None: then every sentence is free. Raises AsapError where the engine cannot see the CT.
    """
    regions, problems = _read_regions(case, opened)
    warnings = [Problem(case.name, "", text) for text in opened.warnings]
    if not regions and not opened.questions:
        return Judged((), (), tuple(problems), tuple(warnings))
    features = engine.embed_volume(opened.volume, opened.masks)
    canvas = make_canvas(opened.volume, features, opened.masks, config.readout)
    view = _View(engine, features, canvas, Regions(canvas, config.readout.margin_mm), opened, config)
    seen = _judge_all(view, case, regions)
    warnings += [Problem(case.name, one.row.sentence, doubt) for one in seen if (doubt := _doubt(one, canvas))]
    return Judged(tuple(seen), tuple(_ask(view, case)), tuple(problems), tuple(warnings))


def _read_regions(case: Case, opened: OpenedCase) -> tuple[list[tuple[Sentence, Region]], list[Problem]]:
    regions, problems = [], []
    for truth in opened.truths:
        try:
            region = cut_region(truth.read(opened.volume), opened.volume.grid)
            regions.append((truth.sentence, region))
        except AsapError as error:
            problems.append(Problem(case.name, truth.sentence.text, f"{truth.source}: {error}"))
    return regions, problems


def _judge_all(view: _View, case: Case, regions: Sequence[tuple[Sentence, Region]]) -> list[Seen]:
    sentences = [sentence for sentence, _ in regions]
    contrast = view.config.readout.contrast if view.config.together else 0.0
    shown = _ground(view, sentences, replace(view.config.readout, contrast=contrast))
    # before the lowest scores are drawn as 0: what ranks are read from
    ranked = _ground(view, sentences, replace(view.config.readout, contrast=contrast, floor_quantile=0.0))
    seen = []
    for (sentence, truth), drawn, ranks in zip(regions, shown, ranked, strict=True):
        place = view.places.of(sentence.said)
        asked = _Asked(sentence, truth, place, _zones(view, truth, place))
        raw, constrained = (_read(view, asked, way, drawn, ranks) for way in WAYS)
        told = (case.name, case.patient, sentence.finding, sentence.text, _names(sentence), sentence.side)
        row = SentenceRow(*told, truth.volume_ml, drawn.constraint.words, raw, constrained)
        seen.append(Seen(row, truth, view.opened.volume, drawn))
    return seen


def _names(sentence: Sentence) -> tuple[str, ...]:
    return tuple(dict.fromkeys(place.organ for place in sentence.said.places))


def _ground(view: _View, sentences: Sequence[Sentence], config: ReadoutConfig) -> tuple[SentenceGrounding, ...]:
    queries = [sentence.query(number) for number, sentence in enumerate(sentences, start=1)]
    return ground_sentences(view.engine, view.features, view.canvas, queries, config)


def _is_placed(place: Place) -> bool:
    """Whether what a sentence names has a mask, or something that stands for it."""
    return place.constraint.kind in ("organ", "stand-in")


def _zones(view: _View, truth: Region, place: Place) -> np.ndarray:
    """Without masks the whole scan is body."""
    volume, masks = view.opened.volume, view.opened.masks
    if masks is None:
        zones = np.full(volume.shape, BODY, np.uint8)
    else:
        zones = np.where(masks.labels > 0, np.uint8(BODY), np.uint8(BEYOND))
    if _is_placed(place):
        zones[resample(place.core.view(np.uint8), view.canvas.grid, volume.grid, "nearest") > 0] = ORGAN
    truth.mark(zones, TRUTH)
    return zones


def _read(view: _View, asked: _Asked, way: Way, drawn: SentenceGrounding, ranks: SentenceGrounding) -> Reading:
    heat, peak, tolerance = heat_of(drawn, way), peak_of(drawn, way), view.config.tolerance_mm
    is_warm = bool(heat.any())
    distance = float(asked.truth.distances_mm(peak)[0]) if is_warm else np.nan
    levels = _count(view, heat, asked.zones)
    rank_levels = _count(view, heat_of(ranks, way), asked.zones)
    best = best_dice(levels)
    return Reading(
        float(distance <= tolerance),  # False for NaN
        _chance(view, asked, way),
        _wrong_side(asked.sentence, peak, view.canvas) if is_warm else np.nan,
        best.dice,
        dice_from(levels, view.config.threshold),
        area_of_levels(rank_levels),
        area_of_levels(rank_levels, (ORGAN,)),
        float(heat[asked.place.core].sum() / heat.sum()) if is_warm and _is_placed(asked.place) else np.nan,
        distance,
        best.threshold,
        *(float(value) for value in peak),
    )


def _count(view: _View, heat: np.ndarray, zones: np.ndarray) -> np.ndarray:
    """Voxels of the CT per zone and level of heat (X, Y, Z) on the canvas, slab by slab."""
    grid, counts = view.opened.volume.grid, np.zeros((4, LEVELS), np.int64)
    thickness = max(1, SLAB_VOXELS // (grid.shape[0] * grid.shape[1]))
    for start in range(0, grid.shape[2], thickness):
        part = zones[:, :, start : start + thickness]
        affine = grid.affine.copy()
        affine[:3, 3] = grid.to_mm((0, 0, start))
        slab = Grid((int(part.shape[0]), int(part.shape[1]), int(part.shape[2])), affine)
        counts += count_levels(resample(heat, view.canvas.grid, slab), part)
    return counts


def _chance(view: _View, asked: _Asked, way: Way) -> float:
    """Share of the places where the peak could have been that lie within the tolerance of the finding."""
    canvas, tolerance = view.canvas, view.config.tolerance_mm
    allowed = canvas.inside if way == "raw" else asked.place.core & canvas.inside
    if (allowed & (canvas.labels > 0)).any():
        allowed = allowed & (canvas.labels > 0)
    places = np.argwhere(allowed)
    if not len(places):
        return np.nan
    return float((asked.truth.distances_mm(canvas.grid.to_mm(places), tolerance) <= tolerance).mean())


def _wrong_side(sentence: Sentence, point_mm: np.ndarray, canvas: Canvas) -> float:
    return float(_side_of(point_mm, canvas) != sentence.side) if sentence.side in ("left", "right") else np.nan


def _side_of(point_mm: np.ndarray, canvas: Canvas) -> str:
    """The half of the patient that a point (3,) mm lies in."""
    a, b, c = middle_plane(canvas)
    return "left" if point_mm[0] < a + b * point_mm[1] + c * point_mm[2] else "right"


def _doubt(seen: Seen, canvas: Canvas) -> str:
    """What makes the truth doubtful, "" for nothing: mirrored masks and mistaken words look like this."""
    side = _side_of(seen.region.centre_mm, canvas)
    if seen.row.side in ("left", "right") and side != seen.row.side:
        return f"The sentence says {seen.row.side}, the middle of its mask lies on the {side}. Is the mask mirrored?"
    return ""


def _ask(view: _View, case: Case) -> list[Answer]:
    """Each question by itself: without contrast, for which other sentences are asked would else matter."""
    questions = view.opened.questions
    found = _ground(view, [one.sentence for one in questions], replace(view.config.readout, contrast=0.0))
    return [
        Answer(
            case.name,
            case.patient,
            question.sentence.finding,
            question.sentence.text,
            question.is_true,
            one.score,
            one.margin,
            one.probability,
        )
        for question, one in zip(questions, found, strict=True)
    ]
