"""`findings CT`: the 18 CT-RATE findings, or the labels of a fine-tuned classifier, without any report."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asap_viewer.commands.inputs import add_ct, add_engine, add_masks, find_masks, open_ct
from asap_viewer.commands.output import folder_for_results, require_output
from asap_viewer.engines import is_classifier, open_classifier, open_grounder
from asap_viewer.settings import Settings
from core.errors import EngineError
from core.progress import Progress, part_of

if TYPE_CHECKING:
    from asap_viewer.sessions import Case
    from core.grounding.normality import NormalityJudge


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `findings`."""
    add_ct(parser)
    add_engine(parser)
    add_masks(parser)
    parser.add_argument(
        "--normality",
        type=Path,
        metavar="MAP.nii.gz",
        help="also write how far each place of the organs is from normal (engine visd and runs of it)",
    )


def run(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Probability and place of each finding, in the order of the CT-RATE label files or of the classifier."""
    if arguments.normality is None:
        return _find(arguments, settings, progress)
    with folder_for_results(arguments.normality.absolute().parent):
        require_output(arguments.normality, (".nii.gz", ".nii"), (arguments.ct,))
        return _find(arguments, settings, progress)


def _find(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    if is_classifier(arguments.engine, settings):
        if arguments.normality is not None:
            raise EngineError(f"{arguments.engine} is a classifier and knows no normal organs. Leave out --normality.")
        return _classify(arguments, settings, progress)
    from asap_viewer.workflow import find_findings
    from core.grounding.normality import require_normality

    engine = open_grounder(arguments.engine, settings, arguments.device)
    judge = require_normality(engine) if arguments.normality is not None else None
    case = open_ct(arguments.ct, settings, part_of(progress, 0.0, 0.2), arguments.hu_fix)
    find_masks(case, arguments.masks, settings, part_of(progress, 0.2, 0.4))
    scores = find_findings(case, engine, part_of(progress, 0.4, 0.8))
    more = {}
    if judge is not None:
        more = {"normality": _write_normality(arguments.normality, case, judge, part_of(progress, 0.8, 1.0))}
    return more | {
        "engine": engine.name,
        "warnings": list(case.study.receipt.warnings),
        "findings": [
            {
                "name": one.name,
                "probability": round(one.probability, 6),
                "support": one.support,
                "why": one.words,
                "peak_ras_mm": [round(value, 2) for value in one.peak_ras_mm],
                "margin": round(one.margin, 6),
            }
            for one in scores
        ],
    }


def _write_normality(path: Path, case: "Case", judge: "NormalityJudge", progress: Progress) -> dict[str, Any]:
    """The map as a file, and each organ in numbers."""
    from core.export.nifti import write_on_source
    from core.grounding.normality import draw_normality, summarise_normality

    found = judge.measure_normality(case.volume, case.masks, progress)
    assert case.masks is not None  # or it would have been refused
    write_on_source(path, draw_normality(found, case.volume, case.masks), case.volume, f"normality by {found.engine}")
    organs = {
        name: {
            "mean": round(one.mean, 6),
            "highest": round(one.highest, 6),
            "peak_ras_mm": [round(value, 2) for value in one.peak_ras_mm],
        }
        for name, one in summarise_normality(found).items()
    }
    return {"file": str(path), "organs": organs}


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
