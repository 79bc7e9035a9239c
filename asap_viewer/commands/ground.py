"""`ground CT --report REPORT.txt --out DIR`: where each sentence of a report is."""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asap_viewer.commands.inputs import (
    add_ct,
    add_engine,
    add_masks,
    find_masks,
    open_ct,
    read_text,
)
from asap_viewer.commands.output import filled_folder, folder_for_results
from asap_viewer.engines import open_grounder
from asap_viewer.settings import Settings
from core.progress import Progress, part_of

if TYPE_CHECKING:
    from asap_viewer.sessions import Case
    from core.grounding.engine import GroundingEngine
    from core.grounding.heatmap import SentenceGrounding

MANIFEST = "grounding.json"
Voxel = tuple[int, int, int]
Peaks = list[tuple[Voxel, Voxel]]
"""The hottest voxels of each sentence's heat and raw heat, in the axes of the CT's file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `ground`."""
    add_ct(parser)
    parser.add_argument("--report", metavar="REPORT.txt", type=Path, required=True, help="the report as plain text")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help=f"folder for the heat maps and {MANIFEST}"
    )
    add_engine(parser)
    add_masks(parser)


def run(arguments: argparse.Namespace, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Write two heat maps per sentence and `grounding.json`; return what stands in it."""
    text = read_text(arguments.report)
    with folder_for_results(arguments.out):
        return _ground(arguments, text, settings, progress)


def _ground(arguments: argparse.Namespace, text: str, settings: Settings, progress: Progress) -> dict[str, Any]:
    from asap_viewer.workflow import ground_report, read_report

    clock = Stopwatch()
    engine = open_grounder(arguments.engine, settings, arguments.device)
    clock.lap("load_engine")
    case = open_ct(arguments.ct, settings, part_of(progress, 0.0, 0.2), arguments.hu_fix)
    read_report(case, text)
    clock.lap("open")
    find_masks(case, arguments.masks, settings, part_of(progress, 0.2, 0.4))
    clock.lap("masks")
    found = ground_report(case, engine, part_of(progress, 0.4, 0.8))
    clock.lap("ground")
    with filled_folder(arguments.out) as folder:
        peaks = _write_heat(folder, case, found, part_of(progress, 0.8, 1.0))
        clock.lap("write")
        answer = _describe(case, found, peaks, engine) | {"seconds": clock.seconds}
        (folder / MANIFEST).write_text(json.dumps(answer, indent=2, ensure_ascii=False), encoding="utf-8")
        _drop_stale(arguments.out, folder)
    return answer


class Stopwatch:
    """Seconds spent per step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """Book the time since the last lap on `step`."""
        now = time.perf_counter()
        self.seconds[step] = round(now - self._last, 3)
        self._last = now


def _write_heat(folder: Path, case: "Case", found: "Sequence[SentenceGrounding]", progress: Progress) -> Peaks:
    """Two float32 NIfTI in [0, 1] per sentence on the grid of the CT's file; returns their hottest voxels."""
    from asap_viewer.heat_files import heat_name, raw_heat_name
    from core.export.nifti import write_nifti
    from core.grounding.readout import heat_on_source, peak_on_source, raw_heat_on_source

    peaks = []
    for at, one in enumerate(found):
        progress(at / len(found), f"Writing sentence {one.index}")
        kept, raw = folder / heat_name(one.index), folder / raw_heat_name(one.index)
        heat = heat_on_source(one, case.volume)
        write_nifti(kept, heat, case.volume.source, f"sentence {one.index}, {one.constraint.words}")
        peak = raw_peak = peak_on_source(heat, one, case.volume)
        if one.map.heat is one.map.anywhere:
            shutil.copyfile(kept, raw)
        else:
            heat = raw_heat_on_source(one, case.volume)
            write_nifti(raw, heat, case.volume.source, f"sentence {one.index}, raw heat")
            raw_peak = peak_on_source(heat, one, case.volume)
        peaks.append((peak, raw_peak))
    return peaks


def _drop_stale(target: Path, fresh: Path) -> None:
    """Delete heat maps of an earlier, longer report, so that the folder holds one run only."""
    for path in [*target.glob("sentence_*.nii.gz"), *target.glob("raw_sentence_*.nii.gz")]:
        if not (fresh / path.name).exists():
            path.unlink()


def _describe(
    case: "Case", found: "Sequence[SentenceGrounding]", peaks: Peaks, engine: "GroundingEngine"
) -> dict[str, Any]:
    from asap_viewer.heat_files import describe_calibration, describe_sentence

    masks = case.masks
    return {
        "engine": engine.name,
        "calibration": describe_calibration(engine),
        "masks": {"engine": masks.engine, "missing": masks.missing, "notes": list(masks.notes)} if masks else None,
        "warnings": list(case.study.receipt.warnings),
        "sentences": [describe_sentence(one, case.volume, *hottest) for one, hottest in zip(found, peaks, strict=True)],
    }
