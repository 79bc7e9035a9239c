"""A question about the open case -> an answer with its evidence, or "I can't tell"."""

from collections.abc import Callable

from core.vqa.counting import answer_count
from core.vqa.evidence import (
    CAN_BE_ASKED,
    Answer,
    CaseEvidence,
    Evidence,
    Measurement,
    abstain,
    describe_answer,
)
from core.vqa.lesions import answer_location, answer_side, answer_size
from core.vqa.measuring import answer_comparison, answer_density, answer_organ_size, answer_volume
from core.vqa.overview import answer_attribute, answer_change, answer_description, answer_normality
from core.vqa.presence import answer_presence
from core.vqa.question import Kind, Question, one_by_one, parse_question

__all__ = ["Answer", "CaseEvidence", "Evidence", "Measurement", "answer_question", "describe_answer"]


def answer_question(question: str, case: CaseEvidence) -> Answer:
    """Answer from the report, the organ masks and the heat map; say where they disagree; abstain rather than guess.

    Raises ReportError when the question is empty, not text or too long.
    """
    asked = parse_question(question)
    answers = [_ANSWERERS[one.kind](one, case) for one in one_by_one(asked)]
    return answers[0] if len(answers) == 1 else join_answers(answers)


def join_answers(answers: list[Answer]) -> Answer:
    """Several answers as one: as sure as the least sure, abstained only if all are."""
    told = [answer for answer in answers if not answer.abstained] or answers
    also = [*told[0].also, *(evidence for answer in told[1:] for evidence in (answer.evidence, *answer.also))]
    text = " ".join(answer.text for answer in answers)
    confidence = min(answer.confidence for answer in told)
    return Answer(text, confidence, told[0].evidence, all(answer.abstained for answer in answers), tuple(also))


def _answer_size(question: Question, case: CaseEvidence) -> Answer:
    return answer_size(question, case) if question.finding else answer_organ_size(question, case)


def _answer_unknown(_question: Question, _case: CaseEvidence) -> Answer:
    return abstain(f"the question names no finding or organ I know. {CAN_BE_ASKED}")


_ANSWERERS: dict[Kind, Callable[[Question, CaseEvidence], Answer]] = {
    "presence": answer_presence,
    "location": answer_location,
    "side": answer_side,
    "size": _answer_size,
    "count": answer_count,
    "comparison": answer_comparison,
    "volume": answer_volume,
    "density": answer_density,
    "change": answer_change,
    "attribute": answer_attribute,
    "normality": answer_normality,
    "description": answer_description,
    "unknown": _answer_unknown,
}
