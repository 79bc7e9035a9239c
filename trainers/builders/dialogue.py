"""Asking a language model about one report: cached, retried when an answer has another form, then flagged."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from core.organ_map import OrganMap
from core.report.sentences import split_sentences
from core.retrieval.table import ReportRow
from trainers.builders.answers import AnswerCache
from trainers.builders.files import OrganText, Triplet
from trainers.builders.prompts import (
    Question,
    ask_distilled,
    ask_extract,
    ask_mentioned,
    ask_triplets,
    ask_verdict,
    plain_answer,
)
from trainers.builders.rules import given_impression

SHOWN_CHARACTERS = 80
"""Of an unusable answer, in the list of problems."""


class LanguageModel(Protocol):
    """Something that answers questions in words."""

    @property
    def name(self) -> str:
        """What tells its answers from those of another model."""
        ...

    def answers(self, questions: Sequence[Question]) -> list[str]:
        """One answer per question, "" for one that was cut off at its `most_tokens`.

        Raises EngineError when the model cannot be asked at all, ReportError when it cannot be asked this.
        """
        ...


class Flag(NamedTuple):
    """A question that got no usable answer."""

    step: str
    organ: str
    answer: str  # the beginning of the last one


class Interview:
    """Questions about one report, and the flags they leave."""

    def __init__(self, model: LanguageModel, cache: AnswerCache, attempts: int = 3, thought_tokens: int = 0) -> None:
        self.model, self.cache = model, cache
        self.attempts, self.thought_tokens = attempts, thought_tokens
        self.flags: list[Flag] = []

    def ask(self, questions: Sequence[Question]) -> list[Any]:
        """What each answer says, None where none had the asked form."""
        told: list[Any] = [self._kept(question) for question in questions]
        for attempt in range(self.attempts):
            open_places = [place for place, value in enumerate(told) if value is None]
            if not open_places:
                break
            asked = [self._posed(questions[place], is_again=attempt > 0) for place in open_places]
            is_last = attempt == self.attempts - 1
            for place, answer in zip(open_places, self.model.answers(asked), strict=True):
                told[place] = self._read(questions[place], plain_answer(answer), is_last)
        return told

    def _kept(self, question: Question) -> Any:
        answer = self.cache.find(question)
        return None if answer is None else question.read(answer)

    def _posed(self, question: Question, is_again: bool) -> Question:
        """The question as the model gets it: with room for thoughts, and the form once more when it was missed."""
        task = f"{question.task}\nYour last answer had another form. {question.reminder}" if is_again else question.task
        return question._replace(task=task, most_tokens=question.most_tokens + self.thought_tokens)

    def _read(self, question: Question, answer: str, is_last: bool) -> Any:
        value = question.read(answer)
        if value is not None:
            self.cache.keep(question, answer)
        elif is_last:
            self.flags.append(Flag(question.step, question.organ, " ".join(answer.split())[:SHOWN_CHARACTERS]))
        return value


def organ_texts(interview: Interview, row: ReportRow, organs: OrganMap) -> dict[str, OrganText]:
    """As `rules.organ_texts`; an organ whose answers cannot be used is left out."""
    sections = [_extracts(interview, text, organs) for text in (row.findings, given_impression(row))]
    flagged = {flag.organ for flag in interview.flags}
    texts = {name: OrganText(*(section.get(name, "") for section in sections)) for name in organs.names}
    return {name: text for name, text in texts.items() if any(text) and name not in flagged}


def organ_states(interview: Interview, row: ReportRow, organs: OrganMap) -> dict[str, bool]:
    """Organ -> True = abnormal by the whole report, only for organs that it mentions."""
    mentioned = {
        organ for text in (row.findings, given_impression(row)) for organ in _mentioned(interview, text, organs)
    }
    asked = [ask_verdict(name, row.text, organs) for name in organs.names if name in mentioned]
    verdicts = zip(asked, interview.ask(asked), strict=True)
    return {question.organ: verdict for question, verdict in verdicts if verdict is not None}


def triplets(interview: Interview, row: ReportRow) -> list[Triplet]:
    """As `rules.triplets`, numbered in the same way."""
    sentences = [span.text for text in (row.findings, row.impression) for span in split_sentences(text)]
    (told,) = interview.ask([ask_triplets(sentences)]) if sentences else [[]]
    return told or []


def distilled(interview: Interview, row: ReportRow, entities: Sequence[str]) -> str:
    """Short statements about the whole report; "" when the model had nothing usable to say."""
    (told,) = interview.ask([ask_distilled(row.text, entities)])
    return told or ""


def _mentioned(interview: Interview, text: str, organs: OrganMap) -> list[str]:
    """Names of organs that a section speaks of."""
    if not text.strip():
        return []
    asked = [ask_mentioned(name, text, organs) for name in organs.names]
    return [name for name, is_mentioned in zip(organs.names, interview.ask(asked), strict=True) if is_mentioned]


def _extracts(interview: Interview, text: str, organs: OrganMap) -> dict[str, str]:
    """Organ -> what a section says of it."""
    asked = [ask_extract(name, text, organs) for name in _mentioned(interview, text, organs)]
    return {question.organ: told or "" for question, told in zip(asked, interview.ask(asked), strict=True)}
