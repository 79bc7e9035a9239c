"""The process in which TotalSegmentator runs: `python -m core.anatomy.totalsegmentator_worker FOLDER`.

FOLDER holds ct.nii and task.json (weights, quality, device); organs.nii.gz is written there. Workers that nnU-Net
spawns import this module again, so the torchvision repair stands at its top.
"""

import json
import os
import sys
from pathlib import Path

from core.anatomy.torchvision_shim import make_torchvision_importable

make_torchvision_importable()


def main(folder: Path) -> None:
    """Segment `folder`/ct.nii as task.json says."""
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    weights = Path(task["weights"])
    settle_home(folder / "home", weights)
    from totalsegmentator import python_api

    python_api.download_pretrained_weights = lambda number: require_weights(weights, number)
    device = "gpu" if task["device"] == "cuda" else "cpu"
    quality = {"fast": task["quality"] == "fast", "fastest": task["quality"] == "fastest"}
    python_api.totalsegmentator(
        folder / "ct.nii", folder / "organs.nii.gz", ml=True, task="total", device=device, quiet=True, **quality
    )


def settle_home(home: Path, weights: Path) -> None:
    """Give TotalSegmentator a home of its own that says no to usage statistics; a person's own stays untouched."""
    home.mkdir()
    config = {"totalseg_id": "totalseg_local", "send_usage_stats": False, "prediction_counter": 0}
    (home / "config.json").write_text(json.dumps(config), encoding="utf-8")
    os.environ["TOTALSEG_HOME_DIR"] = str(home)
    os.environ["TOTALSEG_WEIGHTS_PATH"] = str(weights)


def require_weights(weights: Path, number: int) -> None:
    """Stand in for TotalSegmentator's downloader: the weights are there, or the run ends."""
    if not any(weights.glob(f"Dataset{number}_*")):
        sys.exit(f"weights of data set {number} are missing in {weights}; nothing is downloaded")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
