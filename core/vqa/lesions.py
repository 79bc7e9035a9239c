"""Where, on which side, how large: questions about a finding that is there."""

from core.report.sizes import find_sizes
from core.structures import side_of
from core.vqa.evidence import Answer, CaseEvidence, Evidence, abstain
from core.vqa.presence import DISPUTED, STATED, SURE, also, claim_of, expected_organs, report_evidence
from core.vqa.question import Question
from core.vqa.statements import (
    Statement,
    is_at_asked_place,
    is_definite,
    most_definite,
    most_detailed,
    statements_about,
    with_existence,
)
from core.vqa.support import Support, support_of
from core.vqa.wording import say_finding, say_organs, say_place, say_side, say_where, say_with_article, to_sentence


def answer_location(question: Question, case: CaseEvidence) -> Answer:
    """The structures that hold the finding; without a finding, the centre of the organ asked for."""
    if not question.finding:
        return _locate_organ(question, case)
    found = stated_here(question, case)
    if not found:
        return _from_heat_map(question, case, side_only=False)
    places = list(dict.fromkeys(say_statement_place(s) for s in found if is_definite(s) and s.mention.organs))
    first = most_detailed(found)
    if not places:
        return _from_heat_map(question, case, side_only=False)
    support = support_of(case, claim_of(first), first.mention.organs)
    said = f"The report puts {say_with_article(question.finding)} {'; '.join(places)} (sentence {say_numbers(found)})."
    return _with_support(said, first, case, support)


def answer_side(question: Question, case: CaseEvidence) -> Answer:
    """Left, right or both."""
    found = [s for s in stated_here(question, case) if s.mention.laterality]
    if not found:
        return _from_heat_map(question, case, side_only=True)
    sides = {side for s in found for side in _sides(s)}
    side = "bilateral" if len(sides) > 1 else next(iter(sides))
    first = most_detailed(found)
    support = support_of(case, claim_of(first), first.mention.organs)
    said = f"The report puts {say_with_article(question.finding)} {say_side(side)} (sentence {say_numbers(found)})."  # type: ignore[arg-type]
    return _with_support(said, first, case, support)


def answer_size(question: Question, case: CaseEvidence) -> Answer:
    """Diameters as the report states them; organ masks hold no lesions, so nothing else measures one."""
    found = stated_here(question, case)
    sized = sorted((s for s in found if s.mention.sizes_mm), key=lambda s: -max(s.mention.sizes_mm))
    if not sized:
        return _without_size(question, case, found)
    support = support_of(case, claim_of(sized[0]), sized[0].mention.organs)
    evidence = report_evidence(sized[0], case, support)
    told = list(dict.fromkeys(_say_size(s) for s in sized))
    text = _verdict(question, sized) + f"The report gives {'; '.join(told)} (sentence {say_numbers(sized)})."
    if support.verdict == "absent":
        text += f" The heat map does not support it (probability {support.probability:.0%})."
        return Answer(text, DISPUTED, evidence, also=also(support))
    return Answer(text, STATED, evidence, also=also(support))


def _verdict(question: Question, sized: list[Statement]) -> str:
    """ "Yes. " or "No. " when the question names a limit ("larger than 8 mm")."""
    limits = [mm for size in find_sizes(question.text) for mm in size.diameters_mm]
    if not limits or not question.wants:
        return ""
    largest = max(max(s.mention.sizes_mm) for s in sized)
    holds = {"larger": largest > limits[0], "smaller": largest < limits[0], "equal": largest == limits[0]}
    return "Yes. " if holds[question.wants] else "No. "


def stated_here(question: Question, case: CaseEvidence) -> list[Statement]:
    """Statements that it is present at the place asked for; those that say where, if any does."""
    about = with_existence(statements_about(case.report, question), "present")
    return most_definite([statement for statement in about if is_at_asked_place(statement, question)])


def say_numbers(found: list[Statement]) -> str:
    """Sentence numbers, "1, 4"."""
    return ", ".join(str(number) for number in dict.fromkeys(s.sentence.index for s in found))


def _say_size(statement: Statement) -> str:
    diameters = " x ".join(f"{size:g}" for size in statement.mention.sizes_mm[:3])
    mention = statement.mention
    where = say_where(mention.finding, mention.organs, mention.laterality)
    return f"{diameters} mm for {say_with_article(mention.finding)} {where}".rstrip()


def say_statement_place(statement: Statement) -> str:
    """Where a statement puts its finding, "" if it does not say."""
    mention = statement.mention
    return say_where(mention.finding, mention.organs, mention.laterality) or say_place(mention.organs)


def _sides(statement: Statement) -> set[str]:
    side = statement.mention.laterality
    return {"left", "right"} if side == "bilateral" else {side}


def _without_size(question: Question, case: CaseEvidence, found: list[Statement]) -> Answer:
    named = say_finding(question.finding)
    if found:
        reason = f"the report states {named} (sentence {say_numbers(found)}) but no size; organ masks hold no lesions."
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
    agrees = support.is_in_place
    word = "agrees: it peaks" if agrees else "disagrees: it peaks"
    text = f"{said} The heat map {word}{support.words}."
    return Answer(text, SURE if agrees else DISPUTED, evidence, also=also(support))


def _from_heat_map(question: Question, case: CaseEvidence, side_only: bool) -> Answer:
    """The report names no place: a heat map that supports the finding clearly may."""
    support = support_of(case, to_sentence(question.finding, (), ""), expected_organs(question))
    named = say_finding(question.finding)
    organ, peak = support.evidence.organ, support.evidence.peak_ras_mm
    side = side_of(organ) or _side_of_point(case, peak)
    if support.verdict != "present" or not support.is_in_place or peak is None or (side_only and not side):
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
        reason = f"the {say_organs(question.organs)} was not found" + (f": {missing}" if missing else "")
        return abstain(f"{reason}.")
    x, y, z = centre
    text = f"The centre of the {say_organs((organ,))} lies at ({x:.0f}, {y:.0f}, {z:.0f}) mm, by the organ masks."
    return Answer(text, STATED, Evidence("masks", organ, centre))
