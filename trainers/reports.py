"""Generated reports as a table: `python -m trainers.reports --count 2000 --seed 7 --out reports.csv`.

The table is what `python -m asap_viewer index build` reads; the index that ships is made from the command above.
"""

import csv
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from core.errors import AsapError, ConfigError
from core.findings import CT_RATE_LABELS
from core.models.checkpoint import write_atomically
from core.synthesis.reports import generate_reports


@dataclass(frozen=True)
class ReportsConfig:
    """What to generate and where to put it."""

    out: Path
    """CSV file to write: study_id, findings, impression, and a column per CT-RATE label."""
    count: int = 2000
    """Number of reports."""
    seed: int = 7
    """The same seed gives the same reports."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 1_000_000:
            raise ConfigError(f"count is {self.count}; expected 1 to 1,000,000 reports.")


def write_reports(config: ReportsConfig) -> None:
    """Write the table, whole or not at all."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["study_id", "findings", "impression", *CT_RATE_LABELS])
    for report in generate_reports(config.count, config.seed):
        labels = [int(report.labels[label]) for label in CT_RATE_LABELS]
        table.writerow([report.study_id, report.findings, report.impression, *labels])
    write_atomically(config.out, text.getvalue().encode())


def main(config: ReportsConfig) -> None:
    """Write, print one JSON document, or end with one line on what to mend."""
    try:
        write_reports(config)
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    sys.stdout.write(json.dumps({"out": str(config.out), "reports": config.count, "seed": config.seed}) + "\n")


if __name__ == "__main__":
    main(tyro.cli(ReportsConfig))
