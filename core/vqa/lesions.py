"""Where, on which side, how large, how many: questions about a finding that is there."""

from core.report.words import split_tokens
from core.structures import parts_of, side_of
from core.vqa.evidence import Answer, CaseEvidence, Evidence, Measurement, abstain
from core.vqa.presence import DISPUTED, STATED, SURE, also, report_evidence
from core.vqa.question import Question
from core.vqa.statements import (
    Statement,
    is_at_asked_place,
    most_detailed,
    statements_about,
    with_existence,
)
from core.vqa.support import Support, support_of
from core.vqa.wording import say_finding, say_organs, say_place, say_side, say_where, say_with_article, to_sentence

_NUMBERS = {word: n for n, word in enumerate("one two three four five six seven eight nine ten".split(), start=1)}
_NUMBERS |= {"single": 1, "solitary": 1, "couple": 2, "another": 1}
_MANY = frozenset("multiple several numerous few many some diffuse widespread innumerable".split())


def answer_location(question: Question, case: CaseEvidence) -> Answer:
    """The structures that hold the finding; without a finding, the centre of the organ asked for."""
    if not question.finding:
        return _locate_organ(question, case)
    found = _stated_here(question, case)
    if not found:
        return _from_heat_map(question, case, side_only=False)
    places = list(dict.fromkeys(_say_place(s) for s in found if s.mention.organs))
    first = most_detailed(found)
    if not places:
        return _from_heat_map(question, case, side_only=False)
    support = support_of(case, first.sentence.text)
    said = f"The report puts {say_finding(question.finding)} {'; '.join(places)} (sentence {_numbers(found)})."
    return _with_support(said, first, case, support)


def answer_side(question: Question, case: CaseEvidence) -> Answer:
    """Left, right or both."""
    found = [s for s in _stated_here(question, case) if s.mention.laterality]
    if not found:
        return _from_heat_map(question, case, side_only=True)
    sides = {side for s in found for side in _sides(s)}
    side = "bilateral" if len(sides) > 1 else next(iter(sides))
    first = most_detailed(found)
    support = support_of(case, first.sentence.text)
    said = f"The report puts {say_finding(question.finding)} {say_side(side)} (sentence {_numbers(found)})."  # type: ignore[arg-type]
    return _with_support(said, first, case, support)


def answer_size(question: Question, case: CaseEvidence) -> Answer:
    """Diameters as the report states them; organ masks hold no lesions, so nothing else measures one."""
    found = _stated_here(question, case)
    sized = sorted((s for s in found if s.mention.sizes_mm), key=lambda s: -max(s.mention.sizes_mm))
    if not sized:
        return _without_size(question, case, found)
    support = support_of(case, sized[0].sentence.text)
    evidence = report_evidence(sized[0], case, support)
    told = list(dict.fromkeys(_say_size(s) for s in sized))
    text = f"The report gives {'; '.join(told)} (sentence {_numbers(sized)})."
    if support.verdict == "absent":
        text += f" The heat map does not support it (probability {support.probability:.0%})."
        return Answer(text, DISPUTED, evidence, also=also(support))
    return Answer(text, STATED, evidence, also=also(support))


def answer_count(question: Question, case: CaseEvidence) -> Answer:
    """How many the report states: number words where it gives them, else places that are told apart."""
    everything = [s for s in statements_about(case.report, question) if is_at_asked_place(s, question)]
    found = with_existence(everything, "present")
    named = say_finding(question.finding)
    if found:
        return _count(question, case, found)
    denied = with_existence(everything, "absent")
    if denied and not with_existence(everything, "uncertain"):
        text = f"None. The report says there is no {named} (sentence {_numbers(denied)})."
        return Answer(text, STATED, _counted(denied[0], case, 0))
    return abstain(f"the report states no number of {named}, and a heat map cannot count.")


def _count(question: Question, case: CaseEvidence, found: list[Statement]) -> Answer:
    number, is_open = count_stated(found)
    at_least = "at least " if is_open else ""
    places = list(dict.fromkeys(_say_place(s) for s in found if s.mention.organs))
    text = f"The report describes {at_least}{number}: {say_finding(question.finding)} {'; '.join(places)} "
    text += f"(sentence {_numbers(found)})."
    return Answer(text, 0.6 if is_open else STATED, _counted(most_detailed(found), case, number))


def count_stated(found: list[Statement]) -> tuple[int, bool]:
    """How many lesions the statements add up to, and whether there may be more.

    A place told twice (findings and impression) counts once, by its largest number; a statement about both lungs or
    none in particular adds nothing to particular ones.
    """
    per_place: dict[frozenset[int], int] = {}
    is_open = False
    for statement in found:
        number, many = _number_in(statement)
        is_open |= many
        place = frozenset(part for name in statement.mention.organs for part in parts_of(name))
        per_place[place] = max(per_place.get(place, 0), number)
    particular = {p: n for p, n in per_place.items() if not any(other < p for other in per_place)}
    general = max((n for p, n in per_place.items() if p not in particular), default=0)
    return max(sum(particular.values()), general), is_open


