"""Rows of a CSV file, refused with the line where it is wrong."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import ConfigError

LONGEST_CELL = 1_000_000
"""Characters."""


class Row(NamedTuple):
    """One row below the header."""

    place: str  # "triplets.csv, line 7", for messages
    cells: dict[str, str]  # column -> stripped text


def read_rows(path: Path, columns: Sequence[str], how: str = "", is_open: bool = False) -> Iterator[Row]:
    """Rows of a UTF-8 CSV file (with or without BOM) that has exactly `columns`, in any order; others too if `is_open`.

    Blank lines are passed over. ConfigError for a file that cannot be read, a wrong header or a row of another
    length; `how` tells how such a file is made.
    """
    csv.field_size_limit(LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = [cell.strip() for cell in next(reader, [])]
            _check_header(path, names, columns, how, is_open)
            for cells in reader:
                place = f"{path.name}, line {reader.line_num}"
                if any(cell.strip() for cell in cells):
                    yield Row(place, _to_cells(place, names, cells))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"Cannot read {path}: {reason}. Expected a CSV file. {how}".strip()) from error
    except csv.Error as error:
        raise ConfigError(
            f"{path.name}, line {reader.line_num}: {error}. Expected comma-separated values with double quotes around "
            "cells that hold commas, quotes or newlines."
        ) from error


def _check_header(path: Path, names: list[str], columns: Sequence[str], how: str, is_open: bool) -> None:
    missing = [name for name in columns if name not in names]
    unknown = [] if is_open else [name for name in names if name not in columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if missing or unknown or repeated:
        faults = {"lacks": missing, "does not know": unknown, "repeats": repeated}
        found = "; ".join(f"{verb} {', '.join(map(repr, what))}" for verb, what in faults.items() if what)
        raise ConfigError(f"The header of {path.name} {found}; expected the columns {','.join(columns)}. {how}".strip())


def _to_cells(place: str, names: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(names):
        raise ConfigError(f"{place}: {len(cells)} cells, but the header names {len(names)} columns. Quote commas.")
    return {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
