"""F1 of the 18 labels read from report text, per label, micro and macro, as JSON.

    python -m benchmarks.labels18 REPORTS.csv --half odd

The table holds study_id, report_text and one column per CT-RATE label (0/1). Rows are sorted by study_id; rules were
developed on the even rows (0, 2, 4, ...) only, so the odd rows measure how well they carry over.
"""

import argparse
import csv
import json
import time
from pathlib import Path

from core.findings import CT_RATE_LABELS
from core.report.parse import parse_report


def read_rows(path: Path, half: str) -> list[dict[str, str]]:
    """Rows of the chosen half, sorted by study_id."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["study_id"])
    return {"even": rows[0::2], "odd": rows[1::2], "all": rows}[half]


def count_label(truth: list[bool], told: list[bool]) -> dict[str, float]:
    """True and false positives, misses and F1 of one label."""
    pairs = list(zip(truth, told, strict=True))
    hits = sum(t and p for t, p in pairs)
    extra = sum(p and not t for t, p in pairs)
    missed = sum(t and not p for t, p in pairs)
    return {"hits": hits, "extra": extra, "missed": missed, "f1": f1(hits, extra, missed)}


def f1(hits: float, extra: float, missed: float) -> float:
    """Harmonic mean of precision and recall; 1 where there was nothing to find and nothing was said."""
    total = 2 * hits + extra + missed
    return 2 * hits / total if total else 1.0


def measure(rows: list[dict[str, str]]) -> dict[str, object]:
    """Per-label counts, micro and macro F1, and the time for one report."""
    start = time.perf_counter()
    told = [parse_report(row["report_text"]).labels18 for row in rows]
    seconds = time.perf_counter() - start
    per_label = {
        label: count_label([float(row[label]) == 1 for row in rows], [labels[label] for labels in told])
        for label in CT_RATE_LABELS
    }
    totals = [sum(counts[key] for counts in per_label.values()) for key in ("hits", "extra", "missed")]
    return {
        "reports": len(rows),
        "micro_f1": f1(*totals),
        "macro_f1": sum(counts["f1"] for counts in per_label.values()) / len(per_label),
        "milliseconds_per_report": 1000 * seconds / len(rows),
        "labels": per_label,
    }


def main() -> None:
    """Print the figures of one half."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, help="csv with study_id, report_text and the 18 labels")
    parser.add_argument("--half", choices=("even", "odd", "all"), default="odd")
    arguments = parser.parse_args()
    print(json.dumps({"half": arguments.half, **measure(read_rows(arguments.reports, arguments.half))}, indent=1))


if __name__ == "__main__":
    main()
