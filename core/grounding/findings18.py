"""Zero-shot probabilities of the 18 CT-RATE findings: each is a sentence held against its negation."""

from collections.abc import Mapping
from typing import NamedTuple

from core.anatomy.masks import OrganMasks
from core.findings import CT_RATE_LABELS
from core.grounding.calibration import Support
from core.grounding.engine import GroundingEngine, OrganJudge, OrganPrompt, PatchFeatures
from core.grounding.heatmap import support_of
from core.grounding.presence import Asked
from core.grounding.readout import Canvas, ReadoutConfig, SentenceQuery, ground_sentences
from core.progress import Progress, silent
from core.volume import Volume

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
    "Pleural effusion": ("pleura",),
    "Mosaic attenuation pattern": ("lung",),
    "Peribronchial thickening": ("lung", "airway"),
    "Consolidation": ("lung",),
    "Bronchiectasis": ("lung", "airway"),
    "Interlobular septal thickening": ("lung",),
}
"""Where each finding can be; the two that are missing can be anywhere."""


PUBLISHED_WORDS = "By the engine's published protocol; how often it is wrong was not measured here."


class FindingScore(NamedTuple):
    """One finding of one CT."""

    name: str
    probability: float  # in [0, 1], as far as the engine can tell
    peak_ras_mm: tuple[float, float, float]
    margin: float  # score above its negation
    support: Support  # what may be concluded
    words: str  # why, for a reader


def judge_organs(
    engine: GroundingEngine, volume: Volume, masks: OrganMasks | None, progress: Progress = silent
) -> Mapping[str, float] | None:
    """Probabilities by the engine's own published protocol, where it has one; None for other engines."""
    return engine.judge_findings(volume, masks, progress) if isinstance(engine, OrganJudge) else None


def score_findings(
    engine: GroundingEngine,
    features: PatchFeatures,
    canvas: Canvas,
    judged: Mapping[str, float] | None = None,
    progress: Progress = silent,
) -> tuple[FindingScore, ...]:
    """The 18 findings in the order of the CT-RATE label files, without any report.

    judged: what `judge_organs` found; a finding that it leaves out, for its organ is not in the CT or the protocol does
    not ask for it, has probability 0.5, "cannot tell".
    """
    asked = engine.prompts() if isinstance(engine, OrganJudge) else {}
    queries = [_ask(index, label, asked.get(label)) for index, label in enumerate(CT_RATE_LABELS, start=1)]
    groundings = ground_sentences(engine, features, canvas, queries, ReadoutConfig(contrast=0.0), progress)
    return tuple(
        FindingScore(
            label,
            one.probability if judged is None else judged.get(label, 0.5),
            one.peak_ras_mm,
            one.margin,
            one.support if judged is None else support_of(judged.get(label, 0.5)),
            one.judgement.words if judged is None and one.judgement else PUBLISHED_WORDS,
        )
        for label, one in zip(CT_RATE_LABELS, groundings, strict=True)
    )


def _ask(index: int, label: str, prompt: OrganPrompt | None) -> SentenceQuery:
    """A finding as a sentence: the engine's own prompt where it has one."""
    asked = Asked(label, False, "")
    if prompt is not None:
        return SentenceQuery(index, prompt.positive, prompt.negative, (prompt.organ,), asked=asked)
    organs = USUAL_ORGANS.get(label, ())
    return SentenceQuery(index, f"There is {label.lower()}.", f"There is no {label.lower()}.", organs, asked=asked)
