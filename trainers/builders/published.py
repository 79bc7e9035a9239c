"""Organ texts and triplets that others published, brought into our files: fVLM's and RadGenome-ChestCT's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import ConfigError
from core.organ_map import ORGAN_MAPS, OrganMap
from core.report.regions import organs_named, organs_of_path
from core.report.sentences import split_sentences
from core.report.words import split_tokens
from core.retrieval.table import ReportRow
from trainers.builders.csv_rows import read_rows
from trainers.builders.files import (
    ABSENT,
    PRESENT,
    OrganText,
    OrganTexts,
    Triplet,
    Triplets,
    entry_of,
    read_json,
    study_name,
)
from trainers.builders.run import Problem

_PRESENCE = {"yes": PRESENT, "no": ABSENT}
_FVLM = 'Expected fVLM\'s {"train_1_a": {"lung": "text"}}.'
_ANY_ORGAN = ORGAN_MAPS["canonical"]


class Texts(NamedTuple):
    """Organ texts that were brought in, and what was left out."""

    values: OrganTexts
    problems: list[Problem]


class Statements(NamedTuple):
    """Triplets that were brought in, and what was left out."""

    values: Triplets
    problems: list[Problem]


def import_fvlm(desc: Path, conc: Path) -> Texts:
    """Join fVLM's desc_info.json (findings) and conc_info.json (impression); entries that are no text are left out."""
    problems: list[Problem] = []
    told = [_texts_of(path, problems) for path in (desc, conc)]
    studies = dict.fromkeys([*told[0], *told[1]])
    texts: OrganTexts = {}
    for study in studies:
        parts = [one.get(study, {}) for one in told]
        organs = dict.fromkeys([*parts[0], *parts[1]])
        texts[study] = {organ: OrganText(*(part.get(organ, "") for part in parts)) for organ in organs}
    return Texts(texts, problems)


def import_regions(path: Path, organs: OrganMap) -> Texts:
    """RadGenome's region_report.csv (Volumename, Anatomy, Sentence) as `desc` of the organs its regions mean.

    Rows without a region speak of the whole report and are passed over; so are regions outside the organs.
    """
    gathered: dict[str, dict[str, list[str]]] = {}
    for place, cells in read_rows(path, ("Volumename", "Anatomy", "Sentence"), is_open=True):
        texts = gathered.setdefault(study_name(cells["Volumename"], place), {})
        for organ in organs_of_path(cells["Anatomy"], organs) if cells["Sentence"] else ():
            sentences = texts.setdefault(organs.names[organ - 1], [])
            if cells["Sentence"] not in sentences:
                sentences.append(cells["Sentence"])
    joined = {
        study: {organ: OrganText(" ".join(sentences), "") for organ, sentences in texts.items()}
        for study, texts in gathered.items()
    }
    return Texts(joined, [])


def import_presence(path: Path, reports: Mapping[str, ReportRow]) -> Statements:
    """RadGenome's vqa_presence.csv (Volumename, Anatomy, Finding, Presence) as triplets.

    Findings separated by commas are one triplet each; of rows that say the same of a region and of one inside it, the
    deeper stays; where a study says yes and no, yes stays. Sentence numbers are looked up in `reports`, where the
    study is there.
    """
    problems: list[Problem] = []
    told: dict[str, dict[tuple[str, str], int]] = {}
    for place, cells in read_rows(path, ("Volumename", "Anatomy", "Finding", "Presence"), is_open=True):
        study = study_name(cells["Volumename"], place)
        presence = _PRESENCE.get(cells["Presence"].strip(". ").lower())
        findings = [finding.strip(" .").lower() for finding in cells["Finding"].split(",")]
        if presence is None or not all(findings):
            problems.append(Problem(study, f"{place}: {cells['Presence'][:40]!r}; expected Yes or No, and a finding"))
            continue
        rows = told.setdefault(study, {})
        for finding in findings:
            key = (_plain_path(cells["Anatomy"]), finding)
            rows[key] = max(presence, rows.get(key, presence))
    return Statements({study: _triplets(rows, entry_of(reports, study)) for study, rows in told.items()}, problems)


def _texts_of(path: Path, problems: list[Problem]) -> dict[str, dict[str, str]]:
    told = read_json(path, _FVLM)
    if not isinstance(told, dict) or not all(isinstance(organs, dict) for organs in told.values()):
        raise ConfigError(f"{path.name} is not {{study: {{organ: text}}}}. {_FVLM}")
    studies: dict[str, dict[str, str]] = {}
    for study, organs in told.items():
        texts = studies.setdefault(study_name(study, path.name), {})
        for organ, text in organs.items():
            if isinstance(text, str):
                texts[organ] = text.strip()
            else:
                problems.append(Problem(study, f"{path.name}: {organ} is {type(text).__name__}, not text"))
    return studies


def _plain_path(path: str) -> str:
    """A region path in lower case, without parts that only repeat the one before ("lung/lung/left lung")."""
    parts = [part.strip().lower() for part in path.split("/") if part.strip()]
    return "/".join(part for part, before in zip(parts, ["", *parts], strict=False) if part != before)


def _triplets(rows: Mapping[tuple[str, str], int], report: ReportRow | None) -> list[Triplet]:
    """The rows of a study without those that a deeper one repeats, with sentence numbers where a report is given."""
    texts = (report.findings, report.impression) if report else ()
    sentences = [span.text for text in texts for span in split_sentences(text)]
    return [
        Triplet(path, finding, presence, _sentence_of(path, finding, sentences))
        for (path, finding), presence in rows.items()
        if not _is_repeated(path, finding, presence, rows)
    ]


def _is_repeated(path: str, finding: str, presence: int, rows: Mapping[tuple[str, str], int]) -> bool:
    inside = f"{path}/" if path else ""
    return any(
        other == finding and told == presence and deeper != path and deeper.startswith(inside)
        for (deeper, other), told in rows.items()
    )


def _sentence_of(path: str, finding: str, sentences: Sequence[str]) -> int:
    """Number of the first sentence with the finding's words and the region's organ, else of the only one, else 0."""
    wanted = {token.word for token in split_tokens(finding)}
    hits = [i for i, text in enumerate(sentences, 1) if wanted <= {token.word for token in split_tokens(text)}]
    organs = set(organs_of_path(path, _ANY_ORGAN))
    there = [i for i in hits if organs & set(organs_named(sentences[i - 1], _ANY_ORGAN))]
    if there:
        return there[0]
    return hits[0] if len(hits) == 1 else 0
