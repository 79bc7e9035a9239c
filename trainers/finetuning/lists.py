"""Lists of labelled studies as CSV: a header, the file id first, then one column per label (ASAP spec 6.1)."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.errors import ConfigError


class LabelTable(NamedTuple):
    """Studies and what is true of them."""

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    labels: np.ndarray  # (N, C) uint8, 1 = true; of exclusive classes exactly one per row

    def take(self, rows: Sequence[int]) -> "LabelTable":
        """Some of the studies."""
        return LabelTable(tuple(self.ids[row] for row in rows), self.classes, self.labels[list(rows)])

    def choose(self, classes: Sequence[str]) -> "LabelTable":
        """Some of the labels."""
        return LabelTable(self.ids, tuple(classes), self.labels[:, [self.classes.index(name) for name in classes]])


def read_labels(path: Path, columns: Sequence[str] = ()) -> LabelTable:
    """Labels of 0 and 1; `columns` chooses some, () = all after the first.

    Raises ConfigError for columns that are not there, values that are not 0 or 1, ids that are empty or come twice.
    """
    header, rows = _read_rows(path)
    wanted = _require_columns(path, header, columns)
    labels = np.zeros((len(rows), len(wanted)), np.uint8)
    for number, row in enumerate(rows):
        for place, name in enumerate(wanted):
            value = row[header.index(name)].strip()
            if value not in ("0", "1", "0.0", "1.0"):
                raise ConfigError(
                    f"{path.name} has {value!r} in column {name!r} of row {number + 2}; expected 0 or 1. Correct it, "
                    "or name the columns that hold labels with --columns."
                )
            labels[number, place] = value[0] == "1"
    return LabelTable(_ids(path, rows), wanted, labels)


def read_classes(path: Path, column: str, names: Sequence[str] = ()) -> LabelTable:
    """One column that names each study's only class; `names` are the known ones, () = those that occur, sorted."""
    header, rows = _read_rows(path)
    (column,) = _require_columns(path, header, [column] if column else header[1:2])
    values = [row[header.index(column)].strip() for row in rows]
    known = tuple(names) or tuple(sorted(set(values), key=lambda one: (not one.isdigit(), one.zfill(9))))
    unknown = sorted(set(values) - set(known))
    if unknown or "" in known:
        raise ConfigError(
            f"{path.name} has the class {(unknown or [''])[0]!r} in column {column!r}; expected {', '.join(known)}."
        )
    labels = np.zeros((len(rows), len(known)), np.uint8)
    labels[np.arange(len(rows)), [known.index(value) for value in values]] = 1
    return LabelTable(_ids(path, rows), known, labels)


def require_same_classes(train: LabelTable, other: LabelTable, path: Path) -> None:
    """Refuse a list whose label columns are not those that are trained on, in whatever order."""
    missing = [name for name in train.classes if name not in other.classes]
    unknown = [name for name in other.classes if name not in train.classes]
    if missing or unknown:
        raise ConfigError(
            f"{path.name} has not the label columns of the training list: missing {', '.join(missing) or 'none'}; "
            f"unknown {', '.join(unknown) or 'none'}. Rename them, or choose common ones with --columns."
        )


def require_distinct_columns(table: LabelTable, path: Path) -> None:
    """Refuse a list with two equal label columns: one of them was copied by mistake (recipes_common 8)."""
    columns: dict[bytes, str] = {}
    for place, name in enumerate(table.classes):
        column = table.labels[:, place]
        twin = columns.setdefault(column.tobytes(), name)
        if twin != name and 0 < column.sum() < len(column):
            raise ConfigError(
                f"{path.name}: the columns {twin!r} and {name!r} are equal in all {len(table.ids)} rows, "
                f"{int(column.sum())} positives each. One was copied by mistake: rebuild it from its source, leave one "
                "out with --columns, or allow it with --allow-equal-columns."
            )


def constant_columns(table: LabelTable) -> tuple[str, ...]:
    """Labels of which all studies, or none, are positive: nothing can be learned or measured there."""
    counts = table.labels.sum(axis=0)
    return tuple(name for name, count in zip(table.classes, counts, strict=True) if count in (0, len(table.ids)))


def _read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"The list {path} cannot be read ({error}); expected a CSV file.") from error
    except ValueError as error:  # nothing to unpack
        raise ConfigError(f"The list {path} is empty; expected a header and one row per study.") from error
    header = [name.strip() for name in header]
    if len(header) < 2 or len(set(header)) < len(header) or not rows:
        raise ConfigError(
            f"The list {path.name} has the columns {', '.join(header)} and {len(rows)} rows; expected a file id, then "
            "label columns of different names, and at least one row."
        )
    uneven = next((number for number, row in enumerate(rows, start=2) if len(row) != len(header)), 0)
    if uneven:
        raise ConfigError(f"{path.name}: row {uneven} has another number of columns than the header. Mend it.")
    return header, rows


def _require_columns(path: Path, header: list[str], columns: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in columns if name not in header[1:]]
    if unknown:
        raise ConfigError(f"{path.name} has no column {unknown[0]!r}; expected some of {', '.join(header[1:])}.")
    return tuple(columns) or tuple(header[1:])


def _ids(path: Path, rows: list[list[str]]) -> tuple[str, ...]:
    ids = tuple(row[0].strip() for row in rows)
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if "" in ids or repeated:
        raise ConfigError(
            f"{path.name} has the id {(repeated or [''])[0]!r} twice or empty; expected one row per file."
        )
    return ids
