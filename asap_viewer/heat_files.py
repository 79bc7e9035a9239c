"""Heat maps as files, and what is told of each sentence: the same from the page and from the command line."""

from typing import Any

from core.grounding.constraint import Constraint
from core.grounding.heatmap import SentenceGrounding
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
        "organs": one.organs,
        "constraint": _describe_constraint(one.constraint),
        "lit_whole": one.is_lit_whole,
        "raw": {
            "file": raw_heat_name(one.index),
            "peak_ras_mm": _place(volume, raw_peak),
            "peak_voxel": list(raw_peak),
        },
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
