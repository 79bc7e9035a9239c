"""TotalSegmentator, where it is installed and its weights are present; nothing is downloaded.

Wasserthal et al., "TotalSegmentator: Robust Segmentation of 104 Anatomic Structures in CT Images" (2023).
It runs in a process of its own: Cancel ends it at once, and its memory goes with it.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib

from core.anatomy.availability import Availability
from core.anatomy.masks import OrganMasks
from core.anatomy.provided import load_masks
from core.errors import ConfigError, EngineError
from core.progress import Progress, silent
from core.structures import STRUCTURES
from core.volume import Volume

ENGINE = "totalsegmentator"
Quality = Literal["auto", "full", "fast", "fastest"]
DATASETS: dict[str, tuple[int, ...]] = {"full": (291, 292, 293, 294, 295), "fast": (297,), "fastest": (298,)}
"""Quality -> the nnU-Net data sets whose weights it needs: 1.5, 3 and 6 mm voxels."""
_POLL_S = 0.2
_REPOSITORY = Path(__file__).resolve().parents[2]
_TYPICAL_S = {"full": 900.0, "fast": 120.0, "fastest": 40.0}
"""Usual time on two cores, for the progress bar only."""
_INSTALL = "install it with `pip install -r requirements-seg.txt`"
_WEIGHTS = "get them with its own `totalseg_download_weights`, or point TOTALSEG_WEIGHTS_PATH to them"


@dataclass(frozen=True)
class TotalSegmentatorConfig:
    """Where its weights are and how it runs."""

    weights: Path | None = None
    """Folder that holds the Dataset... folders (TotalSegmentator's TOTALSEG_WEIGHTS_PATH)."""
    home: Path | None = None
    """TotalSegmentator's folder (TOTALSEG_HOME_DIR); its nnunet/results is used when `weights` is not given."""
    quality: Quality = "auto"
    """auto takes the best for the device whose weights are present."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the network runs."""

    def __post_init__(self) -> None:
        if self.quality not in ("auto", *DATASETS):
            raise ConfigError(f"TotalSegmentator quality is {self.quality!r}; expected auto, full, fast or fastest.")
        if self.device not in ("cpu", "cuda"):
            raise ConfigError(f"TotalSegmentator device is {self.device!r}; expected cpu or cuda.")

    @property
    def results(self) -> Path:
        """The folder that is searched for weights."""
        home = self.home or Path.home() / ".totalsegmentator"
        return self.weights or home / "nnunet" / "results"


class TotalSegmentatorSegmenter:
    """Runs TotalSegmentator's task "total"."""

    name = ENGINE

    def __init__(self, config: TotalSegmentatorConfig | None = None) -> None:
        self.config = config or TotalSegmentatorConfig()

    def availability(self) -> Availability:
        """Look for the package and the weights without importing anything heavy."""
        absent = [name for name in ("totalsegmentator", "nnunetv2") if importlib.util.find_spec(name) is None]
        if absent:
            return Availability(False, f"{' and '.join(absent)} not installed: {_INSTALL}")
        if self._quality() is None:
            wanted = "total" if self.config.quality == "auto" else f"total, {self.config.quality}"
            return Availability(False, f"no weights of task {wanted} in {self.config.results}: {_WEIGHTS}")
        return Availability(True, "")

    def segment(self, volume: Volume, progress: Progress = silent) -> OrganMasks:
        """Organ masks on `volume`'s grid; a raise of `progress` ends the run."""
        can_run, reason = self.availability()
        quality = self._quality()
        if not can_run or quality is None:
            raise EngineError(f"TotalSegmentator cannot run here: {reason}.")
        with tempfile.TemporaryDirectory(prefix="totalseg-") as name:
            folder = Path(name)
            progress(0.0, "Handing the scan to TotalSegmentator")
            image = nib.nifti1.Nifti1Image(volume.to_source(volume.hu), volume.source.affine)
            nib.save(image, folder / "ct.nii")
            self._run(folder, quality, progress)
            masks = load_masks(folder / "organs.nii.gz", volume, _names(), ENGINE)
        progress(1.0, "Organ masks ready")
        return OrganMasks(masks.labels, ENGINE, notes=(f"TotalSegmentator, quality {quality}.",))

    def _quality(self) -> str | None:
        """The quality that will run, or None when no weights fit."""
        wanted = [self.config.quality]
        if self.config.quality == "auto":
            wanted = ["full", "fast", "fastest"] if self.config.device == "cuda" else ["fast", "full", "fastest"]
        return next((quality for quality in wanted if self._has_weights(quality)), None)

    def _has_weights(self, quality: str) -> bool:
        return all(
            any(self.config.results.glob(f"Dataset{number}_*/*/fold_*/checkpoint_final.pth"))
            for number in DATASETS[quality]
        )

    def _run(self, folder: Path, quality: str, progress: Progress) -> None:
        """Start the worker on `folder`/ct.nii and wait for `folder`/organs.nii.gz."""
        task = {"weights": str(self.config.results.resolve()), "quality": quality, "device": self.config.device}
        (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
        command = [sys.executable, "-m", "core.anatomy.totalsegmentator_worker", str(folder)]
        log = folder / "log.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=_REPOSITORY, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
            )
            try:
                _wait(process, _TYPICAL_S[quality], progress)
            finally:
                _end(process)
        if process.returncode != 0 or not (folder / "organs.nii.gz").is_file():
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
            raise EngineError(
                f"TotalSegmentator stopped with code {process.returncode}: {lines[-1]}. "
                "Try another quality, or the embedded engine."
            )


def _wait(process: subprocess.Popen[bytes], typical_s: float, progress: Progress) -> None:
    """Report until the process ends; it tells no progress of its own, so the bar follows the usual time."""
    start = time.monotonic()
    while process.poll() is None:
        passed_s = time.monotonic() - start
        progress(0.95 * passed_s / (passed_s + typical_s / 2), f"TotalSegmentator is working ({passed_s:.0f} s)")
        time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and the workers it started, if it still runs."""
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _names() -> dict[int, str]:
    """TotalSegmentator's numbers: the first 117 of our own table."""
    return {structure.number: structure.name for structure in STRUCTURES if structure.number <= 117}
