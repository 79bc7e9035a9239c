"""What a question asks for."""

from dataclasses import dataclass, replace
from typing import Literal

from core.errors import ReportError
from core.report.mentions import read_sentence
from core.report.parsed import Laterality
from core.report.words import TermFinder, split_tokens

MAX_CHARACTERS = 500
"""A longer text is no question."""

Kind = Literal[
    "presence",
    "location",
    "side",
    "size",
    "count",
    "comparison",
    "volume",
    "density",
    "change",
    "attribute",
    "normality",
    "description",
    "unknown",
]

Direction = Literal["smaller", "larger", "equal", ""]


@dataclass(frozen=True)
class Question:
    """A question, understood as far as words go."""

    text: str
    """As asked, white space tidied."""
    kind: Kind
    """What is asked for."""
    finding: str = ""
    """Canonical finding, "" when none is named."""
    organs: tuple[str, ...] = ()
    """Structures named; empty when the words name no place."""
    side: Laterality = ""
    """Side named."""
    wants: Direction = ""
    """Direction of a comparison."""
    is_yes_no: bool = False
    """Whether yes or no is expected."""
    others: tuple["Question", ...] = ()
    """The same of further findings ("an effusion or a nodule")."""


_CUES: dict[Kind, tuple[str, ...]] = {
    "count": ("how many", "number of", "count"),
    "comparison": (
        "smaller|larger|bigger|greater|lesser|heavier|denser|wider",
        "less|more|lower|higher ~ than",
        "same ~ size|volume|density|large|big",
        "equal|symmetric|symmetrical|asymmetric|symmetry|asymmetry",
        "compare",
        "difference between",
    ),
    "side": (
        "which|what side",
        "left or right",
        "right or left",
        "laterality",
        "unilateral|bilateral",
        "one side or both",
    ),
    "volume": ("volume|volumes", "ml", "milliliter|millilitre|litre|liter", "cc", "capacity"),
    "density": ("hu", "hounsfield", "density|attenuation|dense|densities"),
    "location": (
        "where",
        "location|located|localization|position|situated",
        "which|what lobe|segment|lung|organ|region|part|vertebra|rib|level|area",
        "point to",
        "show me",
    ),
    "size": (
        "how big|large|long|wide|thick|small|tall|deep",
        "largest|biggest|smallest",
        "size|diameter|dimension|width|thickness|length|extent|measurement|measure",
        "mm|cm",
        "ratio|ctr",
    ),
    "change": (
        "grown|growing|progressed|progression|changed|regressed",
        "change|changes in|since|of|from",
        "stable|unchanged|new",
        "compared to|with ~ previous|prior|last|old",
        "than before",
    ),
    "normality": ("normal|healthy|clear|unremarkable|ok|okay", "abnormal", "anything wrong"),
    "description": (
        "describe|description|summarize|summarise|summary|explain",
        "finding|findings|diagnosis|diagnose|impression|conclusion|report",
        "tell me ~ about",
        "what ~ see|seen|found|shown|wrong|abnormality|abnormal|pathology|happening",
        "what about",
        "what is|are in",
        "anything in",
    ),
    "presence": (
        "is|are|was|were|do|does|did|has|have|can|could",
        "any",
        "presence|evidence|sign of",
        "see|show|contain|present|visible|suffer",
    ),
}
"""Words that ask for each kind, in order of precedence: the first kind whose words occur wins."""
_FINDERS = {kind: TermFinder({kind: terms}) for kind, terms in _CUES.items()}
_YES_NO = frozenset("is are was were do doe did has have can could any".split())
_EARLIER = frozenset("before previous prior previously last old earlier grown".split())
_HU_WORDS = frozenset("hu hounsfield mean attenuation".split())
_DIRECTIONS: tuple[tuple[Direction, frozenset[str]], ...] = (
    ("smaller", frozenset("smaller less lesser lower".split())),
    ("equal", frozenset("same equal symmetric symmetrical asymmetric symmetry asymmetry".split())),
    ("larger", frozenset("larger bigger greater more denser heavier wider higher".split())),
)


