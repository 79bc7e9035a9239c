"""Results as files: one CSV row a sentence and a question, and a table in Markdown."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainers.grounding.cases import Problem
from trainers.grounding.judging import WAYS, Answer, Reading, SentenceRow

DIGITS = 4


def sentences_csv(rows: Sequence[SentenceRow]) -> str:
    """One line a sentence; raw_ and constrained_ stand before what is measured each way; empty = not defined."""
    head = [name for name in SentenceRow._fields if name not in WAYS]
    lines = [[*head, *(f"{way}_{name}" for way in WAYS for name in Reading._fields)]]
    for row in rows:
        told = [" ".join(row.organs) if name == "organs" else getattr(row, name) for name in head]
        lines.append([_cell(value) for value in (*told, *row.raw, *row.constrained)])
    return _csv(lines)


def answers_csv(answers: Sequence[Answer]) -> str:
    """One line a question."""
    return _csv([list(Answer._fields), *([_cell(value) for value in answer] for answer in answers)])


def _csv(lines: Sequence[Sequence[str]]) -> str:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows(lines)
    return sink.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{round(value, DIGITS):g}" if np.isfinite(value) else ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def write_summary(told: Mapping[str, Any]) -> str:
    """The figures of metrics.json as Markdown tables."""
    return "\n\n".join([_head(told), _overall(told), _per_finding(told), _presence(told), *_lists(told)]) + "\n"


def _head(told: Mapping[str, Any]) -> str:
    counts, config = told["counts"], told["config"]["judge"]
    percent = f"{100 * told['config']['interval']['level']:g} %"
    return (
        f"# Grounding by {told['engine']}\n\n{counts['sentences']} sentences of {counts['cases']} cases and "
        f"{counts['patients']} patients; {counts['questions']} questions of presence. Pointing: the peak lies within "
        f"{config['tolerance_mm']:g} mm of the finding. Fixed Dice: at heat {config['threshold']:g}. In brackets "
        f"{percent} intervals that draw patients; with few patients they say little."
    )


def _overall(told: Mapping[str, Any]) -> str:
    overall = told["overall"]
    names = list(overall["constrained"])
    rows = [[_spoken(name), *(_figure(overall[way][name], is_long=True) for way in WAYS)] for name in names]
    return "## All sentences\n\n" + _table(["", "raw heat", "kept to what the sentence names"], rows)


def _spoken(name: str) -> str:
    words = name.replace("_", " ").replace("auroc", "AUROC")
    return words[:1].upper() + words[1:]


def _per_finding(told: Mapping[str, Any]) -> str:
    heads = ["finding", "n", "pointing, raw", "pointing, constrained", "chance", "Dice, best", "Dice, fixed"]
    heads += ["voxel AUROC", "heat in organ", "wrong side", "presence AUROC"]
    presence = told["presence"]["per_finding"]
    rows = []
    for finding, one in told["per_finding"].items():
        kept, raw = one["constrained"], one["raw"]
        figures = [raw["pointing"], kept["pointing"], kept["chance"], kept["dice_best"], kept["dice_fixed"]]
        figures += [raw["voxel_auroc"], raw["heat_in_organ"], kept["wrong_side"]]
        asked = presence.get(finding, {}).get("score")
        rows.append([finding, str(one["sentences"]), *(_figure(value) for value in figures), _figure(asked)])
    return (
        "## Per finding\n\nChance, Dice and wrong side: constrained. Voxel AUROC and heat in organ: raw. Presence: by "
        "score.\n\n" + _table(heads, rows)
    )


def _presence(told: Mapping[str, Any]) -> str:
    rows = []
    for name in ("overall", "mean_over_findings"):
        one = told["presence"][name]
        rows.append([_spoken(name), *(_figure(one[by], is_long=True) for by in ("probability", "score", "margin"))])
    asked = told["presence"]["overall"]
    return (
        f"## Presence, AUROC\n\n{asked['true']} true and {asked['false']} false sentences; the mean is over "
        f"{told['presence']['mean_over_findings']['findings']} findings that were asked about both ways.\n\n"
        + _table(["", "by probability", "by score", "by margin"], rows)
    )


def _lists(told: Mapping[str, Any]) -> list[str]:
    parts = []
    if told["pictures"]:
        parts.append("## Worst\n\n" + "\n".join(f"![{name}](pictures/{name})" for name in told["pictures"]))
    for title, name in (("Left out", "left_out"), ("Doubtful", "warnings")):
        lines = [describe(Problem(**one)) for one in told[name]]
        if lines:
            parts.append(f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines))
    return parts


def describe(problem: Problem) -> str:
    """A problem in one line."""
    where = f"{problem.case}, {problem.sentence!r}" if problem.sentence else problem.case
    return " ".join(f"{where}: {problem.reason}".split())


def _figure(told: Mapping[str, Any] | None, is_long: bool = False) -> str:
    if told is None or told["value"] is None:
        return "-"
    ends = "" if told["low"] is None else f" [{told['low']:.2f}, {told['high']:.2f}]"
    count = f" of {told['n']}" if is_long and "n" in told else ""
    return f"{told['value']:.2f}{ends}{count}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "/") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
