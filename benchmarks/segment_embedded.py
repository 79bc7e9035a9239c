"""Seconds, memory and overlap of the embedded organ masks; prints one JSON document.

python -m benchmarks.segment_embedded [--weights FILE] CT [CT ...] [--truth LABELS ...]

Each --truth is a label map in TotalSegmentator's numbers on the grid of the CT in the same place; "-" leaves one out.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from core.anatomy.embedded import EmbeddedSegmenter
from core.anatomy.masks import OrganMasks
from core.anatomy.provided import load_masks
from core.volume import Volume

COMPARED = (
    *("lung_left", "lung_right", "trachea", "heart", "aorta", "esophagus", "spinal_cord", "spine", "ribs", "sternum"),
    *("liver", "spleen", "stomach"),
)


def measure(segmenter: EmbeddedSegmenter, path: Path, truth: str) -> dict[str, object]:
    """Segment one CT and compare it with `truth` unless that is "-"."""
    image = nib.nifti1.load(path)
    hu = np.clip(np.asanyarray(image.dataobj), -1024, 3071).astype(np.int16)
    volume = Volume.from_source(hu, image.affine)
    wall, cpu = time.perf_counter(), time.process_time()
    masks = segmenter.segment(volume)
    figures: dict[str, object] = {
        "ct": path.name,
        "shape": volume.shape,
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "missing": masks.missing,
    }
    if truth != "-":
        figures["dice"] = overlaps(masks, load_masks(Path(truth), volume))
    return figures


def overlaps(found: OrganMasks, truth: OrganMasks) -> dict[str, float]:
    """Dice in [0, 1] of every structure that the truth holds."""
    dice = {}
    for name in COMPARED:
        wanted = truth.mask(name)
        if wanted.any():
            mask = found.mask(name)
            dice[name] = round(2.0 * float((mask & wanted).sum()) / float(mask.sum() + wanted.sum()), 3)
    return dice


def main() -> None:
    """Measure the CTs named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", nargs="+", type=Path)
    parser.add_argument("--weights", type=Path, default=Path("assets/models/organs/organ_net.safetensors"))
    parser.add_argument("--truth", nargs="*", default=[])
    given = parser.parse_args()
    segmenter = EmbeddedSegmenter(given.weights)
    truths = [*given.truth, *["-"] * (len(given.ct) - len(given.truth))]
    figures = [measure(segmenter, ct, truth) for ct, truth in zip(given.ct, truths, strict=True)]
    print(json.dumps({"embedded": figures}, indent=1))


if __name__ == "__main__":
    main()
