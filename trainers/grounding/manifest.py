"""Lists of findings as JSON or CSV, and folders of cases (docs/grounding_evaluation.md)."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import AsapError, ConfigError, StudyError
from trainers.grounding.cases import Problem, read_as_page
from trainers.grounding.listed import ListedCase, ListedSentence
from trainers.grounding.masks import NIFTI, FindingMask

COLUMNS = ("ct", "sentence", "mask", "finding", "organ", "side", "masks", "case", "patient", "labels", "present")
REQUIRED = ("ct", "sentence")
LIST_NAMES = ("cases.json", "cases.csv")
CT_NAMES = ("ct.nii.gz", "ct.nii", "ct.nrrd", "ct.mha", "ct.mhd", "ct.zip", "ct")
FALSE_FILE = "false.txt"
YES, NO = ("", "1", "true", "yes", "present"), ("0", "false", "no", "absent")

Found = tuple[list[ListedCase], list[Problem]]
"""Cases, and rows that cannot be used."""


def read_csv(path: Path) -> Found:
    """A CSV with the columns of `COLUMNS`; ConfigError for a file that is no such list."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path.name} cannot be read as CSV ({error}). Expected UTF-8 text with a header.") from error
    return read_rows([{key: value or "" for key, value in row.items()} for row in rows], path)


def read_rows(rows: Sequence[Mapping[str, Any]], source: Path) -> Found:
    """Rows of a list; paths are taken from the folder of `source`. Rows of one CT, or one `case`, are one case."""
    _require_columns(rows, source)
    cases: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        cases.setdefault(_text(row, "case") or _text(row, "ct"), []).append(row)
    listed, problems = [], list[Problem]()
    for name, group in zip(_short_names(list(cases)), cases.values(), strict=True):
        try:
            listed.append(_read_case(name, group, source.parent, problems))
        except AsapError as error:
            problems.append(Problem(name, "", str(error)))
    return listed, problems


def _require_columns(rows: Sequence[Mapping[str, Any]], source: Path) -> None:
    if not rows:
        raise ConfigError(f"{source.name} lists nothing; expected rows with {', '.join(REQUIRED)} and mask.")
    for number, row in enumerate(rows, start=1):
        strange = sorted(str(key) for key in row if key not in COLUMNS)
        missing = [key for key in REQUIRED if key not in row]
        if strange or missing:
            found = f"unknown: {', '.join(strange)}" if strange else f"missing: {', '.join(missing)}"
            raise ConfigError(
                f"Row {number} of {source.name} has other columns ({found}). Known: {', '.join(COLUMNS)}."
            )


def _read_case(name: str, rows: Sequence[Mapping[str, Any]], base: Path, problems: list[Problem]) -> ListedCase:
    ct, organs = _one_of(rows, "ct"), _one_of(rows, "masks")
    if not ct:
        raise StudyError("No CT is named; expected a path in the column ct.")
    sentences = []
    for row in rows:
        for text in _sentences(row):
            try:
                sentences.append(_read_sentence(row, text, base))
            except AsapError as error:
                problems.append(Problem(name, text, str(error)))
    patient = _one_of(rows, "patient") or name
    return ListedCase(name, patient, base / ct, tuple(sentences), base / organs if organs else None)


def _one_of(rows: Sequence[Mapping[str, Any]], column: str) -> str:
    """The value that a case's rows agree on; rows may leave it out."""
    values = list(dict.fromkeys(text for text in (_text(row, column) for row in rows) if text))
    if len(values) > 1:
        raise ConfigError(f"Rows of one case name {column} {values[0]!r} and {values[1]!r}; expected one of them.")
    return values[0] if values else ""


def _sentences(row: Mapping[str, Any]) -> list[str]:
    """One row may say the same finding in several sentences (JSON)."""
    told = row.get("sentence")
    return [str(text) for text in told] if isinstance(told, list) and told else [_text(row, "sentence")]


