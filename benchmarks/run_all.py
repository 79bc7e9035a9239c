"""Every figure of the project on this machine: `python -m benchmarks.run_all > figures.json`.

Each benchmark runs in a process of its own, one after the other. One that fails is listed with the end of its log.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "assets/sample/lidc-idri-0001"


def plan(work: Path) -> dict[str, list[str]]:
    """Benchmark -> its arguments; what has no data here is left out."""
    full = ROOT.parent / "shared/data/ct/LIDC-IDRI-0001/ct_full.nii.gz"
    found: dict[str, list[str]] = {
        "page": [],
        "viewer_frames": [],
        "segment_embedded": [str(full if full.exists() else SAMPLE / "ct.nii.gz")],
        "heat_maps": [],
        "text_search": ["--reports", "100000", "--index", str(work / "index")],
        "memory": [],
        "prepare": [],
        "crop_reads": [],
        "encoder": [],
        "training_step": [],
    }
    reports = ROOT.parent / "shared/data/reports/chest_ct_reports_18_labels.csv"
    if reports.exists():
        found["labels18"] = [str(reports)]
    return {name: arguments for name, arguments in found.items() if (ROOT / f"benchmarks/{name}.py").exists()}


def run_one(name: str, arguments: list[str]) -> dict[str, Any]:
    """The JSON document of one benchmark, or why there is none."""
    sys.stderr.write(f"{name} …\n")
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr[-2000:]}
    return json.loads(done.stdout)


def main() -> None:
    """Run them and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="names of the benchmarks to run")
    only = parser.parse_args().only
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        chosen = {name: given for name, given in plan(Path(work)).items() if not only or name in only}
        results = {name: run_one(name, given) for name, given in chosen.items()}
    seconds = round(time.perf_counter() - began, 1)
    print(json.dumps({"machine": describe_machine(), "seconds": seconds, "benchmarks": results}, indent=1))


if __name__ == "__main__":
    main()
