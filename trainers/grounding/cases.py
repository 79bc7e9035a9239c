"""Cases to judge heat maps on: a CT, sentences about it, and where each of them is true."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np

from core.anatomy.masks import OrganMasks
from core.errors import ConfigError, ReportError
from core.grounding.query import SentenceQuery
from core.report.mentions import read_sentence
from core.report.named_places import SentencePlaces, named_places
from core.report.parsed import Laterality
from core.report.rephrase import negate_sentence
from core.structures import BY_NAME, UNIONS
from core.volume import Volume

UNNAMED = "other"
"""Finding of a sentence in which the report parser knows none."""
SIDES = ("left", "right", "bilateral", "")


class Sentence(NamedTuple):
    """A sentence about a CT, as the page would read it."""

    text: str
    finding: str  # what figures are grouped by
    organs: tuple[str, ...]  # structures it names
    said: SentencePlaces  # where it says to look

    @property
    def side(self) -> Laterality:
        """The side that it names."""
        return self.said.side

    def query(self, index: int) -> SentenceQuery:
        """What is looked for in the CT."""
        return SentenceQuery(index, self.text, negate_sentence(self.text), self.organs, self.said)


class Question(NamedTuple):
    """A sentence that is true or false of a CT."""

    sentence: Sentence
    is_true: bool


@dataclass(frozen=True, eq=False)
class Truth:
    """A sentence and where it is true."""

    sentence: Sentence
    source: str
    """Where its mask comes from, for messages."""
    read: Callable[[Volume], np.ndarray]
    """The CT -> mask (X, Y, Z) bool on its RAS grid, True = finding. StudyError for a mask that does not fit."""


@dataclass(frozen=True, eq=False)
class OpenedCase:
    """A case in memory."""

    volume: Volume
    masks: OrganMasks | None
    """Organs; None: it brings none."""
    truths: tuple[Truth, ...]
    questions: tuple[Question, ...]
    warnings: tuple[str, ...] = ()
    """What a person should know."""

    def with_masks(self, masks: OrganMasks) -> "OpenedCase":
        """The same with organ masks."""
        return replace(self, masks=masks)


@dataclass(frozen=True, eq=False)
class Case:
    """A case that can be opened."""

    name: str
    patient: str
    """Cases of one patient are drawn together by the bootstrap."""
    key: str
    """Changes when the case does."""
    open: Callable[[], OpenedCase]
    """AsapError says why it cannot be."""


class Problem(NamedTuple):
    """What was left out, or is doubtful."""

    case: str
    sentence: str  # "" = the whole case
    reason: str


def read_as_page(text: str, finding: str = "", organs: tuple[str, ...] = (), side: str = "") -> Sentence:
    """A sentence with what the report parser makes of it, where nothing is said for it.

    Raises ReportError without words, ConfigError for structures or sides that do not exist.
    """
    if not any(character.isalpha() for character in text):
        raise ReportError(f"The sentence is {text.strip()[:40]!r}; expected words of a report.")
    unknown = [name for name in organs if name not in BY_NAME and name not in UNIONS]
    if unknown:
        raise ConfigError(f"There is no structure {unknown[0]!r}; expected names such as lung_lower_lobe_left, heart.")
    if side not in SIDES:
        raise ConfigError(f"The side is {side!r}; expected left, right, bilateral or nothing.")
    told, said = read_sentence(text), named_places(text)
    found = finding.strip() or next((mention.finding for mention in told.mentions), UNNAMED)
    if organs:
        said = said._replace(places=SentenceQuery(0, "", "", organs).places.places)
    if side:
        said = said._replace(side=cast(Laterality, side))
    return Sentence(text.strip(), found, organs or told.organs, said)
