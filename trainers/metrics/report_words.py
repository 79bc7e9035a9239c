"""Reports as rows of known words, for decoders that write word by word (ASAP spec 6.4)."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from core.errors import ConfigError
from core.report.sentences import split_sentences

UNKNOWN = "<unk>"
EDGE = 0
"""Number that begins, ends and fills a report."""

_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+(?:-[^\W\d_]+)*")
_RELEASED_CHANGES = (
    ("\n", " ", 1),
    ("__", "_", 7),
    ("  ", " ", 6),
    ("..", ".", 7),
    ("1. ", "", 1),
    *((f". {number}. ", ". ", 1) for number in range(2, 6)),
    *((f" {number}. ", ". ", 1) for number in range(2, 6)),
)
"""What is replaced by what, how often over: the numbering of lists goes, and with it "segment 2. "."""
_RELEASED_DELETIONS = re.compile(r"[.,?;*!%^&_+():<=>@\[\]{}]")


def clean_report(report: str, *, as_released: bool = False) -> str:
    """Lower-case words and numbers with " ." after each sentence.

    as_released: full stops inside a sentence are deleted, so that 5.2 mm becomes 52 mm and "aorta/arch" one word.
    """
    if as_released:
        return _clean_as_released(report)
    sentences = (" ".join(_WORD.findall(span.text.lower())) for span in split_sentences(report))
    return " ".join(f"{sentence} ." for sentence in sentences if sentence)


def _clean_as_released(report: str) -> str:
    for old, new, times in _RELEASED_CHANGES:
        for _ in range(times):
            report = report.replace(old, new)
    sentences = report.strip().lower().split(". ")
    return " . ".join(_RELEASED_DELETIONS.sub("", _strip_quoted(sentence)) for sentence in sentences) + " ."


def _strip_quoted(sentence: str) -> str:
    """Blanks beside quotation marks and slashes at the edges go, those beside other signs stay."""
    return re.sub(r"""["'/\\]""", "", sentence).strip()


@dataclass(frozen=True)
class WordVocabulary:
    """Words and their numbers, from 1; 0 is `EDGE`."""

    words: tuple[str, ...]
    """Word n + 1 stands at n; `UNKNOWN` is among them."""
    as_released: bool = False
    """How reports are cleaned."""

    def __post_init__(self) -> None:
        if UNKNOWN not in self.words or len(set(self.words)) != len(self.words):
            raise ConfigError(f"A vocabulary needs {UNKNOWN} and each word once; got {len(self.words)} words.")

    @classmethod
    def from_reports(cls, reports: Iterable[str], threshold: int = 3, *, as_released: bool = False) -> "WordVocabulary":
        """The words that occur at least `threshold` times, in their order."""
        counts = Counter(word for text in reports for word in clean_report(text, as_released=as_released).split())
        known = {word for word, count in counts.items() if count >= threshold} | {UNKNOWN}
        return cls(tuple(sorted(known)), as_released)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Word -> its number."""
        return {word: number for number, word in enumerate(self.words, start=1)}

    def encode(self, report: str) -> list[int]:
        """A report between two `EDGE`s."""
        unknown = self.numbers[UNKNOWN]
        words = clean_report(report, as_released=self.as_released).split()
        return [EDGE, *(self.numbers.get(word, unknown) for word in words), EDGE]

    def decode(self, numbers: Sequence[int]) -> str:
        """The words up to the first `EDGE` after the beginning."""
        inside = list(numbers[1:] if numbers and numbers[0] == EDGE else numbers)
        end = inside.index(EDGE) if EDGE in inside else len(inside)
        return " ".join(self.words[number - 1] for number in inside[:end])
