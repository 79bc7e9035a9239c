"""How well an engine's heat points: `python -m trainers.grounding_metrics --model assets/models/bundled ...`.

Every figure stands beside the same figure for chance: a peak drawn evenly from the voxels it could have been in.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
import tyro
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from core.anatomy.masks import OrganMasks
from core.errors import AsapError
from core.grounding.engine import GroundingEngine, PatchFeatures
from core.grounding.heatmap import SentenceGrounding
from core.grounding.model_folder import open_folder
from core.grounding.readout import Canvas, SentenceQuery, ground_sentences, make_canvas
from core.report.rephrase import negate_sentence
from core.resample import resample
from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.sentences import Statement, write_sentence
from core.synthesis.studies import StudyConfig, SyntheticStudy, make_study
from core.volume import Grid, Volume
from trainers.patients import read_patients, read_volume

LEAST_AUROC = 0.6
"""A presence fit that does worse on answers it has not seen is not worth a number."""
DILATION_MM = 10.0
"""A peak this close to the finding counts as a hit (pointing game)."""


@dataclass(frozen=True)
class MeasureConfig:
    """What is measured."""

    model: Path = Path("assets/models/bundled")
    """Model folder."""
    sample: Path = Path("assets/sample/lidc-idri-0001")
    """Folder with ct, organs and nodule_votes: the real nodule."""
    sentence: str = "There is a spiculated nodule in the left lower lobe."
    """What the real nodule is called."""
    organ: str = "lung_lower_lobe_left"
    """The structure it lies in."""
    patients_dir: Path | None = None
    """Patients for synthetic studies; None: the real nodule only."""
    without: tuple[str, ...] = ()
    """Patients that the model was trained on."""
    count: int = 120
    """Synthetic studies."""
    seed: int = 1000
    """Of the synthetic studies; another one than in training."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """What a synthetic study holds."""


class Pointing(NamedTuple):
    """One sentence's heat against its true region."""

    kind: str
    is_hit: bool
    """The peak lies in the region dilated by `DILATION_MM`."""
    chance: float
    """Share of the voxels the peak could have been in that would have been a hit."""
    is_wrong_side: bool | None
    """The peak lies in the other half of the chest; None where the sentence names no side."""


class Presence(NamedTuple):
    """One question "is it there?" with its answer."""

    kind: str
    is_there: bool
    score: float
    margin: float


def measure_real_nodule(engine: GroundingEngine, config: MeasureConfig) -> dict[str, object]:
    """Rank of the radiologists' nodule (at least 2 of 4) in the heat of its sentence; chance is 0.5."""
    volume = read_volume(config.sample / "ct.nii.gz")
    labels, votes = (
        volume.from_source_array(np.asanyarray(nib.nifti1.load(config.sample / f"{name}.nii.gz").dataobj))
        for name in ("organs", "nodule_votes")
    )
    masks = OrganMasks(labels.astype(np.uint8), "sample")
    features = engine.embed_volume(volume, masks)
    canvas = make_canvas(volume, features, masks)
    nodule = resample((votes >= 2).astype(np.float32), volume.grid, canvas.grid) >= 0.5
    grounding = _ground(engine, features, canvas, [(config.sentence, ())])[0]
    raw = grounding.map.raw
    areas = {"field of view": canvas.inside, "lungs": OrganMasks(canvas.labels, "").mask("lung") | nodule}
    areas[config.organ] = OrganMasks(canvas.labels, "").mask(config.organ) | nodule
    result: dict[str, object] = {"sentence": config.sentence}
    for name, area in areas.items():
        peak = np.unravel_index(np.where(area, raw, -np.inf).argmax(), raw.shape)
        near = _dilate(nodule, canvas.grid)
        result[name] = {
            "percentile_rank": round(_rank(raw, nodule, area), 4),
            "peak_hits": bool(near[peak]),
            "chance_of_hit": round(float((near & area).sum() / area.sum()), 4),
            "peak_ras_mm": [round(float(v), 1) for v in canvas.grid.to_mm(peak)],
        }
    return result


def _rank(scores: np.ndarray, inside: np.ndarray, area: np.ndarray) -> float:
    """Mean share of the area's other voxels that score below a voxel of `inside`."""
    others = np.sort(scores[area & ~inside])
    return float(np.searchsorted(others, scores[inside]).mean() / len(others))


