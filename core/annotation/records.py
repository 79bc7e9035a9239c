"""What a person says of a sentence and a CT, and the limits of it."""

import hashlib
import math
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

from core.errors import AnnotationError
from core.grounding.heatmap import SentenceGrounding

Verdict = Literal["accept", "reject", "uncertain"]
Action = Literal["record", "add region", "remove region", "undo"]
ANONYMOUS = "anonymous"
MAX_NOTE = 10_000
MAX_SENTENCE = 4_000
MAX_AUTHOR = 100
MAX_TITLE = 200


@dataclass(frozen=True)
class SentenceRef:
    """A sentence of a report. Its text tells it apart, its number only where it stood last."""

    index: int
    """Counts from 1."""
    text: str

    @property
    def key(self) -> str:
        """Hex digest of the text, spacing aside: the same sentence in an edited report keeps its annotations."""
        return hashlib.blake2b(" ".join(self.text.split()).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Evidence:
    """What the page showed when the verdict was given."""

    engine: str
    """Name of the grounding engine."""
    engine_version: str
    """Hash or version of its weights, "" when it gives none."""
    peak_ras_mm: tuple[float, float, float]
    score: float
    negated_score: float
    probability: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "peak_ras_mm", tuple(float(x) for x in self.peak_ras_mm))  # JSON gives a list
        if not all(map(math.isfinite, (*self.peak_ras_mm, self.score, self.negated_score, self.probability))):
            raise AnnotationError(
                f"The evidence holds a number that is not finite ({self}); ground the sentence again."
            )


def describe_evidence(grounding: SentenceGrounding, engine: str, engine_version: str = "") -> Evidence:
    """The evidence that a grounding run gives for its sentence."""
    return Evidence(
        engine,
        engine_version,
        grounding.peak_ras_mm,
        float(grounding.score),
        float(grounding.negated_score),
        float(grounding.probability),
    )


@dataclass(frozen=True)
class Annotation:
    """One author's current verdict on one sentence of one CT."""

    content_hash: str
    """`Volume.content_hash` of the CT."""
    sentence: SentenceRef
    author: str
    verdict: Verdict
    note: str
    """Verbatim; shown as text, never interpreted."""
    evidence: Evidence | None
    created_utc: str
    """ISO 8601, of the first verdict."""
    updated_utc: str


@dataclass(frozen=True)
class Change:
    """One step of the history; nothing is ever removed from it."""

    number: int
    content_hash: str
    author: str
    action: Action
    at_utc: str
    before: dict[str, Any] | None
    """The annotation before, None when there was none (or for regions)."""
    after: dict[str, Any] | None
    region: int | None
    """The region that was added or removed."""
    undoes: int | None
    """Number of the change that an "undo" took back."""


class CaseSummary(NamedTuple):
    """A CT that has annotations."""

    content_hash: str
    title: str
    annotations: int
    regions: int
    last_change_utc: str


def annotation_fields(annotation: Annotation) -> dict[str, Any]:
    """The annotation as JSON-ready names and values."""
    return asdict(annotation)


def read_fields(fields: dict[str, Any]) -> Annotation:
    """The annotation that `annotation_fields` described."""
    evidence = fields["evidence"]
    return Annotation(
        **fields
        | {
            "sentence": SentenceRef(**fields["sentence"]),
            "evidence": Evidence(**evidence) if evidence is not None else None,
        }
    )


def require_hash(content_hash: str) -> str:
    """A content hash, or AnnotationError: it becomes part of file names."""
    if not re.fullmatch(r"[0-9a-f]{8,128}", content_hash):
        raise AnnotationError(f'"{content_hash[:40]}" is not a content hash of a CT; expected lower-case hexadecimal.')
    return content_hash


def require_sentence(sentence: SentenceRef | tuple[int, str]) -> SentenceRef:
    """A sentence (index from 1, text) that can be stored, or AnnotationError."""
    index, text = (sentence.index, sentence.text) if isinstance(sentence, SentenceRef) else sentence
    if index < 1 or not text.strip():
        raise AnnotationError(f"Sentence {index} is empty or not counted from 1. Choose a sentence of the report.")
    return SentenceRef(int(index), require_text(text, MAX_SENTENCE, "sentence"))


def require_author(author: str) -> str:
    """An author label without spaces around it, "anonymous" for none; AnnotationError for control characters."""
    name = require_text(author.strip() or ANONYMOUS, MAX_AUTHOR, "author")
    if not name.isprintable():
        raise AnnotationError("The author's name contains characters that cannot be shown; type it again.")
    return name


def require_verdict(verdict: str) -> Verdict:
    """One of the three verdicts, or AnnotationError."""
    for known in get_args(Verdict):
        if verdict == known:
            return known
    raise AnnotationError(f'"{verdict[:40]}" is not a verdict; expected {", ".join(get_args(Verdict))}.')


def require_text(text: str, limit: int, what: str) -> str:
    """Text that every database stores unchanged, or AnnotationError."""
    if len(text) > limit:
        raise AnnotationError(f"The {what} has {len(text)} characters; at most {limit} can be stored. Shorten it.")
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise AnnotationError(f"The {what} contains characters that are not text; paste it as plain text.")
    return text
