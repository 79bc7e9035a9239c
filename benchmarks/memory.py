"""Peak memory of the server's process for one 512x512x600 case with masks and heat. Prints JSON.

    python -m benchmarks.memory [--large FILE.nii.gz] [--engine NAME]

The steps are those of the page, by the same functions and with the page built, without a browser: read the file, make
what the viewer fetches, find organs, ground a report, make the layers of masks and heat. The file is made in another
process.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from asap_viewer.layers import heat_layer, label_layer
from asap_viewer.page import build_page
from asap_viewer.served import VolumeServer
from asap_viewer.services import Services
from asap_viewer.settings import read_settings
from asap_viewer.workflow import find_organs, ground_report, open_case, read_report
from benchmarks.heat_maps import SENTENCES, report_of
from benchmarks.machine import figure


def peak_gb() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(large: Path, engine_name: str) -> dict[str, Any]:
    """Peak after every step."""
    services = Services(read_settings(), VolumeServer())
    build_page(services)
    peaks, began = {"page": peak_gb()}, time.perf_counter()
    case = open_case(large, None, services.settings.limits, "none")
    peaks["open"] = peak_gb()
    layers = services.layers(case.volume)
    peaks["slices"] = peak_gb()
    masks = find_organs(case, services.segmenter("embedded"))
    labels = label_layer(masks, case.volume)
    peaks["masks"] = peak_gb()
    read_report(case, report_of(SENTENCES))
    found = ground_report(case, services.engine(engine_name))
    heat = heat_layer(found[0].map.heat, found[0].map.grid, case.volume)
    peaks["heat"] = peak_gb()
    kept = (layers, labels, heat)
    return figure(
        "peak memory of one large case with masks and heat",
        peaks["heat"],
        4.0,
        "GB",
        shape=case.volume.shape,
        layers=len(kept),
        peaks_gb={step: round(value, 2) for step, value in peaks.items()},
        seconds=round(time.perf_counter() - began, 1),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=Path, help="a file of benchmarks.large_ct; made when absent")
    parser.add_argument("--engine", default="bundled")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large = given.large or Path(folder) / "large.nii.gz"
        if not large.exists():
            make = [sys.executable, "-m", "benchmarks.large_ct", str(large), "--slices", "600"]
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        print(json.dumps({"figures": [measure(large, given.engine)]}, indent=1))


if __name__ == "__main__":
    main()
