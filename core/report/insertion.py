"""Putting distilled statements between the sentences of a report (ECAMP spec 2.2)."""

from collections.abc import Sequence


def insert_released(report: str, statement: str, location: int | None) -> str:
    """The published text, character by character: `statement` before piece number `location` of the report cut at ".".

    `location` runs from 0 to the number of dots + 1; None leaves the report as it is. Every piece gets a dot of its
    own, and each ".." becomes "." once, so that a statement follows the sentence before it without a blank.
    """
    if location is None:
        return report.replace("..", ".")
    pieces = [piece + "." for piece in report.split(".")]
    return "".join([*pieces[:location], statement, *pieces[location:]]).replace("..", ".")


def count_locations(report: str) -> int:
    """How many places `insert_released` can choose from: `location` is below this."""
    return report.count(".") + 2


def insert_between(sentences: Sequence[str], statements: Sequence[str], location: int) -> list[str]:
    """All of `sentences` in their order, with all `statements` together before number `location` (0..len)."""
    return [*sentences[:location], *statements, *sentences[location:]]