def _dilate(region: np.ndarray, grid: Grid) -> np.ndarray:
    """The region and everything within `DILATION_MM` of it."""
    return ndimage.distance_transform_edt(~region, sampling=grid.spacing_mm) <= DILATION_MM if region.any() else region


def _ground(
    engine: GroundingEngine, features: PatchFeatures, canvas: Canvas, sentences: Sequence[tuple[str, tuple[str, ...]]]
) -> tuple[SentenceGrounding, ...]:
    queries = [
        SentenceQuery(number, text, negate_sentence(text), organs)
        for number, (text, organs) in enumerate(sentences, start=1)
    ]
    return ground_sentences(engine, features, canvas, queries)


class StudyFigures(NamedTuple):
    """What one synthetic study gives."""

    free: list[Pointing]  # heat anywhere in the body
    constrained: list[Pointing]  # heat inside the structures the sentence names
    presence: list[Presence]


def measure_study(engine: GroundingEngine, study: SyntheticStudy, rng: np.random.Generator) -> StudyFigures:
    """Point at every painted finding of a study, and ask for others that are not there."""
    volume = Volume(np.rint(np.clip(study.scene.hu, -1024, 3071)).astype(np.int16), study.scene.grid, study.scene.grid)
    masks = OrganMasks(study.scene.labels, "truth")
    features = engine.embed_volume(volume, masks)
    canvas = make_canvas(volume, features, masks)
    told = [
        statement for statement in study.report.statements if statement.existence == "present" and not statement.also
    ]
    free, constrained = (
        _ground(engine, features, canvas, [(s.text, s.organs if is_named else ()) for s in told])
        for is_named in (False, True)
    )
    points = [
        [_point(study, statement, grounding, canvas) for statement, grounding in zip(told, found, strict=True)]
        for found in (free, constrained)
    ]
    return StudyFigures(points[0], points[1], _ask(engine, features, canvas, study, rng))


def _ask(
    engine: GroundingEngine, features: PatchFeatures, canvas: Canvas, study: SyntheticStudy, rng: np.random.Generator
) -> list[Presence]:
    """Ask, in one style, for what was painted and for as much that was not."""
    there = [f.claim for f in study.findings if KINDS[f.claim.kind].place != "organ"]
    claims = [replace(claim, size_mm=None, second_mm=None, grade=None) for claim in there]
    claims += [_false_claim(kind, study, rng) for kind in _absent_kinds(study, max(1, len(there)), rng)]
    asked = [write_sentence(claim, "prose", rng, is_vague=False) for claim in claims]
    found = [_ground(engine, features, canvas, [(s.text, s.organs)])[0] for s in asked]  # alone: no contrast
    return [
        Presence(s.kind, number < len(there), g.score, g.margin)
        for number, (s, g) in enumerate(zip(asked, found, strict=True))
    ]


def _absent_kinds(study: SyntheticStudy, count: int, rng: np.random.Generator) -> list[str]:
    there = {finding.claim.finding for finding in study.findings}
    free = [kind for kind in KINDS if KINDS[kind].finding not in there and KINDS[kind].place != "organ"]
    return rng.choice(free, min(count, len(free)), replace=False).tolist()


def _false_claim(kind: str, study: SyntheticStudy, rng: np.random.Generator) -> Claim:
    """A finding in a lobe or on a side where it is not."""
    places = study.scene.lobes() if KINDS[kind].place == "lobe" else list(KINDS[kind].organs)
    organs = (places[rng.integers(len(places))],)
    return Claim(kind, "present", organs, side_of_organs(organs))


def _point(study: SyntheticStudy, statement: Statement, grounding: SentenceGrounding, canvas: Canvas) -> Pointing:
    hit = _dilate(study.region(statement), study.scene.grid)
    near = resample(hit.astype(np.uint8), study.scene.grid, canvas.grid, "nearest") > 0
    body = canvas.inside & (canvas.labels > 0)
    peak = canvas.grid.nearest_voxel(grounding.peak_ras_mm)
    wrong = None
    if statement.laterality in ("left", "right"):
        middle = _midline_mm(canvas)
        wrong = (grounding.peak_ras_mm[0] < middle) != (statement.laterality == "left")
    return Pointing(statement.kind, bool(near[peak]), float((near & body).sum() / body.sum()), wrong)


