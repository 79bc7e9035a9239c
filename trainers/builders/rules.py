"""What the report parser alone says of organs, states and findings; nothing is downloaded, nothing is drawn.

The rules, also in docs/builders.md:

1. Findings and impression are read apart; an impression that only says "not given" counts as none. Sections that tell
   why or how the scan was made say nothing of an organ.
2. A sentence speaks of every organ that it names or that its findings lie in, directly or through their nearest
   ancestor (`OrganMap.organs_of`): pleural effusion belongs to the lung, plaque of the coronary arteries to the heart;
   both lungs are one organ where the map has one.
3. A sentence that names neither organ nor finding and goes on about the one before ("The largest is 8 mm.") speaks of
   the same organs.
4. An organ is abnormal when the impression speaks of it ("impression", fVLM's rule), or when a sentence states
   a finding there that is present or uncertain ("stated").
5. A triplet is one finding in one structure; left and right without a word of sides are one, and a row that repeats
   another of the same sentence for a larger region is left out.
6. A distilled statement is one finding of the report: present if any sentence says so, else uncertain if any does.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from core.organ_map import OrganMap, holders_of
from core.report.parse import parse_report
from core.report.parsed import Existence, Mention, Sentence
from core.report.regions import path_of
from core.retrieval.table import ReportRow
from core.structures import UNIONS
from trainers.builders.files import ABSENT, PRESENT, UNCERTAIN, OrganText, Triplet

StateRule = Literal["impression", "stated"]
EXISTENCE: dict[Existence, int] = {"present": PRESENT, "absent": ABSENT, "uncertain": UNCERTAIN}
STATEMENTS = {PRESENT: "There is {}.", ABSENT: "There is no {}.", UNCERTAIN: "There may be {}."}
"""Existence -> distilled statement (ECAMP spec 8.5)."""

_NOT_GIVEN = re.compile(r"\W*(?:not given|none|n/?a|nan)\W*", re.IGNORECASE)
_GOES_ON = re.compile(r"(?:it|its|they|their|this|these|those|the (?:larg|bigg|small)est|largest)\b", re.IGNORECASE)


@dataclass(frozen=True)
class ReadReport:
    """A report's sentences, parsed."""

    findings: tuple[Sentence, ...]
    impression: tuple[Sentence, ...]

    @property
    def numbered(self) -> list[tuple[int, Sentence]]:
        """All sentences with their number, from 1 over findings and then impression."""
        return list(enumerate((*self.findings, *self.impression), start=1))


def read_report(row: ReportRow) -> ReadReport:
    """Parse findings and impression; ReportError when they are no text of a report."""
    return ReadReport(_sentences(row.findings), _sentences(given_impression(row)))


def given_impression(row: ReportRow) -> str:
    """The impression, "" when the table only says that there is none."""
    return "" if _NOT_GIVEN.fullmatch(row.impression) else row.impression


def organ_texts(report: ReadReport, organs: OrganMap) -> dict[str, OrganText]:
    """Organ -> its sentences in findings and impression, for organs that are mentioned, in order of id."""
    desc, conc = (_texts_per_organ(sentences, organs) for sentences in (report.findings, report.impression))
    ids = sorted(desc.keys() | conc.keys())
    return {organs.names[i - 1]: OrganText(" ".join(desc.get(i, [])), " ".join(conc.get(i, []))) for i in ids}


def organ_states(report: ReadReport, organs: OrganMap, rule: StateRule) -> dict[str, bool]:
    """Organ -> True = abnormal, False = normal or not spoken of; {} where the rule lacks the impression it reads."""
    if rule == "impression" and not report.impression:
        return {}
    if rule == "impression":
        abnormal = set(_texts_per_organ(report.impression, organs))
    else:
        stated = (m for _, sentence in report.numbered for m in sentence.mentions if m.existence != "absent")
        abnormal = {organ for mention in stated for name in mention.organs for organ in organs.organs_of(name)}
    return {name: number in abnormal for number, name in enumerate(organs.names, start=1)}


def triplets(report: ReadReport) -> list[Triplet]:
    """Every finding of every sentence with the region it is said to be in ("" = not said)."""
    return [triplet for number, sentence in report.numbered for triplet in _triplets_of(number, sentence)]


def distil(statements: Iterable[Triplet], is_wanted: Callable[[str], bool] = lambda _finding: True) -> str:
    """Short statements, one per finding in the order of first mention: "There is no pleural effusion."."""
    strength = (PRESENT, UNCERTAIN, ABSENT)
    told: dict[str, int] = {}
    for statement in statements:
        finding = statement.finding.lower()
        told[finding] = min(told.get(finding, ABSENT), statement.existence, key=strength.index)
    return " ".join(STATEMENTS[existence].format(name) for name, existence in told.items() if is_wanted(name))


def paths_of(names: Iterable[str]) -> list[str]:
    """Region paths of structures, without those that hold another of them."""
    given = list(dict.fromkeys(names))
    holders = {holder for name in given for holder in holders_of(name)}
    return [path_of(name) for name in given if name not in holders]


def _sentences(text: str) -> tuple[Sentence, ...]:
    return parse_report(text).sentences if any(char.isalnum() for char in text) else ()


def _texts_per_organ(sentences: tuple[Sentence, ...], organs: OrganMap) -> dict[int, list[str]]:
    """Organ id -> the sentences that speak of it."""
    texts: dict[int, list[str]] = {}
    before: tuple[int, ...] = ()
    for sentence in sentences:
        before = _organs_of(sentence, organs, before)
        for organ in before:
            texts.setdefault(organ, []).append(_closed(sentence.text))
    return texts


def _closed(text: str) -> str:
    """A sentence with even white space and a full stop: list items and parts before a semicolon have none."""
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _organs_of(sentence: Sentence, organs: OrganMap, before: tuple[int, ...]) -> tuple[int, ...]:
    names = [*sentence.organs, *(name for mention in sentence.mentions for name in mention.organs)]
    if not names and not sentence.mentions and _GOES_ON.match(sentence.text):
        return before
    return tuple(sorted({organ for name in dict.fromkeys(names) for organ in organs.organs_of(name)}))


def _triplets_of(number: int, sentence: Sentence) -> list[Triplet]:
    rows: dict[tuple[str, str], int] = {}
    for mention in sentence.mentions:
        for path in paths_of(_without_sides(mention)) or [""]:
            existence = EXISTENCE[mention.existence]
            old = rows.get((path, mention.finding), existence)
            rows[path, mention.finding] = max(existence, old, key=(ABSENT, UNCERTAIN, PRESENT).index)
    return [Triplet(path, finding, existence, number) for (path, finding), existence in rows.items()]


def _without_sides(mention: Mention) -> list[str]:
    """The mention's structures; left and right become their union where the words give no side."""
    if mention.laterality:
        return list(mention.organs)
    names = list(mention.organs)
    for union, parts in UNIONS.items():
        pair = {f"{union}_left", f"{union}_right"}
        if pair <= set(parts) and pair <= set(names):
            names = [name for name in names if name not in pair] + [union]
    return names