def _read_sentence(row: Mapping[str, Any], text: str, base: Path) -> ListedSentence:
    organs = tuple(re.split(r"[\s;,]+", _text(row, "organ"))) if _text(row, "organ") else ()
    sentence = read_as_page(text, _text(row, "finding"), organs, _text(row, "side"))
    present, mask = _text(row, "present").lower(), _text(row, "mask")
    if present not in YES + NO:
        raise ConfigError(f"present is {present!r}; expected true or false.")
    if present in NO:
        if mask:
            raise ConfigError(f"The sentence is false of the CT, but has the mask {mask}. Leave out one of them.")
        return ListedSentence(sentence, None)
    if not mask:
        raise StudyError("No mask is named; expected a path in the column mask, or present: false.")
    return ListedSentence(sentence, FindingMask(base / mask, _text(row, "labels")))


def _text(row: Mapping[str, Any], column: str) -> str:
    """A value as text; a JSON list becomes its items with spaces between."""
    value = row.get(column)
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    return "" if value is None else str(value).strip()


def _short_names(names: Sequence[str]) -> list[str]:
    """Cases that are called by their CT: the file's name, or its folder's where the file is called ct; the whole path
    where two would be called the same."""
    short = [_short_name(name) for name in names]
    return [name if short.count(one) > 1 else one for name, one in zip(names, short, strict=True)]


def _short_name(name: str) -> str:
    path = Path(name)
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    is_plain = re.fullmatch(r"(ct|volume|image|scan)([_-].*)?", stem, re.IGNORECASE) is not None
    return path.parent.name if is_plain and path.parent.name else stem


def read_json(path: Path) -> Any:
    """Whatever a JSON file holds; ConfigError when it holds none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{path.name} cannot be read as JSON ({error}).") from error


def read_folders(root: Path) -> Found:
    """Cases as folders: `root` itself, or each folder in it, that holds a CT.

    CASE/ct.nii.gz (or another of `CT_NAMES`), CASE/organs.nii.gz if there are organ masks, and for each finding
    CASE/NAME.nii.gz with its sentences, one a line, in CASE/NAME.txt. CASE/false.txt: sentences false of the CT.
    """
    folders = [folder for folder in (root, *sorted(root.iterdir())) if folder.is_dir() and _ct_in(folder) is not None]
    if not folders:
        raise ConfigError(
            f"{root} holds neither {' nor '.join(LIST_NAMES)} nor folders with {CT_NAMES[0]}; see "
            "docs/grounding_evaluation.md."
        )
    problems: list[Problem] = []
    return [_read_folder(folder, problems) for folder in folders], problems


def _ct_in(folder: Path) -> Path | None:
    return next((folder / name for name in CT_NAMES if (folder / name).exists()), None)


def _read_folder(folder: Path, problems: list[Problem]) -> ListedCase:
    ct, organs, name = _ct_in(folder), folder / "organs.nii.gz", folder.resolve().name
    assert ct is not None
    masks = [path for path in sorted(folder.iterdir()) if path.name.endswith(NIFTI) and path not in (ct, organs)]
    sentences: list[ListedSentence] = []
    for mask in masks:
        stem = mask.name.removesuffix(".gz").removesuffix(".nii")
        _collect(folder / f"{stem}.txt", FindingMask(mask), name, sentences, problems)
    if (folder / FALSE_FILE).is_file():
        _collect(folder / FALSE_FILE, None, name, sentences, problems)
    return ListedCase(name, name, ct, tuple(sentences), organs if organs.is_file() else None)


def _collect(
    path: Path, mask: FindingMask | None, case: str, sentences: list[ListedSentence], problems: list[Problem]
) -> None:
    """Add the sentences of a text file, all with one mask."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if not any(line.strip() for line in lines):
        found = "is empty" if path.is_file() else "does not exist"
        problems.append(Problem(case, "", f"{path.name} {found}; expected the sentences of the finding, one a line."))
    for line in filter(str.strip, lines):
        try:
            sentences.append(ListedSentence(read_as_page(line), mask))
        except AsapError as error:
            problems.append(Problem(case, line, str(error)))
