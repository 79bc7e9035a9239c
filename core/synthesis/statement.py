"""One generated sentence and what it claims."""

from typing import NamedTuple

from core.report.parsed import Existence, Laterality


class Statement(NamedTuple):
    """A sentence, the fact it states first, and further facts of the same sentence."""

    text: str
    finding: str
    """As `core.report` names it; "" for a statement of normality."""
    existence: Existence
    organs: tuple[str, ...]
    """What the words name; a sentence may say less than the claim behind it."""
    laterality: Laterality
    size_mm: float | None
    kind: str
    """Key of `claims.KINDS`, or "normal"."""
    also: tuple["Statement", ...] = ()
    """Further facts, each with the whole sentence as its text and none in its own `also`."""

    @property
    def facts(self) -> tuple["Statement", ...]:
        """Every fact of the sentence, the first one included."""
        return (self, *self.also)
