"""`findings CT`: the 18 CT-RATE findings, or the labels of a fine-tuned classifier, without any report."""

import argparse
from typing import Any

from asap_viewer.commands.inputs import add_ct, add_engine, add_masks, find_masks, open_ct
from asap_viewer.engines import is_classifier, open_classifier, open_grounder
from asap_viewer.settings import Settings
from core.progress import Progress, part_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `findings`."""
    add_ct(parser)
    add_engine(parser)
    add_masks(parser)


def run(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Probability and place of each finding, in the order of the CT-RATE label files or of the classifier."""
    if is_classifier(arguments.engine, settings):
        return _classify(arguments, settings, progress)
    from asap_viewer.workflow import find_findings
    from core.grounding.heatmap import support_of

    engine = open_grounder(arguments.engine, settings, arguments.device)
    case = open_ct(arguments.ct, settings, part_of(progress, 0.0, 0.2), arguments.hu_fix)
    find_masks(case, arguments.masks, settings, part_of(progress, 0.2, 0.4))
    scores = find_findings(case, engine, part_of(progress, 0.4, 1.0))
    return {
        "engine": engine.name,
        "warnings": list(case.study.receipt.warnings),
        "findings": [
            {
                "name": one.name,
                "probability": round(one.probability, 6),
                "support": support_of(one.probability),
                "peak_ras_mm": [round(value, 2) for value in one.peak_ras_mm],
                "margin": round(one.margin, 6),
            }
            for one in scores
        ],
    }


def _classify(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    """The labels of a fine-tuned classifier; it needs no masks."""
    from core.grounding.heatmap import support_of
    from core.tasks.header import describe

    classifier = open_classifier(arguments.engine, settings, arguments.device)
    study = open_ct(arguments.ct, settings, part_of(progress, 0.0, 0.4), arguments.hu_fix).study
    scores = classifier.score(study.volume, part_of(progress, 0.4, 1.0))
    return {
        "engine": classifier.name,
        "what": describe(classifier.about),
        "warnings": list(study.receipt.warnings),
        "findings": [
            {
                "name": one.name,
                "probability": round(one.probability, 6),
                "support": support_of(one.probability),
                "peak_ras_mm": None if one.peak_ras_mm is None else [round(value, 2) for value in one.peak_ras_mm],
                "peak_logits": round(one.peak_logits, 6),
            }
            for one in scores
        ],
    }
