"""Sentences as tokens, and multi-word terms found in them in linear time (no backtracking regular expressions)."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

GAP_TOKENS = 3
"""How many words "~" in a term may stand for."""

_TOKEN = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)*|[^\s\w]|_")
BREAKS = frozenset(".,;()?!") | {"but", "however", "and", "or", "no", "not", "without"}
_SPELLINGS = {
    "tumour": "tumor",
    "centre": "center",
    "fibre": "fiber",
    "grey": "gray",
    "calibre": "caliber",
    "haemo": "hemo",
    "haema": "hema",
    "oesoph": "esoph",
    "oedem": "edem",
    "anaem": "anem",
    "aneurism": "aneurysm",
    "atelectases": "atelectasis",
    "bullae": "bulla",
    "bronchi": "bronchus",
    "lymphnode": "lymph node",
}
_INVARIANT = ("ss", "us", "is", "as")


class Token(NamedTuple):
    """One word, number or mark of a sentence."""

    word: str  # lower case, singular, American spelling
    start: int  # offset of the first character in the sentence
    end: int  # offset after the last


class Span(NamedTuple):
    """A term found in a sentence."""

    key: str  # what the term stands for
    start: int  # first token
    end: int  # token after the last


@lru_cache(maxsize=8192)
def normalise_word(word: str) -> str:
    """A word as terms are compared: lower case, singular, American spelling ("Opacities" -> "opacity")."""
    word = word.lower()
    for british, american in _SPELLINGS.items():
        if word.startswith(british):
            word = american + word[len(british) :] if british not in ("bronchi", "bullae") or word == british else word
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(_INVARIANT):
        return word[:-1]
    return word


def split_tokens(sentence: str) -> list[Token]:
    """Words, numbers ("12.5", "1,5") and single marks of a sentence, in order; hyphens inside words are left out."""
    return [
        Token(normalise_word(m.group()), m.start(), m.end())
        for m in _TOKEN.finditer(sentence)
        if m.group() not in "-–_" or not _joins_words(sentence, m.start(), m.end())
    ]


def _joins_words(sentence: str, start: int, end: int) -> bool:
    return sentence[start - 1 : start].isalpha() and sentence[end : end + 1].isalpha()


class TermFinder:
    """Finds the terms of a table in a token list, longest first, without overlaps.

    A term is words separated by spaces; "a|b" is either word, "~" is up to `GAP_TOKENS` words that do not cross
    a mark or a conjunction ("heart ~ enlarged" finds "heart is mildly enlarged").
    """

    def __init__(self, table: Mapping[str, Iterable[str]], breaks: frozenset[str] = BREAKS) -> None:
        self._breaks = breaks
        self._by_first: dict[str, list[tuple[str, tuple[frozenset[str], ...]]]] = {}
        for key, terms in table.items():
            for term in terms:
                elements = tuple(frozenset(map(normalise_word, part.split("|"))) for part in term.split())
                for first in elements[0]:
                    self._by_first.setdefault(first, []).append((key, elements))

    def match_at(self, words: list[str], start: int) -> Span | None:
        """The longest term that begins at token `start`."""
        best: Span | None = None
        for key, elements in self._by_first.get(words[start], ()):
            end = _match(words, start, elements, self._breaks)
            if end and (best is None or end > best.end):
                best = Span(key, start, end)
        return best

    def find(self, words: list[str]) -> list[Span]:
        """All terms in order of appearance."""
        spans, position = [], 0
        while position < len(words):
            span = self.match_at(words, position)
            if span:
                spans.append(span)
            position = span.end if span else position + 1
        return spans


_GAP = frozenset("~")


def _match(words: list[str], position: int, elements: tuple[frozenset[str], ...], breaks: frozenset[str]) -> int:
    """Token after the term that starts at `position`, or 0."""
    for step, element in enumerate(elements):
        if element == _GAP:
            return _match_after_gap(words, position, elements[step + 1 :], breaks)
        if position >= len(words) or words[position] not in element:
            return 0
        position += 1
    return position


def _match_after_gap(words: list[str], position: int, rest: tuple[frozenset[str], ...], breaks: frozenset[str]) -> int:
    for skipped in range(position, min(position + GAP_TOKENS + 1, len(words))):
        end = _match(words, skipped, rest, breaks)
        if end:
            return end
        if words[skipped] in breaks:
            return 0
    return 0
