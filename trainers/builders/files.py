"""The files that builders write and recipes read, as typed values.

Studies go by the name in the file without ".nii.gz"; `entry_of` finds a study of any spelling. Readers refuse what they
do not know: columns, keys, values, repeated rows, with the place and the command that makes such a file.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from core.errors import ConfigError
from core.organ_map import OrganMap, without_repeats
from trainers.builders.csv_rows import read_rows

ORGAN_TEXT, ORGAN_STATE, TRIPLETS, DISTILLED = "organ_text.json", "organ_state.json", "triplets.csv", "distilled.csv"
COMMANDS = {
    ORGAN_TEXT: "python -m trainers.builders organ-text",
    ORGAN_STATE: "python -m trainers.builders organ-state",
    TRIPLETS: "python -m trainers.builders triplets",
    DISTILLED: "python -m trainers.builders distill",
}
"""Usual name of a file -> command that makes it."""

TRIPLET_COLUMNS = ("study_id", "region_path", "finding", "existence", "sentence_idx")
DISTILLED_COLUMNS = ("study_id", "text")
STATES = ("normal", "abnormal")
PRESENT, ABSENT, UNCERTAIN = 1, 0, -1
"""Values of a triplet's existence."""

T = TypeVar("T")
_RECONSTRUCTION = re.compile(r"(.+_\d+_[a-z]+)_\d+")
"""CT-RATE's train_1_a_2: reconstruction 2 of the study train_1_a."""


class OrganText(NamedTuple):
    """What a report says of one organ."""

    desc: str  # from the findings, "" = not mentioned
    conc: str  # from the impression, "" = not mentioned


class Triplet(NamedTuple):
    """One statement of a report: what is where, or is not."""

    region_path: str  # from large to small, see `core.report.regions`; "" = the whole report
    finding: str
    existence: int  # PRESENT, ABSENT or UNCERTAIN
    sentence_idx: int  # from 1 over the sentences of findings, then impression; 0 = not known


OrganTexts = dict[str, dict[str, OrganText]]
"""Study -> organ -> texts, only for organs that are mentioned."""
OrganStates = dict[str, dict[str, bool]]
"""Study -> organ -> True = abnormal, False = normal; an organ that is left out is not known."""
Triplets = dict[str, list[Triplet]]
"""Study -> its statements in the order of the file."""


def read_organ_text(path: Path) -> OrganTexts:
    """Read `{study: {organ: {"desc": text, "conc": text}}}`."""
    texts: OrganTexts = {}
    for study, organs in _read_studies(path, ORGAN_TEXT).items():
        texts[study] = {organ: _to_organ_text(path, study, organ, value) for organ, value in organs.items()}
    return texts


def read_organ_state(path: Path) -> OrganStates:
    """Read `{study: {organ: "normal" or "abnormal"}}`."""
    states: OrganStates = {}
    for study, organs in _read_studies(path, ORGAN_STATE).items():
        for organ, state in organs.items():
            if state not in STATES:
                raise ConfigError(f'{path.name}: {study}, {organ} is {state!r}; expected "normal" or "abnormal".')
        states[study] = {organ: state == "abnormal" for organ, state in organs.items()}
    return states


def read_triplets(path: Path) -> Triplets:
    """Read triplets.csv; refuses two rows that speak of the same finding, region and sentence of a study."""
    studies: Triplets = {}
    seen = set()
    for place, cells in read_rows(path, TRIPLET_COLUMNS, _how(TRIPLETS)):
        study, triplet = study_name(cells["study_id"], place), _to_triplet(cells, place)
        key = (study, triplet.region_path, triplet.finding, triplet.sentence_idx)
        if key in seen:
            raise ConfigError(f"{place} repeats region, finding and sentence of an earlier row; keep one of them.")
        seen.add(key)
        studies.setdefault(study, []).append(triplet)
    return studies


def read_distilled(path: Path) -> dict[str, str]:
    """Read distilled.csv: study -> text of short statements."""
    texts: dict[str, str] = {}
    for place, cells in read_rows(path, DISTILLED_COLUMNS, _how(DISTILLED)):
        study = study_name(cells["study_id"], place)
        if study in texts:
            raise ConfigError(f"{place}: study {study} has a row already; keep one of them.")
        texts[study] = cells["text"]
    return texts


def entry_of(table: Mapping[str, T], study_id: str) -> T | None:
    """The entry of a study under its own name, or under that of the study a CT-RATE reconstruction belongs to."""
    name = _plain(study_id)
    reconstruction = _RECONSTRUCTION.fullmatch(name)
    if name not in table and reconstruction:
        name = reconstruction[1]
    return table.get(name)


