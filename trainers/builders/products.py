"""The four kinds of files, by rules or by a language model: from one report to its entry, from entries to a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from core.organ_map import OrganMap
from core.retrieval.table import ReportRow
from trainers.builders import dialogue, rules
from trainers.builders.answers import AnswerCache
from trainers.builders.dialogue import Interview, LanguageModel
from trainers.builders.files import (
    OrganText,
    Triplet,
    distilled_to_csv,
    organ_state_to_json,
    organ_text_to_json,
    triplets_to_csv,
)
from trainers.builders.journal import Entry

Kind = Literal["organ-text", "organ-state", "triplets", "distill"]


@dataclass(frozen=True)
class Wish:
    """What is to be made of every report."""

    kind: Kind
    """Which file."""
    organs: OrganMap
    """For organ-text and organ-state."""
    rule: rules.StateRule = "impression"
    """For organ-state by rules."""
    is_unmentioned_normal: bool = True
    """For organ-state by a language model: whether an organ that a report leaves out is normal, or not known."""
    entities: tuple[str, ...] = ()
    """For distill: speak only of findings with one of these words in their name; () = all."""


class Product(NamedTuple):
    """How the entries of a kind become a file."""

    restore: Callable[[Any], Any]  # plain JSON -> typed value
    to_text: Callable[[Mapping[str, Any]], str]


PRODUCTS: dict[Kind, Product] = {
    "organ-text": Product(lambda organs: {o: OrganText(*text) for o, text in organs.items()}, organ_text_to_json),
    "organ-state": Product(dict, organ_state_to_json),
    "triplets": Product(lambda rows: [Triplet(*row) for row in rows], triplets_to_csv),
    "distill": Product(str, distilled_to_csv),
}


@dataclass(frozen=True)
class ByRules:
    """One report -> its entry, by the parser alone; can be sent to other processes."""

    wish: Wish
    """What is to be made."""

    def __call__(self, row: ReportRow) -> Entry:
        wish, report = self.wish, rules.read_report(row)
        if wish.kind == "organ-text":
            return Entry(rules.organ_texts(report, wish.organs), [])
        if wish.kind == "organ-state":
            states = rules.organ_states(report, wish.organs, wish.rule)
            lacking = [] if states else ["no impression, so its organs are not known; --rule stated needs none"]
            return Entry(states, lacking)
        triplets = rules.triplets(report)
        return Entry(triplets if wish.kind == "triplets" else rules.distil(triplets, wish_for(wish.entities)), [])


@dataclass(frozen=True)
class ByModel:
    """One report -> its entry, by asking a language model; what it could not answer is listed beside it."""

    wish: Wish
    """What is to be made."""
    model: LanguageModel
    """Who is asked."""
    cache: AnswerCache
    """Where usable answers are kept."""
    attempts: int = 3
    """How often one question is asked."""
    thought_tokens: int = 0
    """Room for thoughts before each answer."""

    def __call__(self, row: ReportRow) -> Entry:
        interview = Interview(self.model, self.cache, self.attempts, self.thought_tokens)
        value = self._value(interview, row)
        return Entry(value, [_flag_text(flag) for flag in interview.flags])

    def _value(self, interview: Interview, row: ReportRow) -> Any:
        wish = self.wish
        if wish.kind == "organ-text":
            return dialogue.organ_texts(interview, row, wish.organs)
        if wish.kind == "organ-state":
            return self._states(interview, row)
        if wish.kind == "triplets":
            return dialogue.triplets(interview, row)
        return dialogue.distilled(interview, row, wish.entities)

    def _states(self, interview: Interview, row: ReportRow) -> dict[str, bool]:
        states = dialogue.organ_states(interview, row, self.wish.organs)
        flagged = {flag.organ for flag in interview.flags}
        if not self.wish.is_unmentioned_normal:
            return states
        return {
            name: states.get(name, False) for name in self.wish.organs.names if name in states or name not in flagged
        }


def wish_for(entities: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a finding's name has one of the entities among its words; all have when there are none."""
    wanted = [f" {' '.join(entity.lower().split())} " for entity in entities]
    return lambda finding: not wanted or any(entity in f" {finding.lower()} " for entity in wanted)


def _flag_text(flag: dialogue.Flag) -> str:
    about = f" about {flag.organ}" if flag.organ else ""
    return f"no usable answer to the question {flag.step}{about}; the last one began {flag.answer!r}"
