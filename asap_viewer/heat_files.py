"""Heat maps as files, and what is told of each sentence: the same from the page and from the command line."""

from typing import Any

from core.grounding.calibration import ErrorRate
from core.grounding.constraint import Constraint
from core.grounding.engine import GroundingEngine
from core.grounding.heatmap import SentenceGrounding
from core.grounding.presence import Calibrated
from core.volume import Volume

Voxel = tuple[int, int, int]


def heat_name(index: int) -> str:
    """File of the heat of a sentence, kept inside the organ that it names."""
    return f"sentence_{index:02d}.nii.gz"


def raw_heat_name(index: int) -> str:
    """File of its raw heat, kept to nothing."""
    return f"raw_{heat_name(index)}"


def describe_sentence(one: SentenceGrounding, volume: Volume, peak: Voxel, raw_peak: Voxel) -> dict[str, Any]:
    """One sentence of grounding.json; `peak` and `raw_peak` are the hottest voxels (i, j, k) of its two files."""
    return {
        "index": one.index,
        "text": one.text,
        "file": heat_name(one.index),
        "peak_ras_mm": _place(volume, peak),
        "peak_voxel": list(peak),
        "score": round(one.score, 6),
        "negated_score": round(one.negated_score, 6),
        "margin": round(one.margin, 6),
        "probability": round(one.probability, 6),
        "support": one.support,
        "why": one.judgement.words if one.judgement else "",
        "error_rate": _describe_rate(one.judgement.error) if one.judgement else None,
        "organs": one.organs,
        "constraint": _describe_constraint(one.constraint),
        "lit_whole": one.is_lit_whole,
        "raw": {
            "file": raw_heat_name(one.index),
            "peak_ras_mm": _place(volume, raw_peak),
            "peak_voxel": list(raw_peak),
        },
    }


def describe_calibration(engine: GroundingEngine) -> dict[str, Any] | None:
    """How an engine's chances were measured; None where they were not."""
    calibration = engine.calibration if isinstance(engine, Calibrated) else None
    if calibration is None or not calibration.is_measured:
        return None
    return {
        "measured_on": calibration.measured_on,
        "no_support_below": calibration.no_support_below,
        "supported_above": calibration.supported_above,
        "missed": _describe_rate(calibration.missed),
        "invented": _describe_rate(calibration.invented),
        "covers": [family.finding for family in calibration.families],
    }


def _describe_rate(rate: ErrorRate | None) -> dict[str, Any] | None:
    if rate is None:
        return None
    return {
        "rate": round(rate.rate, 4),
        "wrong": rate.wrong,
        "asked": rate.asked,
        "interval95": [rate.low, rate.high],
        "limit": rate.limit,
    }


def _describe_constraint(constraint: Constraint) -> dict[str, Any]:
    return {
        "kind": constraint.kind,
        "words": constraint.words,
        "kept_inside": list(constraint.kept),
        "no_mask_of": list(constraint.missing),
        "side": constraint.side,
    }


def _place(volume: Volume, voxel: Voxel) -> list[float]:
    return [round(float(value), 2) for value in volume.source.to_mm(voxel)]
