"""Reading the table of reports that an index is built from."""

import csv
import difflib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core.errors import IndexFileError
from core.findings import CT_RATE_LABELS

if TYPE_CHECKING:
    from _csv import Reader

_ALIASES = {
    "volumename": "study_id",
    "report_text": "findings",
    "findings_en": "findings",
    "impressions_en": "impression",
    "impressions": "impression",
}
"""Column names of public report tables -> ours; compared in lower case."""

_KNOWN = ("study_id", "findings", "impression", "volume")
_LABELS = {label.lower(): label for label in CT_RATE_LABELS}
_TRUE, _FALSE = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no"})


@dataclass(frozen=True)
class TableLimits:
    """What a table may be at most."""

    file_bytes: int = 1 << 30
    """Size of the file."""
    rows: int = 1_000_000
    """Reports in it."""
    report_characters: int = 100_000
    """Findings and impression of one report together."""
    id_characters: int = 200
    """Length of a study id."""


@dataclass(frozen=True)
class ReportRow:
    """One report of a collection."""

    study_id: str
    findings: str
    impression: str = ""
    volume: str = ""
    """Path of its CT as the table gives it, or ""."""
    labels: dict[str, bool] = field(default_factory=dict)
    """CT-RATE label -> value, only for labels that the table states; others come from the text."""
    extra: dict[str, str] = field(default_factory=dict)
    """Every other column, verbatim."""

    @property
    def text(self) -> str:
        """Findings, then the impression on a new line."""
        return "\n".join(part for part in (self.findings, self.impression) if part)


class SkippedRow(NamedTuple):
    """A report that was left out."""

    line: int  # of the file, counts from 1; 0 when it was not read from a file
    study_id: str
    reason: str


class ReportTable(NamedTuple):
    """What a table holds."""

    rows: tuple[ReportRow, ...]
    skipped: tuple[SkippedRow, ...]
    metadata_columns: tuple[str, ...]  # columns that were kept but are not searched


class _RowError(ValueError):
    """Why one row cannot be used."""


def read_table(path: Path, limits: TableLimits | None = None) -> ReportTable:
    """Read `study_id,findings[,impression][,volume]`, CSV in UTF-8 (with or without BOM).

    Columns named like the 18 CT-RATE labels must hold 0, 1 or nothing; all other columns are kept as metadata.
    Rows without id, with a repeated id or without text are listed in `skipped`. Raises IndexFileError for a file
    that is not such a table.
    """
    limits = limits or TableLimits()
    text = _read_text(Path(path), limits)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = _read_header(next(reader, []))
        return _collect(reader, columns, limits)
    except csv.Error as error:
        raise IndexFileError(
            f"{Path(path).name}, near line {reader.line_num}: {error}. Expected comma-separated values with cells that "
            'hold commas, quotes or newlines in double quotes and quotes inside doubled (""); export it again.'
        ) from error


def _read_text(path: Path, limits: TableLimits) -> str:
    """The file's text without BOM."""
    try:
        size = path.stat().st_size
        if size > limits.file_bytes:
            raise IndexFileError(
                f"{path.name} is {size / 1e6:.0f} MB; at most {limits.file_bytes / 1e6:.0f} MB. Split the table."
            )
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise IndexFileError(f"Cannot read {path}: {error.strerror}. Expected a CSV file of reports.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise IndexFileError(
            f"{path.name} is not UTF-8 text (byte 0x{error.object[error.start]:02x} in line {line}). "
            'Save it as "CSV UTF-8", without compression.'
        ) from error


def _read_header(cells: list[str]) -> list[str]:
    """Column names: ours and label names normalised, others as they are."""
    columns = [_column_name(cell.strip()) for cell in cells]
    missing = [name for name in ("study_id", "findings") if name not in columns]
    if missing:
        raise IndexFileError(
            f"The first line has no column {' and '.join(missing)}; found {', '.join(columns)[:200] or 'nothing'}. "
            "Expected study_id,findings[,impression][,volume], separated by commas."
        )
    repeated = sorted({name for name in columns if name and columns.count(name) > 1})
    if repeated:
        raise IndexFileError(f"Column {', '.join(repeated)} occurs twice in the first line; keep one of each.")
    return columns