def parse_question(text: str) -> Question:
    """Read a question. Raises ReportError when it is empty, not text, or longer than `MAX_CHARACTERS`."""
    _require_question(text)
    tidy = " ".join(text.split())
    words = [token.word for token in split_tokens(tidy)]
    reading = read_sentence(tidy.rstrip("?!. "))
    named = [mention for mention in reading.mentions if mention.finding not in _NO_FINDINGS]
    finding = named[0].finding if named else ""
    organs = named[0].organs if named and reading.organs else reading.organs
    side = named[0].laterality if named else reading.laterality
    kind: Kind = _kind_about_finding(words, finding) if finding else _kind_about_organ(words, bool(organs))
    if kind in ("presence", "description", "unknown", "normality") and not ATTRIBUTES.isdisjoint(words):
        kind = "attribute"
    asked = Question(tidy, kind, finding, organs, side, _direction(words), words[0] in _YES_NO)
    if kind != "presence":
        return asked
    places = {mention.finding: mention for mention in reversed(named) if mention.finding != finding}
    others = [replace(asked, finding=name, organs=(), side=m.laterality) for name, m in reversed(places.items())]
    return replace(asked, others=tuple(others))


def one_by_one(question: Question) -> tuple[Question, ...]:
    """The question about each finding it names."""
    return (replace(question, others=()), *question.others)


ATTRIBUTES = frozenset(
    """calcified calcific spiculated solid cystic cavitary cavitated lobulated smooth irregular round subpleural
    loculated mild moderate severe acute chronic suspicious malignant malignancy benign cancer cancerous carcinoma
    infectious infected inflammatory displaced healed incidental nonspecific treated operated biopsy caused why when
    dangerous serious prognosis should recommended treatment""".split()
)
"""Words that ask for more than presence; only the report's own words can answer them."""
_NO_FINDINGS = frozenset(("lesion", "dilatation"))
"""Too vague to be looked up when no organ makes them definite."""


def _asked_kinds(words: list[str]) -> list[Kind]:
    return [kind for kind, finder in _FINDERS.items() if finder.find(words)]


def _kind_about_finding(words: list[str], finding: str) -> Kind:
    """The kind of a question that names a finding."""
    kind: Kind = next(iter(_asked_kinds(words)), "presence")
    is_yes_no = words[0] in _YES_NO
    if kind in ("comparison", "change"):
        return "change" if kind == "change" or not _EARLIER.isdisjoint(words) else "size"
    if kind == "density" and _HU_WORDS.isdisjoint(words):
        return "presence"
    if kind in ("normality", "description", "size") and is_yes_no and not _measures(words, finding):
        return "presence"
    return kind


def _measures(words: list[str], finding: str) -> bool:
    """Whether a yes-or-no question is about a number ("does the nodule measure over 5 mm")."""
    return finding != "Cardiomegaly" and not {"mm", "cm", "measure", "diameter"}.isdisjoint(words)


def _kind_about_organ(words: list[str], has_organ: bool) -> Kind:
    """The kind of a question that names no finding."""
    kinds = _asked_kinds(words)
    if not has_organ:
        return "description" if "description" in kinds and kinds[0] in ("description", "normality") else "unknown"
    kind: Kind = next(iter(kinds), "description")
    if kind == "count":
        return "unknown"
    if kind == "presence":
        return "description"
    return "location" if kind == "side" else kind


def _direction(words: list[str]) -> Direction:
    return next((name for name, cues in _DIRECTIONS if not cues.isdisjoint(words)), "")


def _require_question(text: object) -> None:
    if not isinstance(text, str):
        raise ReportError(f"The question is {type(text).__name__}, not text. Type a question.")
    if not any(char.isalnum() for char in text):
        raise ReportError(f"The question is empty. {_EXAMPLE}")
    if len(text) > MAX_CHARACTERS:
        raise ReportError(f"The question has {len(text):,} characters; at most {MAX_CHARACTERS} are read. {_EXAMPLE}")


_EXAMPLE = 'Ask for instance "Is there a lung nodule?".'
