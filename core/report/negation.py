"""Whether a sentence says a finding is present, absent or uncertain: cues and how far they reach.

After the idea of NegEx (Chapman et al., J Biomed Inform 2001): cue words with a forward or backward scope that a
clause boundary ends. Clauses, pseudo-negations ("no change in the nodule") and lists are this project's own.
"""

from core.report.parsed import Existence
from core.report.words import Span, TermFinder

_SEEN = (
    "detected|observed|seen|present|identified|noted|found|demonstrated|visualized|visualised|evident|selected|shown"
    "|appreciated|visible|encountered|discernible|distinguished|recorded|reported|noticed|depicted|noteworthy|suspected"
)
_CHANGE = "change|difference|progression|regression|growth|alteration|contrast"
_DEGREE = (
    "significant|obvious|interval|new|definite|relevant|clear|apparent|marked|substantial|appreciable|important|iv"
    "|notable|visible|any|intravenous|meaningful|the|further|major|clinically|of"
)

CUES: dict[str, tuple[str, ...]] = {
    "ignored": (
        f"no|without {_CHANGE}",
        f"no|without {_DEGREE} {_CHANGE}",
        f"no|without {_DEGREE} {_DEGREE} {_CHANGE}",
        "no|without|not ~ increase|decrease ~ size|dimension|number|diameter|extent|volume",
        "not ~ changed|progressed|increased|decreased|grown",
        "no|without|non contrast",
        "no contrast ~ given|used|administered",
        "not only",
        "not pathological|pathologically|enlarged|specific",
        "cannot|not ~ characterized|differentiated|measured|given|used|included",
        "no specific",
        "no longer than",
        "no ~ comparison",
        "nearly|almost|partially|partly|incompletely|largely|mostly ~ resolved|regressed|disappeared|cleared",
        "has|have ~ nearly|almost|partially|partly|incompletely|largely|mostly ~ resolved|regressed|disappeared",
        "without ~ significance",
    ),
    "present": (
        "not absent|resolved|disappeared|regressed",
        "not ~ resolved|disappeared",
        "has|have|had|is|are|was|were not ~ resolved|disappeared|absent",
        "not without|free|negative|devoid",
        "no doubt",
        "without doubt",
    ),
    "absent after": (
        "no",
        "not",
        "without",
        "never",
        "neither|nor",
        "none ~ of",
        "absence of",
        "lack of",
        "free of|from",
        "clear of",
        "devoid of",
        "negative for",
        "is|are|was|were negative for",
        "rather than",
        "instead of",
        "exclude|excluded|excluding",
        "nothing ~ suggest|suggests",
        "rules|ruled out",
        "resolution of",
        "resolved|disappearance of",
        "resolved",
    ),
    "absent before": (
        f"not ~ {_SEEN}",
        "cannot ~ seen|observed|detected|identified|found|demonstrated|appreciated",
        f"no longer ~ {_SEEN}",
        f"no more {_SEEN}",
        "is|are|was|were absent",
        ": none",
        "absent",
        "not exist|there|available",
        "no longer",
        "has|have|had ~ resolved|disappeared|vanished|cleared",
        "is|are|was|were ~ resolved|excluded|negative",
        "completely|totally resolved|regressed|disappeared",
        "resolved|disappeared completely|totally",
        "disappeared|resolved|vanished",
        "is|was|are|were ruled out",
        "ruled out",
    ),
    "uncertain after": (
        "may|might|could|can ~ be|represent|belong|reflect|indicate|correspond",
        "may|might|could|can ~ be compatible|consistent|due|secondary ~ with|to",
        "possible|possibly|probable|probably|likely|presumably",
        "suspicious|suspected|suspicion|suspect",
        "suspicious|suspicion for|of",
        "suggestive|suggest|suggesting|suggests",
        "possibility of",
        "questionable|equivocal|doubtful",
        "cannot|not exclude|excluded",
        "cannot|not rule|ruled out",
        "concern|concerning|worrisome for",
        "differential diagnosis",
        "in terms of",
        "rule out",
        "r / o",
        "to exclude",
        "query",
    ),
    "uncertain before": (
        "cannot|not ~ excluded",
        "cannot|not ~ ruled out",
        "is|are|was|were not ~ excluded",
        "is|are|was|were not ~ ruled out",
        "is|are|was|were suspected|possible|probable|likely|questionable|considered|doubtful",
        "is|are less|more|most likely",
        "should ~ considered",
        "cannot ~ evaluated|assessed",
        "could|can not ~ evaluated|assessed",
        "cannot|not ~ clearly|optimally ~ evaluated|assessed|distinguished|selected",
        "cannot ~ distinguished",
        "in ~ differential diagnosis",
    ),
    "normal": (
        "normal|natural|unremarkable|usual",
        "within|in normal|natural|physiological limit|range",
        "preserved|intact",
        "nonpathological",
    ),
}
"""What a cue says of the words after or before it. "ignored" cues look like negations and are none."""

_FINDER = TermFinder(CUES)
_SEPARATORS = frozenset("; but however although though while whereas except".split())
_EXCEPTIONS = {
    "apart": "from",
    "aside": "from",
    "other": "than",
    "outside": "of",
    "except": "",
    "besides": "",
}
"""Opening word of an exception -> the word that must follow ("" = none)."""
_VERBS = frozenset(
    """is are was were has have had show showed demonstrate demonstrated reveal revealed contain appear seem persist
    can cannot could may might should will do doe did""".split()
)
_LISTED = _SEPARATORS | frozenset(", which that some largest where".split())
_STOPS = frozenset("due because secondary despite since after".split())
_FRESH_STARTS = frozenset(
    """a an there multiple several few some numerous mild minimal slight stable small moderate many one two three the
    another bilateral""".split()
)
_EARLIER = frozenset("previous previously prior earlier former past old before other".split())
_COMPARED = frozenset("compared comparison comparing".split())
NEGATED_BY_NORMAL = frozenset({"Lymphadenopathy", "*thickening", "esophageal wall thickening", "Cardiomegaly"})
"""Findings that "is normal" denies; for the others normal is said of the organ."""


