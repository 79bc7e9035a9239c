"""`segment CT --out MASK.nii.gz`: organ masks on the CT's own grid."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asap_viewer.commands.inputs import add_ct, add_device, open_ct
from asap_viewer.commands.output import folder_for_results, require_output, unfinished
from asap_viewer.engines import open_segmenter
from asap_viewer.settings import Settings
from core.errors import StudyError
from core.progress import Progress, part_of

if TYPE_CHECKING:
    from core.anatomy.masks import OrganMasks
    from core.anatomy.measure import OrganMeasure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `segment`."""
    add_ct(parser)
    parser.add_argument("--out", metavar="MASK.nii.gz", type=Path, required=True, help="label map to write")
    parser.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help="auto, embedded, totalsegmentator, or a fine-tuned segmenter of the models folder (default auto)",
    )
    parser.add_argument("--dicom-seg", metavar="SEG.dcm", type=Path, help="also write a DICOM SEG (DICOM input only)")
    add_device(parser)


def run(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Find organs, write the label map, return who made it and each organ's volume and density."""
    with folder_for_results(arguments.out.absolute().parent):
        return _segment(arguments, settings, progress)


def _segment(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    from core.anatomy.measure import measure_organs, orientation_check
    from core.export.nifti import write_on_source

    require_output(arguments.out, (".nii.gz", ".nii"), (arguments.ct,))
    if arguments.dicom_seg is not None:
        require_output(arguments.dicom_seg, (".dcm",), (arguments.ct, arguments.out))
    segmenter = open_segmenter(arguments.engine, settings, arguments.device)
    study = open_ct(arguments.ct, settings, part_of(progress, 0.0, 0.2), arguments.hu_fix).study
    _require_dicom(arguments.dicom_seg, study.dicom_headers is not None)
    began = time.perf_counter()
    masks = segmenter.segment(study.volume, part_of(progress, 0.2, 0.95))
    seconds = time.perf_counter() - began
    with unfinished(arguments.dicom_seg) as unready:
        if unready is not None:
            from core.export.dicomseg import write_dicom_seg

            write_dicom_seg(unready, masks.labels, study.volume, study.dicom_headers, masks.engine)
        write_on_source(arguments.out, masks.labels, study.volume, f"organs by {masks.engine}")
    check = orientation_check(masks)
    return {
        "engine": masks.engine,
        **_describe_organs(masks, measure_organs(study.volume, masks)),
        "missing": masks.missing,
        "notes": list(masks.notes),
        "warnings": list(study.receipt.warnings),
        "sides": {"verdict": check.kind, "reason": check.words},
        "seconds": round(seconds, 3),
    }


def _require_dicom(wanted: Path | None, is_dicom: bool) -> None:
    """A DICOM SEG refers to the DICOM images it was made from; refuse before the work is done."""
    if wanted is not None and not is_dicom:
        raise StudyError("The CT is not DICOM, so --dicom-seg has nothing to refer to. Leave it out, or give DICOM.")


def _describe_organs(masks: "OrganMasks", measures: "tuple[OrganMeasure, ...]") -> dict[str, Any]:
    """Structures by their number in the mask, and unions such as lung_left by name."""
    from core.structures import BY_NAME

    numbers = set(masks.numbers())
    labels, unions = {}, {}
    for one in measures:
        sizes = {"volume_ml": round(one.volume_ml, 3), "mean_hu": round(one.mean_hu, 2)}
        if one.name in BY_NAME and BY_NAME[one.name].number in numbers:
            labels[str(BY_NAME[one.name].number)] = {"name": one.name, **sizes}
        else:
            unions[one.name] = sizes
    return {"labels": labels, "unions": unions}
