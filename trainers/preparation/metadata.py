"""The table that CT-RATE publishes beside its volumes, for headers that were lost."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.errors import ConfigError

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
WRAPPER = re.compile(r"\b(?:np\.)?float\d+\b")
COLUMNS = {
    "name": ("volumename", "volume", "filename", "file", "studyid"),
    "slope": ("rescaleslope", "slope"),
    "intercept": ("rescaleintercept", "intercept"),
    "in_plane": ("xyspacing", "pixelspacing"),
    "between": ("zspacing", "spacingbetweenslices"),
    "directions": ("imageorientationpatient", "orientation"),
    "position": ("imagepositionpatient", "position", "origin"),
}
"""What is read, under the names it goes by (case, blanks and underscores aside)."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class HeaderRow(NamedTuple):
    """What the table says of one volume; None where it says nothing usable."""

    slope: float | None = None
    intercept: float | None = None
    spacing_mm: tuple[float, float, float] | None = None  # along columns, rows, slices
    directions: tuple[float, ...] | None = None  # DICOM's six cosines (LPS): along a row, along a column
    position_mm: tuple[float, ...] | None = None  # of the first voxel's centre, LPS

    def affine(self) -> np.ndarray | None:
        """(4, 4) voxel -> RAS+ mm as CT-RATE's mended files have it; None without spacing.

        Without directions an axial scan is taken, without a position the origin. Rounded to float32, the precision of
        a NIfTI header: the published step derives its sizes from that.
        """
        if self.spacing_mm is None:
            return None
        cosines = np.array(self.directions or (1, 0, 0, 0, 1, 0), np.float64)
        lps = np.eye(4)
        lps[:3, 0], lps[:3, 1] = cosines[:3], cosines[3:]
        lps[:3, 2] = np.cross(cosines[:3], cosines[3:])
        lps[:3, :3] *= self.spacing_mm
        lps[:3, 3] = self.position_mm or (0, 0, 0)
        return (LPS_TO_RAS @ lps).astype(np.float32).astype(np.float64)


def read_metadata(path: Path) -> dict[str, HeaderRow]:
    """The table as {volume's name without ending: row}; ConfigError when it lacks a column that is needed."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = _find_columns(reader.fieldnames or [], path.name)
            rows = [(row, row.get(columns["name"]) or "") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"The metadata table {path} cannot be read ({error}). Expected a CSV file.") from error
    return {_stem(name): _read_row(row, columns) for row, name in rows if name.strip()}


def _find_columns(names: Sequence[str], file: str) -> dict[str, str]:
    """Our name of each column that is there -> its name in the file."""
    plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in names if name}
    found = {}
    for ours, theirs in COLUMNS.items():
        known = next((plain[name] for name in theirs if name in plain), None)
        if known is not None:
            found[ours] = known
    lacking = [COLUMNS[name][0] for name in ("name", "in_plane", "between") if name not in found]
    if lacking:
        raise ConfigError(
            f"{file} lacks the columns {', '.join(lacking)}; it has {', '.join(names) or 'none'}. Expected CT-RATE's "
            "metadata: VolumeName, RescaleSlope, RescaleIntercept, XYSpacing, ZSpacing, ImageOrientationPatient, "
            "ImagePositionPatient."
        )
    return found


def _read_row(row: Mapping[str, str], columns: Mapping[str, str]) -> HeaderRow:
    values = {ours: _numbers(row.get(theirs) or "") for ours, theirs in columns.items() if ours != "name"}
    plane, between = values["in_plane"], values["between"]
    spacing = None
    if plane and between and min(*plane[:2], between[0]) > 0:
        first, second = (plane * 2)[:2]  # one number stands for both
        if re.sub(r"[^a-z]", "", columns["in_plane"].lower()) == "pixelspacing":
            first, second = second, first  # DICOM names the distance between rows first
        spacing = (first, second, between[0])
    directions, position = values.get("directions", []), values.get("position", [])
    return HeaderRow(
        next(iter(values.get("slope", [])), None),
        next(iter(values.get("intercept", [])), None),
        spacing,
        tuple(directions) if len(directions) == 6 else None,
        tuple(position) if len(position) == 3 else None,
    )


def _numbers(text: str) -> list[float]:
    """Finite numbers in a cell such as "[0.7, 0.7]", "0.7" or "(np.float64(0.7), 0.7)"; none in "nan"."""
    found = [float(number) for number in NUMBER.findall(WRAPPER.sub("", text))]
    return [number for number in found if math.isfinite(number)]


def _stem(name: str) -> str:
    return Path(name.strip()).name.removesuffix(".gz").removesuffix(".nii")
