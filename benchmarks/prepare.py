"""Preparing one CT against the published preprocess.py: `python -m benchmarks.prepare [CT.nii.gz] [--repeats 5]`.

The published way is written here anew from its description: nibabel reads the file (as float64, its default, and as
float32 for comparison), turns it to RAS+, clips, PyTorch interpolates, nibabel packs int16 into .nii.gz. Ours does
everything that trainers.prepare does for a study, into a store. All run in this process in turns, and the outputs are
compared. The fastest of each counts.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.large_ct import SAMPLE
from benchmarks.machine import figure
from trainers.preparation.study import StudyOptions, prepare_into
from trainers.preparation.tree import Job
from trainers.store.layout import StoreSettings, list_studies, make_store
from trainers.store.reading import StudyStore

FULL = Path(__file__).resolve().parents[2] / "shared/data/ct/LIDC-IDRI-0001/ct_full.nii.gz"
TARGET_MM = (1.5, 1.5, 3.0)
LIMIT = 0.5


def prepare_as_published(source: Path, target: Path, dtype: type = np.float64) -> None:
    """One volume the published way."""
    image = nib.as_closest_canonical(nib.load(source))
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    values = np.clip(image.get_fdata(dtype=dtype), -1000, 1000)
    size = [int(n * have / want) for n, have, want in zip(values.shape, spacing, TARGET_MM, strict=True)]
    tensor = torch.from_numpy(values.astype(np.float32, copy=False))[None, None]
    coarse = F.interpolate(tensor, size=size, mode="trilinear", align_corners=False)[0, 0].numpy().astype(np.int16)
    nib.save(nib.Nifti1Image(coarse, np.diag([*TARGET_MM, 1.0])), target)


def prepare_as_here(source: Path, root: Path, settings: StoreSettings) -> None:
    """One volume more in a store."""
    study_id = f"ct{len(list_studies(root))}"
    outcome = prepare_into(root, StudyOptions(settings), Job(study_id, source, source.name))
    if outcome.reason:
        raise SystemExit(outcome.reason)


def fastest(ways: dict[str, Callable[[], None]], repeats: int) -> dict[str, dict[str, float]]:
    """Least wall and processor seconds of each way, taken in turns so that a busy moment meets all of them."""
    best = {name: {"wall_s": np.inf, "cpu_s": np.inf} for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            best[name]["wall_s"] = round(min(best[name]["wall_s"], time.perf_counter() - wall), 4)
            best[name]["cpu_s"] = round(min(best[name]["cpu_s"], time.process_time() - cpu), 4)
    return best


def main() -> None:
    """Time both and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ct", type=Path, nargs="?", default=FULL if FULL.is_file() else SAMPLE / "ct.nii.gz")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, for both")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    released, smooth = StoreSettings(resample="as_released"), StoreSettings()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_store(work / "store", released)
        make_store(work / "smooth", smooth)
        ways = {
            "published": lambda: prepare_as_published(given.ct, work / "out.nii.gz"),
            "published_float32": lambda: prepare_as_published(given.ct, work / "out32.nii.gz", np.float32),
            "here": lambda: prepare_as_here(given.ct, work / "store", released),
            "here_smooth": lambda: prepare_as_here(given.ct, work / "smooth", smooth),
        }
        seconds = fastest(ways, given.repeats)
        published = np.asanyarray(nib.load(work / "out.nii.gz").dataobj).astype(int)
        gap = np.abs(StudyStore(work / "store").read_volume("ct0").hu - published)
    details: dict[str, Any] = {
        "seconds": seconds,
        "largest_difference_hu": int(gap.max()),
        "differing_share": float((gap > 0).mean()),
    }
    for theirs in ("published", "published_float32"):
        ratios = {kind: round(seconds["here"][kind] / seconds[theirs][kind], 3) for kind in ("wall_s", "cpu_s")}
        details[f"ratio_to_{theirs}"] = ratios
    details |= {"ct": given.ct.parent.name, "source_shape": list(nib.load(given.ct).shape), "threads": given.threads}
    ratio = seconds["here"]["wall_s"] / seconds["published"]["wall_s"]
    print(json.dumps(figure("prepare one CT, time against the published way", ratio, LIMIT, "ratio", **details)))


if __name__ == "__main__":
    main()
