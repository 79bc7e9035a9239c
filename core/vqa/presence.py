"""Is it there? The report's word and the heat map's, and whether they agree."""

from core.report.organs import names_with_side
from core.report.places import USUAL_ORGANS
from core.vqa.evidence import Answer, CaseEvidence, Evidence, Measurement, abstain
from core.vqa.heart import ENLARGED_ABOVE, NORMAL_BELOW, measure_heart_width
from core.vqa.question import Question
from core.vqa.statements import (
    Statement,
    is_at_asked_place,
    is_definite,
    most_detailed,
    statements_about,
    with_existence,
)
from core.vqa.support import Support, support_of
from core.vqa.wording import (
    say_finding,
    say_mention,
    say_place,
    say_where,
    say_with_article,
    to_sentence,
)

SURE = 0.95  # report and heat map agree
STATED = 0.85  # the report alone
LONGEST_GROUNDED = 300
"""Characters; an engine's text encoder cuts longer sentences."""
DISPUTED = 0.5  # they disagree, or the report leaves it open


def answer_presence(question: Question, case: CaseEvidence) -> Answer:
    """Present, absent or cannot tell, with where to look."""
    if question.finding == "Cardiomegaly":
        measured = _answer_heart(question, case)
        if measured:
            return measured
    statements = statements_about(case.report, question)
    here = [statement for statement in statements if is_at_asked_place(statement, question)]
    elsewhere = [s for s in with_existence(statements, "present") if is_definite(s) and s not in here]
    if elsewhere and not any(is_definite(statement) for statement in with_existence(here, "present")):
        return _elsewhere(question, case, elsewhere[0])
    for existence, answer in (("present", _stated), ("uncertain", _left_open), ("absent", _denied)):
        chosen = with_existence(here, existence)  # type: ignore[arg-type]
        if chosen:
            return answer(question, case, most_detailed(chosen))
    return _unmentioned(question, case)


def report_evidence(statement: Statement, case: CaseEvidence, support: Support | None = None) -> Evidence:
    """The sentence as evidence; it jumps to the heat map's peak, else to the organ's centre."""
    mention = statement.mention
    organ, centre = case.place_of(mention.organs)
    supported = support is not None and support.verdict in ("present", "unclear") and support.is_in_place
    peak = support.evidence.peak_ras_mm if support and supported else centre
    size = Measurement(mention.size_mm, "mm") if mention.size_mm is not None else None
    return Evidence("report", organ, peak, size, statement.sentence.index)


def also(support: Support) -> tuple[Evidence, ...]:
    """The heat map as further evidence, if there is one."""
    return () if support.verdict == "none" else (support.evidence,)


def claim_of(statement: Statement) -> str:
    """What to ground: the sentence itself, or its one finding as a plain sentence when it says more than that."""
    mention, sentence = statement.mention, statement.sentence
    if len(sentence.mentions) == 1 and mention.existence == "present" and len(sentence.text) <= LONGEST_GROUNDED:
        return sentence.text
    return to_sentence(mention.finding, mention.organs, mention.laterality)


def _stated(_question: Question, case: CaseEvidence, statement: Statement) -> Answer:
    support = support_of(case, claim_of(statement), statement.mention.organs)
    said = f"Yes. The report states {say_mention(statement.mention)} (sentence {statement.sentence.index})."
    evidence = report_evidence(statement, case, support)
    if support.verdict == "present":
        word = "agrees: it peaks" if support.is_in_place else "peaks elsewhere:"
        text = f"{said} The heat map {word}{support.words}."
        return Answer(text, SURE if support.is_in_place else DISPUTED, evidence, also=also(support))
    if support.verdict == "absent":
        text = f"{said} The heat map does not support it (probability {support.probability:.0%}): the two disagree."
        return Answer(text, DISPUTED, evidence, also=also(support))
    return Answer(said + _missing(support), STATED, evidence, also=also(support))


def _denied(question: Question, case: CaseEvidence, statement: Statement) -> Answer:
    support = support_of(case, to_sentence(question.finding, question.organs, question.side))
    said = f"No. The report says there is no {say_finding(question.finding)} (sentence {statement.sentence.index})."
    evidence = report_evidence(statement, case)
    if support.verdict == "present":
        text = f"{said} The heat map finds support for one{support.words} (probability {support.probability:.0%}): "
        return Answer(text + "the two disagree.", DISPUTED, evidence, also=also(support))
    if support.verdict == "absent":
        return Answer(f"{said} The heat map finds no support either.", SURE, evidence, also=also(support))
    return Answer(said + _missing(support), STATED, evidence, also=also(support))


