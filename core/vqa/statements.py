"""What the report says about the thing that was asked."""

from typing import NamedTuple

from core.report.organs import names_with_side
from core.report.parsed import Existence, Mention, ParsedReport, Sentence
from core.report.places import USUAL_ORGANS
from core.structures import parts_of
from core.vqa.question import Question

_FAMILIES: dict[str, tuple[str, ...]] = {
    "mass": ("mass", "lung mass", "mediastinal mass"),
    "lung lesion": ("lung lesion", "lung mass", "Lung nodule"),
    "bone lesion": ("bone lesion", "lytic bone lesion", "sclerotic bone lesion"),
    "fracture": ("fracture", "vertebral height loss"),
    "calcification": (
        "calcification",
        "Arterial wall calcification",
        "Coronary artery wall calcification",
        "pleural calcification",
        "valve calcification",
    ),
    "cyst": ("cyst", "renal cyst", "hepatic cyst", "lung cyst", "mediastinal cyst"),
    "hernia": ("hernia", "Hiatal hernia"),
    "stone": ("stone", "gallstone", "kidney stone"),
}
"""General finding -> the particular ones that answer for it."""


class Statement(NamedTuple):
    """One mention with its sentence."""

    sentence: Sentence
    mention: Mention


def statements_about(report: ParsedReport | None, question: Question) -> list[Statement]:
    """Mentions of the asked finding, wherever they say it is, in the order of the report."""
    wanted = _FAMILIES.get(question.finding, (question.finding,))
    sentences = report.sentences if report else ()
    return [Statement(s, m) for s in sentences for m in s.mentions if m.finding in wanted]


def is_at_asked_place(statement: Statement, question: Question) -> bool:
    """Whether the mention fits the side and the organs of the question."""
    mention = statement.mention
    if question.side in ("left", "right") and mention.laterality not in ("", "bilateral", question.side):
        return False
    return not question.organs or not mention.organs or _overlap(mention.organs, question.organs)


def is_definite(statement: Statement) -> bool:
    """Whether the sentence says where: a side, or a place that the finding's name does not hold already."""
    mention = statement.mention
    usual = {name for part in USUAL_ORGANS.get(mention.finding, ()) for name in names_with_side(part, "")}
    return bool(mention.laterality) or not usual or any(organ not in usual for organ in mention.organs)


def most_definite(statements: list[Statement]) -> list[Statement]:
    """Those that say where, if any does; otherwise all."""
    return [statement for statement in statements if is_definite(statement)] or statements


def with_existence(statements: list[Statement], existence: Existence) -> list[Statement]:
    """Those that state it present, absent or uncertain."""
    return [statement for statement in statements if statement.mention.existence == existence]


def sentences_about(report: ParsedReport | None, organs: tuple[str, ...]) -> list[Sentence]:
    """Sentences that name one of the structures, or a part or whole of it; all without `organs`."""
    sentences = report.sentences if report else ()
    return [sentence for sentence in sentences if not organs or _overlap(_organs_of(sentence), organs)]


def most_detailed(statements: list[Statement]) -> Statement:
    """The statement with a size and the most definite place, the earliest of equals."""
    return min(statements, key=lambda s: (s.mention.size_mm is None, len(s.mention.organs) or 99, s.sentence.index))


def _organs_of(sentence: Sentence) -> tuple[str, ...]:
    return (*sentence.organs, *(organ for mention in sentence.mentions for organ in mention.organs))


def _overlap(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    parts = set().union(*(parts_of(name) for name in others))
    return any(parts & parts_of(name) for name in some)
