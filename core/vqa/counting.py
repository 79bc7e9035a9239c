"""How many: counted from what the report states, never from a heat map."""

from core.report.words import split_tokens
from core.structures import parts_of
from core.vqa.evidence import Answer, CaseEvidence, Evidence, Measurement, abstain
from core.vqa.lesions import say_numbers, say_statement_place
from core.vqa.presence import STATED, report_evidence
from core.vqa.question import Question
from core.vqa.statements import (
    Statement,
    is_at_asked_place,
    most_definite,
    most_detailed,
    statements_about,
    with_existence,
)
from core.vqa.wording import say_finding

_NUMBERS = {word: n for n, word in enumerate("one two three four five six seven eight nine ten".split(), start=1)}
_NUMBERS |= {"single": 1, "solitary": 1, "couple": 2, "another": 1}
_MANY = frozenset("multiple several numerous few many some diffuse widespread innumerable".split())
_PLURALS = (
    "nodules",
    "masses",
    "cysts",
    "lesions",
    "nodes",
    "stones",
    "fractures",
    "metastases",
    "bullae",
    "opacities",
)
_STEMS = (
    "nodul",
    "mass",
    "cyst",
    "lesion",
    "node",
    "stone",
    "fractur",
    "metasta",
    "bulla",
    "opacit",
    "granulom",
    "calcif",
)
_PLACERS = frozenset("in on at are is were within along by of".split())
_REACH = 6
"""Words between a number and what it counts: "two 5 mm solid pulmonary nodules"."""


def answer_count(question: Question, case: CaseEvidence) -> Answer:
    """How many the report states: number words where it gives them, else places that are told apart."""
    everything = [s for s in statements_about(case.report, question) if is_at_asked_place(s, question)]
    found = with_existence(everything, "present")
    named = say_finding(question.finding)
    if found:
        return _count(question, case, found)
    denied = with_existence(everything, "absent")
    if denied and not with_existence(everything, "uncertain"):
        text = f"None. The report says there is no {named} (sentence {say_numbers(denied)})."
        return Answer(text, STATED, _counted(denied[0], case, 0))
    return abstain(f"the report states no number of {named}, and a heat map cannot count.")


def _count(question: Question, case: CaseEvidence, found: list[Statement]) -> Answer:
    number, is_open = count_stated(found)
    found = most_definite(found)
    at_least = "at least " if is_open else ""
    places = list(dict.fromkeys(say_statement_place(s) for s in found if s.mention.organs))
    text = f"The report describes {at_least}{number}: {say_finding(question.finding)} {'; '.join(places)} "
    text += f"(sentence {say_numbers(found)})."
    return Answer(text, 0.6 if is_open else STATED, _counted(most_detailed(found), case, number))


def count_stated(found: list[Statement]) -> tuple[int, bool]:
    """How many lesions the statements add up to, and whether there may be more.

    A place told twice (findings and impression) counts once, by its largest number or its different sizes; a
    statement about both lungs, or about none in particular, adds nothing to particular ones.
    """
    numbers: dict[frozenset[int], int] = {}
    sizes: dict[frozenset[int], set[tuple[float, ...]]] = {}
    is_open = False
    for statement in found:
        number, many = _number_in(statement)
        is_open |= many
        place = frozenset(part for name in statement.mention.organs for part in parts_of(name))
        sizes.setdefault(place, set()).update([statement.mention.sizes_mm] if statement.mention.sizes_mm else [])
        numbers[place] = max(numbers.get(place, 0), number, len(sizes[place]))
    particular = {p: n for p, n in numbers.items() if not any(other < p for other in numbers)}
    general = max((n for p, n in numbers.items() if p not in particular), default=0)
    return max(sum(particular.values()), general), is_open


def _number_in(statement: Statement) -> tuple[int, bool]:
    """Number word that counts the finding in its sentence; "several" is at least two."""
    words = [token.word for token in split_tokens(statement.sentence.text)]
    spoken = [_NUMBERS[word] for at, word in enumerate(words) if word in _NUMBERS and _counts_finding(words, at)]
    if spoken and len(statement.sentence.mentions) == 1:
        return max(spoken), False
    plural = any(word.lower().endswith(_PLURALS) for word in _words(statement))
    if not _MANY.isdisjoint(words) or plural:
        return 2, True
    return 1, False


def _counts_finding(words: list[str], at: int) -> bool:
    """Whether the number word at `at` counts findings ("four small nodules"), not readers, lobes or examinations."""
    following = words[at + 1 : at + 1 + _REACH]
    before_place = next((n for n, word in enumerate(following) if word in _PLACERS), len(following))
    if any(word.startswith(_STEMS) for word in following[:before_place]):
        return True
    stands_alone = before_place == 0  # "nodules: two in the left lung"
    return stands_alone and any(word.startswith(_STEMS) for word in words[:at])


def _words(statement: Statement) -> list[str]:
    return statement.sentence.text.replace(",", " ").replace(".", " ").split()


def _counted(statement: Statement, case: CaseEvidence, number: int) -> Evidence:
    evidence = report_evidence(statement, case)
    return Evidence("report", evidence.organ, evidence.peak_ras_mm, Measurement(number, "count"), evidence.sentence)
