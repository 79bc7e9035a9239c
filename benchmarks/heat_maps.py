"""Heat maps of a 20-sentence report on an open CT by the bundled engine. Prints JSON.

    python -m benchmarks.heat_maps [--engine NAME]

The CT is the sample with its masks; the report is generated. The engine is loaded before the clock starts, and the
CT's features are computed within it: that is what a person waits for after pasting a report.
"""

import argparse
import json
import time
from typing import Any

from asap_viewer.served import VolumeServer
from asap_viewer.services import Services
from asap_viewer.settings import read_settings
from asap_viewer.workflow import ground_report, read_report
from benchmarks.machine import figure
from core.report.parse import parse_report
from core.synthesis.reports import generate_reports

SENTENCES = 20


def report_of(count: int) -> str:
    """Generated sentences, `count` of them, no two alike."""
    found: dict[str, None] = {}
    for report in generate_reports(50, seed=0):
        for sentence in parse_report(report.findings).sentences:
            found.setdefault(sentence.text)
    return "\n".join(list(found)[:count])


def measure(engine_name: str) -> dict[str, Any]:
    """First and second run; the second has the CT's features already."""
    services = Services(read_settings(), VolumeServer())
    engine = services.engine(engine_name)
    engine.embed_sentences(["warm up"])
    case = services.open_sample(services.samples()[0].id)
    report = read_report(case, report_of(SENTENCES))
    began = time.perf_counter()
    ground_report(case, engine)
    first = time.perf_counter() - began
    case.groundings.clear()
    began = time.perf_counter()
    ground_report(case, engine)
    again = time.perf_counter() - began
    name = f"heat maps of a report of {len(report.sentences)} sentences"
    return figure(name, first, 5.0, "s", engine=engine.name, with_features_kept=round(again, 3))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="bundled")
    print(json.dumps({"figures": [measure(parser.parse_args().engine)]}, indent=1))


if __name__ == "__main__":
    main()
