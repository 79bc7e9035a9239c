"""What a random crop costs by chunk shape: `python -m benchmarks.crop_reads`; why stores have chunks of 64x64x32.

Two volumes at 1.5x1.5x3.0 mm: the sample (a narrow field of view: a 224x224x112 crop is nearly all of it) and the
sample mirrored to 333x333x130, as wide as a 500 mm field of view. Crops are drawn as in training. Bytes and reads are
counted at the files; milliseconds are those of an idle page cache and of this machine.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from zarr.storage import LocalStore

from benchmarks.large_ct import SAMPLE
from benchmarks.machine import describe_machine
from core.preprocess import resample_smoothly
from core.reading.study import open_study
from core.volume import Grid
from trainers.crops import draw_crop
from trainers.store.layout import StoreSettings, make_store, study_folder
from trainers.store.reading import StudyStore
from trainers.store.writing import PreparedStudy, write_study

CHUNKS = ((32, 32, 16), (48, 48, 24), (64, 64, 32), (96, 96, 48), (112, 112, 56), (224, 224, 112))
CROPS = {"asap": (224, 224, 112), "small": (96, 96, 48)}
DRAWS = 20
SMALLEST = 0.8
WIDE = (333, 333, 130)


class Counter:
    """Reads and bytes of every store on disk from its making on."""

    def __init__(self) -> None:
        self.reads = self.bytes = 0
        get = LocalStore.get

        async def counted(store: Any, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
            found = await get(store, key, prototype, byte_range)
            if found is not None and "c/" in key:
                self.reads, self.bytes = self.reads + 1, self.bytes + len(found)
            return found

        LocalStore.get = counted  # type: ignore[method-assign]


def volumes() -> dict[str, np.ndarray]:
    """Name -> (X, Y, Z) int16 HU at the training spacing."""
    volume = open_study(SAMPLE / "ct.nii.gz").volume
    narrow, _ = resample_smoothly(volume.hu, volume.grid)
    wide = np.pad(narrow, [(0, max(0, want - n)) for n, want in zip(narrow.shape, WIDE, strict=True)], mode="symmetric")
    return {"narrow": narrow, "wide": wide[: WIDE[0], : WIDE[1], : WIDE[2]]}


def measure(root: Path, hu: np.ndarray, chunk: tuple[int, int, int], counter: Counter) -> dict[str, Any]:
    """Size on disk, and per crop: reads, megabytes, milliseconds."""
    settings = StoreSettings(chunk=chunk)
    make_store(root, settings)
    write_study(root, PreparedStudy("ct", hu, Grid(hu.shape, np.eye(4))), settings)
    store, told = StudyStore(root), {"chunk": list(chunk)}
    told["file_mb"] = round((study_folder(root, "ct") / "hu/c/0/0/0").stat().st_size / 1e6, 2)
    for name, crop in CROPS.items():
        rng, seconds, counter.reads, counter.bytes = np.random.default_rng(0), [], 0, 0
        for _ in range(DRAWS):
            start, size = draw_crop(hu.shape, crop, SMALLEST, rng)
            began = time.perf_counter()
            store.read_box("ct", start, size)
            seconds.append(time.perf_counter() - began)
        told[name] = {
            "reads": round(counter.reads / DRAWS, 1),
            "mb": round(counter.bytes / DRAWS / 1e6, 2),
            "ms_median": round(1e3 * float(np.median(seconds)), 1),
            "ms_least": round(1e3 * min(seconds), 1),
        }
    return told


def main() -> None:
    """Measure every chunk shape on both volumes and print one JSON document."""
    counter, rows = Counter(), {}
    with tempfile.TemporaryDirectory() as work:
        for name, hu in volumes().items():
            roots = {chunk: Path(work) / f"{name}-{chunk[0]}" for chunk in CHUNKS}
            rows[name] = {
                "shape": list(hu.shape),
                "chunks": [measure(root, hu, chunk, counter) for chunk, root in roots.items()],
            }
    print(json.dumps({"name": "random crops of a store by chunk shape", **rows, "machine": describe_machine()}))


if __name__ == "__main__":
    main()
