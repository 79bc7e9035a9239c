"""Zero-shot probabilities of the 18 CT-RATE findings: each is a sentence held against its negation."""

from typing import NamedTuple

from core.findings import CT_RATE_LABELS
from core.grounding.engine import GroundingEngine, PatchFeatures
from core.grounding.readout import Canvas, ReadoutConfig, SentenceQuery, ground_sentences
from core.progress import Progress, silent

USUAL_ORGANS: dict[str, tuple[str, ...]] = {
    "Arterial wall calcification": ("aorta",),
    "Cardiomegaly": ("heart",),
    "Pericardial effusion": ("heart",),
    "Coronary artery wall calcification": ("heart",),
    "Hiatal hernia": ("esophagus", "stomach"),
    "Emphysema": ("lung",),
    "Atelectasis": ("lung",),
    "Lung nodule": ("lung",),
    "Lung opacity": ("lung",),
    "Pulmonary fibrotic sequela": ("lung",),
    "Pleural effusion": ("pleura", "lung"),
    "Mosaic attenuation pattern": ("lung",),
    "Peribronchial thickening": ("lung", "airway"),
    "Consolidation": ("lung",),
    "Bronchiectasis": ("lung", "airway"),
    "Interlobular septal thickening": ("lung",),
}
"""Where each finding can be; the two that are missing can be anywhere."""


class FindingScore(NamedTuple):
    """One finding of one CT."""

    name: str
    probability: float  # in [0, 1], as far as the engine can tell
    peak_ras_mm: tuple[float, float, float]
    margin: float  # score above its negation


def score_findings(
    engine: GroundingEngine, features: PatchFeatures, canvas: Canvas, progress: Progress = silent
) -> tuple[FindingScore, ...]:
    """The 18 findings in the order of the CT-RATE label files, without any report."""
    queries = [
        SentenceQuery(
            index,
            f"There is {label.lower()}.",
            f"There is no {label.lower()}.",
            USUAL_ORGANS.get(label, ()),
        )
        for index, label in enumerate(CT_RATE_LABELS, start=1)
    ]
    groundings = ground_sentences(engine, features, canvas, queries, ReadoutConfig(contrast=0.0), progress)
    return tuple(
        FindingScore(label, one.probability, one.peak_ras_mm, one.margin)
        for label, one in zip(CT_RATE_LABELS, groundings, strict=True)
    )