def split_clauses(words: list[str]) -> list[tuple[int, int]]:
    """Token ranges in which a cue may reach: cut at "but", ";", and at "," or "and" between two full statements."""
    clauses, start = [], 0
    exception_open = _is_exception(words, 0)
    for i, word in enumerate(words):
        if i <= start:
            continue
        cut = word in _SEPARATORS or _is_exception(words, i)
        if not cut and word in (",", "and", "."):
            cut = exception_open and word == "," or _joins_statements(words, start, i)
        if cut:
            clauses.append((start, i))
            start, exception_open = i, _is_exception(words, i)
    clauses.append((start, len(words)))
    return [clause for clause in clauses if clause[0] < clause[1]]


def _is_exception(words: list[str], i: int) -> bool:
    follower = _EXCEPTIONS.get(words[i]) if i < len(words) else None
    return follower == "" or (follower is not None and words[i + 1 : i + 2] == [follower])


def _joins_statements(words: list[str], start: int, i: int) -> bool:
    """Whether a verb stands on both sides of the comma or "and" at token i, none in between belonging to a list."""
    if not any(words[k] in _VERBS and not _is_subordinate(words, k) for k in range(start, i)):
        return False
    if words[i + 1 : i + 2] and words[i + 1] in _VERBS:
        return False  # the verb's subject stands before the comma
    for word in words[i + 1 : i + 25]:
        if word in _VERBS or word in _LISTED:
            return word in _VERBS
    return False


def _is_subordinate(words: list[str], k: int) -> bool:
    """Whether the verb at token k only leads to or stands in another's clause: "it is understood that", "which is"."""
    return words[k + 2 : k + 3] == ["that"] or (k > 0 and words[k - 1] in ("which", "that"))


class Statement:
    """The cues of one clause, ready to be asked about the findings in it."""

    def __init__(self, words: list[str], clause: tuple[int, int]) -> None:
        self.words = words
        self.start, self.end = clause
        found = _FINDER.find(words[self.start : self.end])
        self.cues = [Span(cue.key, cue.start + self.start, cue.end + self.start) for cue in found]

    def existence_of(self, span: Span) -> Existence:
        """What the clause says of the finding at `span`."""
        if self._covers("present", span, before=True) or self._covers("present", span, before=False):
            return "present"
        if self._is_denied(span):
            return "absent"
        return "uncertain" if self._is_doubted(span) else "present"

    def _is_denied(self, span: Span) -> bool:
        if self._covers("absent after", span, before=False) or self._covers("absent before", span, before=True):
            return True
        if "not" in self.words[span.start : span.end] or self._is_cut_by_denial(span):
            return True
        return span.key in NEGATED_BY_NORMAL and self._is_called_normal(span)

    def _is_cut_by_denial(self, span: Span) -> bool:
        """ "No increase in heart size": the words of no change are part of the finding itself."""
        return any(
            cue.key == "ignored" and cue.start < span.start < cue.end and self.words[cue.start] in ("no", "without")
            for cue in self.cues
        )

    def _is_doubted(self, span: Span) -> bool:
        if self._covers("uncertain after", span, before=False) or self._covers("uncertain before", span, before=True):
            return True
        return self._is_questioned(span)

    def _covers(self, key: str, span: Span, before: bool) -> bool:
        """Whether a cue of this kind reaches the finding; `before` = the finding comes before the cue."""
        cues = [cue for cue in self.cues if cue.key == key]
        if before:
            return any(span.start < cue.start and not self._speaks_of_the_past(cue) for cue in cues)
        return any((cue.start <= span.start and self._reaches(cue, span)) or _is_within(cue, span) for cue in cues)

    def _reaches(self, cue: Span, span: Span) -> bool:
        """Whether a forward scope from the cue's end is still open where the finding begins."""
        for i in range(cue.end, span.start):
            if self.words[i] in _STOPS:
                return False
            fresh = i + 1 < len(self.words) and (self.words[i + 1] in _FRESH_STARTS or self.words[i + 1].isdigit())
            if self.words[i] in (",", "and", "with", ":") and fresh:
                return False
        return True

    def _speaks_of_the_past(self, cue: Span) -> bool:
        """ "not seen in the previous examination" says the finding is new."""
        ahead = self.words[cue.end : min(cue.end + 7, self.end)]
        is_dated = any(word.isdigit() and word[:2] in ("19", "20") and len(word) == 4 for word in ahead)
        return (is_dated or not _EARLIER.isdisjoint(ahead)) and _COMPARED.isdisjoint(ahead)

    def _is_called_normal(self, span: Span) -> bool:
        return any(
            cue.key == "normal"
            and 0 <= cue.start - span.end <= 6
            and self.words[cue.start - 1] not in ("than", "above")
            for cue in self.cues
        )

    def _is_questioned(self, span: Span) -> bool:
        """A question mark right after the finding or within three words of it."""
        for word in self.words[span.end : span.end + 4]:
            if word == "?":
                return True
            if word in (",", ";", "("):
                return False
        return False


def _is_within(cue: Span, span: Span) -> bool:
    """ "Heart: questionable enlargement": the cue stands between the words of the finding."""
    return span.start < cue.start and cue.end < span.end