def require_studies(table: Mapping[str, object], study_ids: Sequence[str], path: Path, command: str) -> None:
    """Refuse, with the command that makes the file, studies that it does not hold."""
    missing = [study_id for study_id in study_ids if entry_of(table, study_id) is None]
    if missing:
        raise ConfigError(
            f"{path} lacks {len(missing)} of {len(study_ids)} studies (first: {missing[0]}). Make it from the same "
            f"reports: {command}; or take these studies out of the training set."
        )


def require_organs(table: Mapping[str, Mapping[str, object]], organs: OrganMap, path: Path, command: str) -> None:
    """Refuse a file that speaks of none of the organs; those it has beside them are passed over."""
    found = {organ for entry in table.values() for organ in entry}
    if found.isdisjoint(organs.names):
        raise ConfigError(
            f"{path} says nothing of {', '.join(organs.names)}; it has {', '.join(sorted(found)[:40]) or 'no organ'}. "
            f"Make it for these organs: {command} --organs."
        )


def study_name(study_id: str, place: str) -> str:
    """A study's id without ".nii.gz"; ConfigError when nothing is left or it has line breaks in it."""
    name = _plain(study_id)
    if not name or not name.isprintable():
        raise ConfigError(f"{place}: the study id {study_id[:40]!r} is empty or not printable.")
    return name


def organ_text_to_json(texts: Mapping[str, Mapping[str, OrganText]]) -> str:
    """Inverse of `read_organ_text`."""
    return _to_json({s: {organ: text._asdict() for organ, text in organs.items()} for s, organs in texts.items()})


def organ_state_to_json(states: Mapping[str, Mapping[str, bool]]) -> str:
    """Inverse of `read_organ_state`."""
    return _to_json({s: {o: STATES[is_abnormal] for o, is_abnormal in organs.items()} for s, organs in states.items()})


def triplets_to_csv(triplets: Mapping[str, Iterable[Triplet]]) -> str:
    """Inverse of `read_triplets`; a sentence that is not known is left empty."""
    rows = ([s, *t[:3], t.sentence_idx or ""] for s, statements in triplets.items() for t in statements)
    return _to_csv(TRIPLET_COLUMNS, rows)


def distilled_to_csv(texts: Mapping[str, str]) -> str:
    """Inverse of `read_distilled`."""
    return _to_csv(DISTILLED_COLUMNS, texts.items())


def read_json(path: Path, how: str) -> Any:
    """A JSON file in which no key occurs twice; ConfigError otherwise, `how` tells how such a file is made."""
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=without_repeats)
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}. {how}".strip()) from error
    except ValueError as error:
        raise ConfigError(f"{path.name} is not such a JSON file ({error}). {how}".strip()) from error


def _read_studies(path: Path, kind: str) -> dict[str, dict[str, Any]]:
    """The studies of one of our JSON files, names made plain."""
    told = read_json(path, _how(kind))
    if not isinstance(told, dict) or not all(isinstance(organs, dict) for organs in told.values()):
        raise ConfigError(f"{path.name} is not {{study: {{organ: ...}}}}. {_how(kind)}")
    studies = {study_name(study, path.name): organs for study, organs in told.items()}
    if len(studies) < len(told):
        raise ConfigError(f'{path.name} names a study with and without ".nii.gz"; keep one of them.')
    return studies


def _to_organ_text(path: Path, study: str, organ: str, value: object) -> OrganText:
    if (
        not isinstance(value, dict)
        or set(value) != {"desc", "conc"}
        or not all(isinstance(t, str) for t in value.values())
    ):
        raise ConfigError(
            f'{path.name}: {study}, {organ} is not {{"desc": text, "conc": text}}. Files of fVLM, one for findings and '
            "one for impressions, are joined by `python -m trainers.builders import-fvlm`."
        )
    return OrganText(value["desc"], value["conc"])


def _to_triplet(cells: Mapping[str, str], place: str) -> Triplet:
    """One row; few different texts make up a table of millions, so they are shared."""
    existence, sentence = cells["existence"], cells["sentence_idx"]
    if existence not in ("1", "0", "-1") or not (sentence.isdecimal() or not sentence) or not cells["finding"]:
        raise ConfigError(
            f"{place}: existence is {existence!r}, sentence_idx {sentence!r}, finding {cells['finding'][:40]!r}; "
            "expected 1, 0 or -1 (uncertain), a number from 1 or nothing, and a word."
        )
    path, finding = sys.intern(cells["region_path"]), sys.intern(cells["finding"])
    return Triplet(path, finding, int(existence), int(sentence or 0))


def _plain(study_id: str) -> str:
    return study_id.strip().removesuffix(".gz").removesuffix(".nii")


def _how(kind: str) -> str:
    return f"Make it: {COMMANDS[kind]}."


def _to_json(studies: object) -> str:
    return json.dumps(studies, ensure_ascii=False, indent=1) + "\n"


def _to_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    return text.getvalue()
