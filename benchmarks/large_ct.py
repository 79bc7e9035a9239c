"""A large CT made from the sample: `python -m benchmarks.large_ct FILE.nii.gz [--slices 300]` writes 512x512xN.

The sample is interpolated to the new grid and noise is added, so that it packs no better than a real scan does
(about 95 MB for 300 slices).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from core.export.nifti import write_nifti
from core.reading.study import open_study
from core.resample import resample, spaced_grid

SAMPLE = Path(__file__).resolve().parents[1] / "assets/sample/lidc-idri-0001"
NOISE_HU = 12.0
SEED = 0


def write_large_ct(path: Path, slices: int = 300) -> None:
    """512x512xN int16 in LPS like a scanner's export; the field of view is the sample's."""
    volume = open_study(SAMPLE / "ct.nii.gz").volume
    edges_mm = np.array(volume.grid.spacing_mm) * np.array(volume.shape)
    grid = spaced_grid(volume.source, edges_mm / [512, 512, slices])
    rng = np.random.default_rng(SEED)
    hu = resample(volume.to_source(volume.hu), volume.source, grid)
    for at in range(hu.shape[2]):
        hu[:, :, at] += rng.normal(0.0, NOISE_HU, hu.shape[:2])
    write_nifti(path, np.clip(np.rint(hu), -1024, 3071).astype(np.int16), grid)


def main() -> None:
    """Write one and print its size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--slices", type=int, default=300)
    given = parser.parse_args()
    began = time.perf_counter()
    write_large_ct(given.path, given.slices)
    seconds = round(time.perf_counter() - began, 1)
    print(json.dumps({"file": given.path.name, "mb": round(given.path.stat().st_size / 1e6, 1), "seconds": seconds}))


if __name__ == "__main__":
    main()