def _number_in(statement: Statement) -> tuple[int, bool]:
    """Number word before the finding in its sentence; "several" is at least two."""
    words = [token.word for token in split_tokens(statement.sentence.text)]
    spoken = [_NUMBERS[word] for word in words if word in _NUMBERS]
    if spoken and len(statement.sentence.mentions) == 1:
        return max(spoken), False
    plural = any(
        word.lower().endswith(("nodules", "masses", "cysts", "lesions", "nodes")) for word in _words(statement)
    )
    if not _MANY.isdisjoint(words) or plural:
        return 2, True
    return 1, False


def _words(statement: Statement) -> list[str]:
    return statement.sentence.text.replace(",", " ").replace(".", " ").split()


def _counted(statement: Statement, case: CaseEvidence, number: int) -> Evidence:
    evidence = report_evidence(statement, case)
    return Evidence("report", evidence.organ, evidence.peak_ras_mm, Measurement(number, ""), evidence.sentence)


def _stated_here(question: Question, case: CaseEvidence) -> list[Statement]:
    about = with_existence(statements_about(case.report, question), "present")
    return [statement for statement in about if is_at_asked_place(statement, question)]


def _numbers(found: list[Statement]) -> str:
    return ", ".join(str(number) for number in dict.fromkeys(s.sentence.index for s in found))


def _say_size(statement: Statement) -> str:
    diameters = " x ".join(f"{size:g}" for size in statement.mention.sizes_mm[:3])
    mention = statement.mention
    where = say_where(mention.finding, mention.organs, mention.laterality)
    return f"{diameters} mm for {say_with_article(mention.finding)} {where}".rstrip()


def _say_place(statement: Statement) -> str:
    mention = statement.mention
    return say_where(mention.finding, mention.organs, mention.laterality) or say_place(mention.organs)


def _sides(statement: Statement) -> set[str]:
    side = statement.mention.laterality
    return {"left", "right"} if side == "bilateral" else {side}


def _without_size(question: Question, case: CaseEvidence, found: list[Statement]) -> Answer:
    named = say_finding(question.finding)
    if found:
        reason = f"the report states {named} (sentence {_numbers(found)}) but no size; organ masks hold no lesions."
        return abstain(reason, report_evidence(most_detailed(found), case))
    return abstain(f"the report states no {named}, and a heat map is too coarse to measure one.")


def _with_support(said: str, first: Statement, case: CaseEvidence, support: Support) -> Answer:
    """The report's place beside the heat map's."""
    evidence = report_evidence(first, case, support)
    if support.verdict in ("none", "unclear"):
        return Answer(said + (support.words if support.verdict == "none" else ""), STATED, evidence, also=also(support))
    if support.verdict == "absent":
        text = f"{said} The heat map finds no support for it (probability {support.probability:.0%})."
        return Answer(text, DISPUTED, evidence, also=also(support))
    peak_organ = support.evidence.organ
    agrees = not peak_organ or not first.mention.organs or _is_within(peak_organ, first.mention.organs)
    word = "agrees: it peaks" if agrees else "disagrees: it peaks"
    text = f"{said} The heat map {word}{support.words}."
    return Answer(text, SURE if agrees else DISPUTED, evidence, also=also(support))


def _is_within(organ: str, organs: tuple[str, ...]) -> bool:
    parts = set().union(*(parts_of(name) for name in organs))
    return bool(parts & parts_of(organ))


def _from_heat_map(question: Question, case: CaseEvidence, side_only: bool) -> Answer:
    """The report names no place: a heat map that supports the finding clearly may."""
    support = support_of(case, to_sentence(question.finding, (), ""))
    named = say_finding(question.finding)
    organ, peak = support.evidence.organ, support.evidence.peak_ras_mm
    side = side_of(organ) or _side_of_point(case, peak)
    if support.verdict != "present" or peak is None or (side_only and not side):
        return abstain(f"neither the report nor the heat map gives a place for {named}.{_why(support)}", *also(support))
    place = say_side(side) if side_only else ""  # type: ignore[arg-type]
    text = f"The report gives no place. The heat map of {named} peaks {place}{support.words} ".replace("  ", " ")
    text += f"(probability {support.probability:.0%})."
    return Answer(text, support.probability, support.evidence)


def _why(support: Support) -> str:
    return support.words if support.verdict == "none" else f" The heat map's probability is {support.probability:.0%}."


def _side_of_point(case: CaseEvidence, point: tuple[float, float, float] | None) -> str:
    """Side of a patient point (x grows to the right) from the middle between the lungs; "" within 10 mm of it."""
    left, right = case.measure("lung_left"), case.measure("lung_right")
    if point is None or left is None or right is None:
        return ""
    from_middle_mm = point[0] - (left.centroid_ras_mm[0] + right.centroid_ras_mm[0]) / 2
    return "" if abs(from_middle_mm) < 10 else "right" if from_middle_mm > 0 else "left"


def _locate_organ(question: Question, case: CaseEvidence) -> Answer:
    organ, centre = case.place_of(question.organs)
    if centre is None:
        missing = case.masks.missing.get(organ, "") if case.masks else "no organ masks were made"
        return abstain(f"{say_organs(question.organs)} was not found in the masks. {missing}".strip())
    x, y, z = centre
    text = f"The centre of the {say_organs((organ,))} lies at ({x:.0f}, {y:.0f}, {z:.0f}) mm, by the organ masks."
    return Answer(text, STATED, Evidence("masks", organ, centre))
