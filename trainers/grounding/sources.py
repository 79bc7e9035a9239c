"""Where cases come from: what a path holds is told by its content."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.annotation.export import MANIFEST
from core.errors import AsapError, ConfigError
from trainers.grounding.annotated import is_export, read_export
from trainers.grounding.cases import Case, Problem
from trainers.grounding.listed import ListedCase, check_case, draw_false_sentences, to_case
from trainers.grounding.manifest import LIST_NAMES, Found, read_csv, read_folders, read_json, read_rows
from trainers.grounding.rexgrounding import is_rex_list, read_rex_list


@dataclass(frozen=True)
class ListConfig:
    """Where cases on disk lie."""

    ct_root: Path | None = None
    """Folder of the CTs, for annotation exports and lists like ReXGroundingCT's, which do not say where they are."""
    mask_root: Path | None = None
    """Folder of the segmentations of a list like ReXGroundingCT's; None: segmentations beside the list."""
    split: str = ""
    """Split of such a list; "" = all."""
    author: str = ""
    """Whose regions of an annotation export count; "" = everybody's, joined."""


def read_cases(path: Path, config: ListConfig) -> Found:
    """Cases of a list, an annotation export or a folder, and what of them cannot be used.

    ConfigError for something that is none of these.
    """
    if not path.exists():
        raise ConfigError(f"{path} does not exist; expected a list of cases, an annotation export or a folder.")
    if path.is_dir():
        inner = next((path / name for name in (MANIFEST, *LIST_NAMES) if (path / name).is_file()), None)
        return read_cases(inner, config) if inner is not None else read_folders(path)
    if path.suffix == ".csv":
        return read_csv(path)
    return _read_document(path, config)


def _read_document(path: Path, config: ListConfig) -> Found:
    told = read_json(path)
    if is_export(told):
        return read_export(told, path.parent, config.ct_root, config.author)
    if is_rex_list(told):
        return read_rex_list(told, path.parent, config.ct_root, config.mask_root, config.split)
    if isinstance(told, list) and all(isinstance(row, dict) for row in told):
        return read_rows(told, path)
    raise ConfigError(
        f"{path.name} is no list of cases; expected a list of objects with ct, sentence and mask, an annotation "
        "export, or ReXGroundingCT's dataset.json. See docs/grounding_evaluation.md."
    )


def collect_cases(
    paths: tuple[Path, ...], config: ListConfig, false: int, seed: int
) -> tuple[list[Case], list[Problem]]:
    """Every case on disk that can be tried, each with up to `false` sentences of the others that are false of it."""
    listed, problems = [], list[Problem]()
    for path in paths:
        found, unusable = read_cases(path, config)
        problems += unusable
        listed += list(_usable(found, problems))
    names = [case.name for case in listed]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"Two inputs have a case called {twice[0]!r}; evaluate them apart, or rename one.")
    drawn = draw_false_sentences(listed, false, seed)
    return [to_case(case, others) for case, others in zip(listed, drawn, strict=True)], problems


def _usable(cases: list[ListedCase], problems: list[Problem]) -> Iterator[ListedCase]:
    for case in cases:
        try:
            checked, unusable = check_case(case)
        except AsapError as error:
            problems.append(Problem(case.name, "", str(error)))
            continue
        problems += unusable
        if checked.sentences:
            yield checked
        elif not unusable:
            problems.append(Problem(case.name, "", "No sentence with a mask; there is nothing to judge."))
