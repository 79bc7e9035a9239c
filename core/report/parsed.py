"""What reading a report yields: sentences, what each says, and the 18 labels."""

from dataclasses import dataclass
from typing import Literal

Existence = Literal["present", "absent", "uncertain"]
Laterality = Literal["left", "right", "bilateral", ""]


@dataclass(frozen=True)
class Mention:
    """One finding as one sentence states it."""

    finding: str
    """A CT-RATE label where one fits, otherwise a lower-case noun phrase ("pneumothorax", "rib fracture")."""
    existence: Existence
    organs: tuple[str, ...]
    """Names of `core.structures` where it is said to be; empty when the sentence does not say."""
    laterality: Laterality
    sizes_mm: tuple[float, ...] = ()
    """Every diameter given for it, in mm, as written ("12 x 9 mm" -> 12.0, 9.0)."""

    @property
    def size_mm(self) -> float | None:
        """The largest stated diameter in mm."""
        return max(self.sizes_mm, default=None)


@dataclass(frozen=True)
class Sentence:
    """One sentence of a report."""

    index: int
    """Counts from 1."""
    text: str
    start: int
    """Offset of its first character in the report."""
    end: int
    """Offset after its last character."""
    mentions: tuple[Mention, ...]
    organs: tuple[str, ...]
    """Every structure the sentence names, with or without a finding ("The aorta is normal")."""
    laterality: Laterality = ""

    @property
    def existence(self) -> Existence:
        """What the sentence as a whole says: present if any finding is, else uncertain if any is, else absent.

        A sentence without a finding ("The heart is normal") is "absent": it states no abnormality.
        """
        states = {mention.existence for mention in self.mentions}
        if "present" in states:
            return "present"
        return "uncertain" if "uncertain" in states else "absent"


@dataclass(frozen=True)
class ParsedReport:
    """A whole report."""

    text: str
    sentences: tuple[Sentence, ...]
    labels18: dict[str, bool]
    """CT-RATE label -> whether the report says it is present."""
