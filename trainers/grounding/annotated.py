"""Cases from this project's annotation export (docs/annotations.md): sentences whose regions people drew."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.anatomy.provided import lies_on
from core.annotation.export import FORMAT, FORMAT_VERSION
from core.errors import AsapError, ConfigError, StudyError
from core.reading.study import open_study
from core.volume import Grid, Volume, ras_grid
from trainers.grounding.cases import Problem, read_as_page
from trainers.grounding.listed import ListedCase, ListedSentence
from trainers.grounding.manifest import Found
from trainers.grounding.masks import NIFTI, FindingMask, grid_of

SUFFIXES = (*NIFTI, ".nrrd", ".mha", ".mhd", ".zip")
DICOM = (".dcm", ".ima", "")
"""Endings of files that make a folder worth looking into."""


class JoinedMask(NamedTuple):
    """Everything that was drawn for one sentence."""

    parts: tuple[FindingMask, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files."""
        return tuple(part.path for part in self.parts)

    def check(self, ct: Grid | None) -> None:
        """StudyError for a missing file, or one that does not lie on the CT's grid."""
        for part in self.parts:
            part.check(ct)

    def read(self, volume: Volume) -> np.ndarray:
        """(X, Y, Z) bool on the CT's RAS grid: the union."""
        joined = self.parts[0].read(volume)
        for part in self.parts[1:]:
            joined |= part.read(volume)
        return joined


def is_export(told: object) -> bool:
    """Whether a JSON document is an annotation export."""
    return isinstance(told, dict) and told.get("format") == FORMAT


def read_export(told: Mapping[str, Any], folder: Path, ct_root: Path | None, author: str = "") -> Found:
    """Cases of an export in `folder`; regions of one author, or ("") of all, joined sentence by sentence.

    ct_root: the CT's file, or a folder below which the CTs lie; they are known by their content. ConfigError where
    there is none, or the export is of a version that is not known.
    """
    if told.get("version") != FORMAT_VERSION:
        raise ConfigError(f"The export has version {told.get('version')!r}; expected {FORMAT_VERSION}. Export again.")
    if ct_root is None or not ct_root.exists():
        raise ConfigError(
            f"An annotation export does not hold the CTs; expected --ct-root with their folder, found {ct_root}."
        )
    cases, problems = [], list[Problem]()
    for entry in told["cases"]:
        name = entry["content_hash"][:12]
        try:
            ct = find_ct(entry, ct_root)
            sentences = _sentences(entry, folder, author, problems)
            cases.append(ListedCase(name, name, ct, sentences, _organs(entry, folder), entry["content_hash"]))
        except AsapError as error:
            problems.append(Problem(name, "", str(error)))
    return cases, problems


def _organs(entry: Mapping[str, Any], folder: Path) -> Path | None:
    return folder / entry["organs"]["file"] if entry["organs"] else None


def _sentences(
    entry: Mapping[str, Any], folder: Path, author: str, problems: list[Problem]
) -> tuple[ListedSentence, ...]:
    drawn: dict[str, list[FindingMask]] = {}
    for region in entry["regions"]:
        if author in ("", region["author"]):
            drawn.setdefault(region["sentence"]["text"], []).append(FindingMask(folder / region["file"]))
    if not drawn:
        whose = f" by {author}" if author else ""
        raise StudyError(f"No region was drawn{whose} on this CT; there is nothing to compare heat with.")
    sentences = []
    for text, parts in drawn.items():
        try:
            sentences.append(ListedSentence(read_as_page(text), JoinedMask(tuple(parts))))
        except AsapError as error:
            problems.append(Problem(entry["content_hash"][:12], text, str(error)))
    return tuple(sentences)


def find_ct(entry: Mapping[str, Any], root: Path) -> Path:
    """The CT that an entry of an export speaks of, known by its content. StudyError where it is not there."""
    for path in _candidates(root, entry["title"], _grid(entry)):
        if _content_hash(path) == entry["content_hash"]:
            return path
    raise StudyError(
        f"The CT {entry['title']!r} ({entry['content_hash'][:12]}) is not below {root}; expected the file that was "
        "annotated, unchanged."
    )


def _content_hash(path: Path) -> str:
    """ "" for a file that is no CT."""
    try:
        return open_study(path).volume.content_hash
    except StudyError:
        return ""


def _grid(entry: Mapping[str, Any]) -> Grid | None:
    if entry["grid"] is None:
        return None
    i, j, k = entry["grid"]["shape"]
    return Grid((i, j, k), np.array(entry["grid"]["affine"], np.float64))


def _candidates(root: Path, title: str, grid: Grid | None) -> Iterator[Path]:
    """What may be the CT: of the same name first, then other files that may lie where it does."""
    if root.is_file():
        yield root
        return
    files = [root, *sorted(root.rglob("*"))]
    named = [path for path in files if path.name == title]
    yield from named
    for path in files:
        if path not in named and _may_lie_on(path, grid):
            yield path


def _may_lie_on(path: Path, grid: Grid | None) -> bool:
    """Whether a file or a DICOM folder may be a CT on a grid; only NIfTI tells without being opened."""
    if path.is_dir():
        return any(child.suffix.lower() in DICOM for child in path.iterdir() if child.is_file())
    if grid is None or not path.name.endswith(NIFTI):
        return path.name.endswith(SUFFIXES)
    try:
        found = grid_of(path)
    except StudyError:
        return False
    return found is not None and lies_on(ras_grid(found), ras_grid(grid))