def _midline_mm(canvas: Canvas) -> float:
    """Patient x in mm halfway between the middles of the lungs."""
    masks = OrganMasks(canvas.labels, "")
    return float(
        np.mean([canvas.grid.to_mm(np.argwhere(masks.mask(f"lung_{s}")))[:, 0].mean() for s in ("left", "right")])
    )


def summarise(points: Iterable[Pointing]) -> dict[str, object]:
    """Hit rate, chance and wrong-side rate over all sentences and per kind."""
    points = list(points)
    sided = [point.is_wrong_side for point in points if point.is_wrong_side is not None]
    kinds = sorted({point.kind for point in points})
    return {
        "sentences": len(points),
        "pointing": round(float(np.mean([p.is_hit for p in points])), 3),
        "chance": round(float(np.mean([p.chance for p in points])), 3),
        "wrong_side": round(float(np.mean(sided)), 3) if sided else None,
        "per_kind": {kind: _summary_of([p for p in points if p.kind == kind]) for kind in kinds},
    }


def _summary_of(points: Sequence[Pointing]) -> dict[str, float]:
    hits, chance = np.mean([p.is_hit for p in points]), np.mean([p.chance for p in points])
    return {"n": len(points), "pointing": round(float(hits), 2), "chance": round(float(chance), 2)}


def calibrate(answers: Sequence[Presence]) -> dict[str, object]:
    """Logistic fit of presence on score and margin: fitted on every other answer, judged on the rest.

    A weight below zero would make stronger support count against a finding: such a fit is left out. Where no fit tells
    presence from absence (`LEAST_AUROC` on the rest), all weights are 0: the engine then says 0.5, "cannot tell".
    """
    features = np.array([[answer.score, answer.margin] for answer in answers])
    truth = np.array([answer.is_there for answer in answers])
    best, best_auroc = _calibration_of({}, 0.0), LEAST_AUROC
    for columns in ([0, 1], [0], [1]):
        fit = LogisticRegression(C=100.0).fit(features[::2][:, columns], truth[::2])
        auroc = float(roc_auc_score(truth[1::2], fit.predict_proba(features[1::2][:, columns])[:, 1]))
        if (fit.coef_ >= 0).all() and auroc > best_auroc:
            weights = dict(zip(columns, fit.coef_[0].tolist(), strict=True))
            best, best_auroc = _calibration_of(weights, float(fit.intercept_[0])), auroc
    alone = {
        name: round(float(roc_auc_score(truth, features[:, at])), 3) for at, name in enumerate(("score", "margin"))
    }
    return best | {"auroc_of_score": alone["score"], "auroc_of_margin": alone["margin"], "answers": len(answers)}


def _calibration_of(weights: dict[int, float], bias: float) -> dict[str, object]:
    """The numbers of `core.grounding.asap_engine.Calibration`."""
    return {
        "score_weight": round(weights.get(0, 0.0), 3),
        "margin_weight": round(weights.get(1, 0.0), 3),
        "bias": round(bias, 3),
    }


def measure(config: MeasureConfig) -> dict[str, object]:
    """All figures of one model folder."""
    engine = open_folder(config.model, "cpu")
    result: dict[str, object] = {"real_nodule": measure_real_nodule(engine, config)}
    if config.patients_dir is not None:
        patients = read_patients(config.patients_dir, config.without)
        figures = []
        for number in range(config.count):
            rng = np.random.default_rng([config.seed, number])
            study = make_study(patients[number % len(patients)], config.study, rng)
            figures.append(measure_study(engine, study, rng))
        result["patients"] = [patient.name for patient in patients]
        result["anywhere"] = summarise(point for figure in figures for point in figure.free)
        result["in_named_structures"] = summarise(point for figure in figures for point in figure.constrained)
        result["presence"] = calibrate([answer for figure in figures for answer in figure.presence])
    return result


def main(config: MeasureConfig) -> None:
    """Print the figures as JSON."""
    torch.set_num_threads(1)
    try:
        sys.stdout.write(json.dumps(measure(config), indent=1) + "\n")
    except AsapError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main(tyro.cli(MeasureConfig))