def _left_open(question: Question, case: CaseEvidence, statement: Statement) -> Answer:
    support = support_of(case, claim_of(statement))
    said = (
        f"Uncertain. The report leaves {say_with_article(question.finding)} open (sentence {statement.sentence.index})."
    )
    word = {
        "present": f" The heat map supports it{support.words} (probability {support.probability:.0%}).",
        "absent": f" The heat map does not support it (probability {support.probability:.0%}).",
    }.get(support.verdict, _missing(support))
    return Answer(said + word, DISPUTED, report_evidence(statement, case, support), also=also(support))


def _elsewhere(question: Question, case: CaseEvidence, statement: Statement) -> Answer:
    """Stated, but not where it was asked for."""
    asked = say_where(question.finding, question.organs, question.side) or say_place(question.organs)
    said = f"Not as far as the report says: it states {say_mention(statement.mention)} "
    text = f"{said}(sentence {statement.sentence.index}) and nothing {asked}."
    return Answer(text, DISPUTED, report_evidence(statement, case))


def _unmentioned(question: Question, case: CaseEvidence) -> Answer:
    """The report is silent or missing: only a clear heat map answers."""
    support = support_of(case, to_sentence(question.finding, question.organs, question.side), expected_organs(question))
    silent = "The report does not mention it." if case.report else "There is no report."
    named = say_with_article(question.finding)
    if support.verdict == "present" and not support.is_in_place:
        return abstain(
            f"{_uncapitalised(silent)} The heat map of {named} peaks elsewhere,{support.words}.", *also(support)
        )
    if support.verdict == "present":
        text = (
            f"Probably. {silent} The heat map supports {named}{support.words} (probability {support.probability:.0%})."
        )
        return Answer(text, support.probability, support.evidence)
    if support.verdict == "absent":
        text = f"Probably not. {silent} The heat map does not support {named} (probability {support.probability:.0%})."
        return Answer(text, 1 - support.probability, support.evidence)
    return abstain(f"{_uncapitalised(silent)}{_unclear(support)}{_similar_cases(question, case)}", *also(support))


def _unclear(support: Support) -> str:
    if support.verdict == "unclear":
        return " The heat map cannot tell."
    return support.words or " There is no heat map."


def expected_organs(question: Question) -> tuple[str, ...]:
    """Where a heat map must peak to support the question: the place asked for, else the finding's usual one."""
    usual = tuple(n for part in USUAL_ORGANS.get(question.finding, ()) for n in names_with_side(part, question.side))
    return question.organs or usual


def _missing(support: Support) -> str:
    """A word on a heat map that could not decide or could not be made."""
    if support.verdict == "unclear":
        return " The heat map cannot tell."
    return support.words if support.verdict == "none" else ""


def _similar_cases(question: Question, case: CaseEvidence) -> str:
    """How often similar cases have it: a hint, never an answer."""
    known = [hit.labels[question.finding] for hit in case.retrieved if question.finding in hit.labels]
    if not known:
        return ""
    return f" Of {len(known)} similar cases in the collection, {sum(known)} have it; that says nothing of this patient."


def _uncapitalised(text: str) -> str:
    return text[:1].lower() + text[1:]


def _answer_heart(question: Question, case: CaseEvidence) -> Answer | None:
    """Heart size from the cardiothoracic ratio, beside what the report says; None without masks."""
    width = measure_heart_width(case.masks, case.grid) if case.masks is not None and case.grid is not None else None
    if width is None:
        return None
    verdict = "absent" if width.ratio < NORMAL_BELOW else "present" if width.ratio > ENLARGED_ABOVE else "uncertain"
    measured = f"The cardiothoracic ratio measured on axial CT is {width.ratio:.2f} "
    measured += f"(heart {width.heart_mm:.0f} mm, chest {width.chest_mm:.0f} mm)."
    organ, centre = case.place_of(("heart",))
    evidence = Evidence("masks", organ, centre, Measurement(width.ratio, "cardiothoracic ratio"))
    stated = statements_about(case.report, question)
    if not stated:
        word = {"present": "Probably.", "absent": "Probably not.", "uncertain": "Borderline."}[verdict]
        return Answer(f"{word} {measured}", 0.6 if verdict == "uncertain" else 0.75, evidence)
    told = max(stated, key=lambda s: s.mention.existence == "present")
    agrees = told.mention.existence == verdict
    word = {"present": "Yes.", "absent": "No.", "uncertain": "Uncertain."}[told.mention.existence]
    said = f"{word} The report says so (sentence {told.sentence.index}). {measured}"
    disputes = {told.mention.existence, verdict} == {"present", "absent"}
    text = said + (" The two disagree." if disputes else "")
    confidence = SURE if agrees else DISPUTED if disputes else STATED
    return Answer(text, confidence, report_evidence(told, case), also=(evidence,))