def _column_name(cell: str) -> str:
    lower = cell.lower()
    name = _ALIASES.get(lower, lower)
    return name if name in _KNOWN else _LABELS.get(lower, cell)


def _collect(reader: "Reader", columns: list[str], limits: TableLimits) -> ReportTable:
    """Read the rows below the header."""
    rows: list[ReportRow] = []
    skipped: list[SkippedRow] = []
    first_line: dict[str, int] = {}
    for line, cells in _numbered(reader):
        study_id = _cell(cells, columns, "study_id")
        try:
            row = _read_row(cells, columns, limits)
            if study_id in first_line:
                raise _RowError(f"the id is already used in line {first_line[study_id]}")
        except _RowError as error:
            skipped.append(SkippedRow(line, study_id[:80], str(error)))
            continue
        first_line[study_id] = line
        rows.append(row)
        if len(rows) > limits.rows:
            raise IndexFileError(f"The table has more than {limits.rows} reports. Split it.")
    other = [name for name in columns if name and name not in _KNOWN and name not in CT_RATE_LABELS]
    return ReportTable(tuple(rows), tuple(skipped), tuple(other))


def _numbered(reader: "Reader") -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with the line on which each starts."""
    start = reader.line_num + 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield start, cells
        start = reader.line_num + 1


def _cell(cells: list[str], columns: list[str], name: str) -> str:
    """The stripped cell of a column, "" when the row or table has none."""
    at = columns.index(name) if name in columns else len(cells)
    return cells[at].strip() if at < len(cells) else ""


def _read_row(cells: list[str], columns: list[str], limits: TableLimits) -> ReportRow:
    if len(cells) > len(columns):
        raise _RowError(f"{len(cells)} cells, but the first line names {len(columns)} columns")
    study_id = _cell(cells, columns, "study_id")
    if not study_id:
        raise _RowError("no study_id")
    if len(study_id) > limits.id_characters or not study_id.isprintable():
        raise _RowError(f"the study_id is over {limits.id_characters} characters or not printable")
    row = ReportRow(
        study_id,
        _cell(cells, columns, "findings"),
        _cell(cells, columns, "impression"),
        _cell(cells, columns, "volume"),
        _read_labels(cells, columns),
        {name: cell for name, cell in zip(columns, cells, strict=False) if name and _is_metadata(name)},
    )
    if not row.text:
        raise _RowError("the report is empty")
    if len(row.text) > limits.report_characters:
        raise _RowError(f"the report has {len(row.text)} characters; at most {limits.report_characters}")
    return row


def _is_metadata(name: str) -> bool:
    return name not in _KNOWN and name not in CT_RATE_LABELS


def _read_labels(cells: list[str], columns: list[str]) -> dict[str, bool]:
    labels = {}
    for label in CT_RATE_LABELS:
        value = _cell(cells, columns, label).lower()
        if value in _TRUE | _FALSE:
            labels[label] = value in _TRUE
        elif value:
            raise _RowError(f'label "{label}" is "{value[:40]}"; expected 0, 1 or nothing')
    return labels


def parse_label_filters(settings: list[str]) -> dict[str, bool]:
    """["Pleural effusion=1", "Emphysema=0"] -> {label: wanted}. Raises IndexFileError for anything else."""
    return dict(_parse_label_filter(setting) for setting in settings)


def _parse_label_filter(setting: str) -> tuple[str, bool]:
    name, _, value = setting.partition("=")
    return known_label(name), _parse_wanted(value.strip().lower(), setting)


def _parse_wanted(value: str, setting: str) -> bool:
    if value not in _TRUE | _FALSE:
        raise IndexFileError(f'Filter "{setting}" is not understood; expected LABEL=1 or LABEL=0.')
    return value in _TRUE


def known_label(name: str) -> str:
    """The CT-RATE label that `name` spells in any case; IndexFileError with the closest one otherwise."""
    label = _LABELS.get(name.strip().lower())
    if label is None:
        close = difflib.get_close_matches(name.strip().lower(), _LABELS, n=1, cutoff=0.5)
        hint = f'did you mean "{_LABELS[close[0]]}"?' if close else f"one of {', '.join(CT_RATE_LABELS)}."
        raise IndexFileError(f'"{name.strip()}" is not one of the 18 findings; {hint}')
    return label
