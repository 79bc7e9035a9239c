"""Which organs and which side of a sentence belong to which of its findings."""

from typing import NamedTuple

from core.report.organs import SIDES, OrganMention, side_words, single_side
from core.report.parsed import Existence, Laterality
from core.report.words import Span

_LINKS = frozenset(", ; : ( of in at with without no not but and or as is are was were on from by".split())
_NEAR = frozenset("adjacent near neighboring neighborhood beside next close level towards abutting behind".split())
OWN_PLACE = frozenset(
    ("Pleural effusion", "Pericardial effusion", "pneumothorax", "Coronary artery wall calcification", "Hiatal hernia")
)
"""Findings whose own place is part of their name; organs named beside them are added."""


MIDLINE = frozenset(
    ("Cardiomegaly", "Pericardial effusion", "Coronary artery wall calcification", "Arterial wall calcification")
) | {"Hiatal hernia", "Lymphadenopathy"}
"""Findings that have no side unless it is said of them."""


class Found(NamedTuple):
    """A finding term with its clause."""

    span: Span
    clause: tuple[int, int]
    existence: Existence


class Placement:
    """The organs of a sentence, to be shared out among its findings."""

    def __init__(self, words: list[str], organs: list[OrganMention], found: list[Found]) -> None:
        taken = {i for organ in organs for i in range(organ.start, organ.end)}
        self.words = words
        self.free_words = ["" if i in taken else word for i, word in enumerate(words)]
        """The words with organs blanked: the right atrium and the left lobe of the liver give no side."""
        self.organs = organs
        self.found = found
        held = {id(organ) for item in found for organ in self.inside(item)}
        self._free = [organ for organ in organs if id(organ) not in held]

    def inside(self, item: Found) -> list[OrganMention]:
        """Organs that are part of the finding's own words ("pleural effusion")."""
        return [organ for organ in self.organs if organ.start < item.span.end and organ.end > item.span.start]

    def organs_of(self, position: int) -> list[OrganMention]:
        """Organs said of a finding: those that follow it or stand right before it, else its list's, else those ahead.

        Inherited organs must lie on the finding's own side, if it has one ("and an effusion on the right").
        """
        item, own = self.found[position], self._own(position)
        is_vague = all(organ.kind == "lung" and organ.start < item.span.start for organ in own)  # "pulmonary mass"
        if own and not is_vague:
            return self._firm(own, item)
        side = self._own_side(position)
        inherited = [organ for organ in self._inherited(position) if not side or organ.side in ("", side)]
        if own:
            inherited = [*own, *(organ for organ in inherited if organ.kind in ("lobe", "segment"))]
        return self._firm(inherited, item)

    def _firm(self, organs: list[OrganMention], item: Found) -> list[OrganMention]:
        """Without organs that are only near ("adjacent to the aorta"), unless no other is named."""
        firm = [organ for organ in organs if not is_only_near(self.words, organ)]
        return firm if firm or self.inside(item) else organs

    def side_of(self, position: int, placed: list[OrganMention]) -> Laterality:
        """The side of the organs, else the side beside the finding, else any in its clause."""
        item = self.found[position]
        organs = single_side({organ.side for organ in [*placed, *self.inside(item)]})
        told = organs or self._own_side(position)
        if told or item.span.key in MIDLINE or not self._speaks_alike(item):
            return told
        return single_side(side_words(self.free_words, *item.clause))

    def _speaks_alike(self, item: Found) -> bool:
        """Whether all findings of the clause are present, or all absent: "without X" has no part in what is before."""
        return {other.existence for other in self.found if other.clause == item.clause} == {item.existence}

    def _own(self, position: int) -> list[OrganMention]:
        span, clause = self.found[position].span, self.found[position].clause
        nexts = [item.span for item in self.found if item.span.start >= span.end and item.clause == clause]
        end = nexts[0].start if nexts else clause[1]
        after = [
            organ
            for organ in self._free
            if span.end <= organ.start < end and not (nexts and self._is_premodifier(organ, nexts[0]))
        ]
        before = [organ for organ in self._free if organ.start >= clause[0] and self._is_premodifier(organ, span)]
        return [*before, *after]

    def _is_premodifier(self, organ: OrganMention, span: Span) -> bool:
        """ "right lower lobe nodule": the organ stands right before the finding."""
        return 0 <= span.start - organ.end <= 3 and _LINKS.isdisjoint(self.words[organ.end : span.start])

    def _inherited(self, position: int) -> list[OrganMention]:
        item = self.found[position]
        mates = [p for p in range(position + 1, len(self.found)) if self.found[p].clause == item.clause]
        for mate in mates:
            behind = [organ for organ in self._own(mate) if organ.start >= item.span.end]
            shared = behind or self._vessels(item, self.found[mate])
            if shared:
                return shared
        start, end = item.clause[0], item.span.start
        ahead = [organ for organ in self._free if start <= organ.start and organ.end <= end]
        if not self._speaks_alike(item):
            ahead = [organ for organ in ahead if not self._belongs_to_other(organ, item)]
        if ahead or item.span.key in OWN_PLACE:
            return ahead
        opening = max((i for i in range(start + 1) if self.words[i] == ";"), default=0)
        return [organ for organ in self._free if opening <= organ.start and organ.end <= start]

    def _belongs_to_other(self, organ: OrganMention, item: Found) -> bool:
        """Whether the organ is behind a finding of the clause that is there where this one is not, or the reverse."""
        before = [other for other in self.found if other.clause == item.clause and other.span.end <= organ.start]
        return any(other.existence != item.existence for other in before)

    def _vessels(self, item: Found, mate: Found) -> list[OrganMention]:
        """ "calcified plaque in the aorta and coronary calcification": plaque takes the vessel of the next finding."""
        return self.inside(mate) if item.span.key == "Arterial wall calcification" else []

    def _own_side(self, position: int) -> Laterality:
        """A side right before the finding, or "on the right" after it."""
        item = self.found[position]
        start = max(item.clause[0], item.span.start - 4)
        start = max([start, *(i for i in range(start, item.span.start) if self.words[i] == ",")])
        before = side_words(self.free_words, start, item.span.end)
        if before:
            return single_side(before)
        nexts = [other.span.start for other in self.found if other.span.start >= item.span.end]
        end = min([item.clause[1], *nexts])
        words = self.free_words
        after = {SIDES[words[i]] for i in range(item.span.end, end) if words[i] in SIDES and self._is_on(i)}
        return single_side(after or side_words(words, item.span.end, min(item.span.end + 1, end)))

    def _is_on(self, i: int) -> bool:
        return self.words[i - 1] in ("the", "on", "to") or SIDES[self.words[i]] == "bilateral"


def is_only_near(words: list[str], organ: OrganMention) -> bool:
    """Whether an organ is named as a neighbour of what the sentence speaks of ("adjacent to the aorta")."""
    before = words[max(0, organ.start - 5) : organ.start]
    breaks = max((i for i, word in enumerate(before) if word in (",", ";", ".", "in")), default=-1)
    return not _NEAR.isdisjoint(before[breaks + 1 :])
