"""A sentence as it is looked for in a CT."""

from dataclasses import dataclass

from core.grounding.presence import NOTHING_ASKED, Asked, asked_of
from core.report.named_places import NamedPlace, SentencePlaces, named_places
from core.report.parsed import Laterality, Sentence
from core.report.rephrase import negate_sentence
from core.structures import side_of


@dataclass(frozen=True)
class SentenceQuery:
    """A sentence to be found in the CT."""

    index: int
    """Counts from 1."""
    text: str
    negation: str
    """The same sentence saying the opposite."""
    organs: tuple[str, ...] = ()
    """Structures it names; heat is kept inside those that the masks contain. Empty = anywhere."""
    said: SentencePlaces | None = None
    """Where it says to look, side by side with `organs`; None = in `organs`, at something."""
    asked: Asked = NOTHING_ASKED
    """The finding it claims or denies."""

    @property
    def places(self) -> SentencePlaces:
        """Where it says to look."""
        if self.said is not None:
            return self.said
        return SentencePlaces(tuple(NamedPlace(name, _side_in(name)) for name in self.organs), "", True)

    def repeats(self, other: "SentenceQuery") -> bool:
        """Whether both claim, or both deny, one finding in what may be one place, as an impression does."""
        mine, theirs = set(self.organs), set(other.organs)
        is_apart = bool(mine and theirs) and mine.isdisjoint(theirs)
        return bool(self.asked.finding) and self.asked[:2] == other.asked[:2] and not is_apart


def query_of(sentence: Sentence) -> SentenceQuery:
    """What to look for when a report says `sentence`."""
    is_read = bool(sentence.organs or sentence.mentions or sentence.laterality)  # not in sections that state nothing
    said = named_places(sentence.text) if is_read else SentencePlaces((), "", True)
    asked = asked_of(sentence.mentions)
    return SentenceQuery(sentence.index, sentence.text, negate_sentence(sentence.text), sentence.organs, said, asked)


def _side_in(name: str) -> Laterality:
    side = side_of(name)
    return "left" if side == "left" else "right" if side == "right" else ""
