"""Synonyms and opposites of everyday English from WordNet's files, so that training knows more words than its tables.

WordNet 3.1 (Miller, Comm. ACM 38(11), 1995; licence of Princeton University) is read at training time only.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.errors import ConfigError
from trainers.text_frames import MEDICAL_WORDS, TELLING_WORDS
from trainers.text_start import Teacher

PARTS = ("noun", "adj", "verb")
MOST_PIECES = 4
"""Word pieces that a synonym may take in the source's vocabulary."""
LEAST_COSINE = 0.55
"""Cosine of the source between words that are taken for synonyms: it leaves out rare senses."""
LEAST_MEDICAL_COSINE = 0.35
"""The same for words of reports, most of which have one sense."""
_MEDICAL = frozenset(MEDICAL_WORDS)
_WORD = re.compile(r"[a-z]+(?: [a-z]+)?")


class Lexicon(NamedTuple):
    """Words with what can stand for them and what says the opposite."""

    synonyms: dict[str, dict[str, tuple[str, ...]]]  # part of speech -> word -> others of the same meaning
    opposites: tuple[tuple[str, str], ...]  # adjectives

    def words(self, part: str) -> tuple[str, ...]:
        """Words of a part of speech that have a synonym, in the order of the alphabet."""
        return tuple(sorted(self.synonyms[part]))


class _Entry(NamedTuple):
    """One meaning: its words, and where its antonyms are: (own word number, file offset, its word number)."""

    words: tuple[str, ...]
    opposites: tuple[tuple[int, str, int], ...]


def read_lexicon(folder: Path, teacher: Teacher) -> Lexicon:
    """Read data.noun, data.adj and data.verb; raises ConfigError where they are missing."""
    for part in PARTS:
        if not (folder / f"data.{part}").is_file():
            raise ConfigError(f"No data.{part} in {folder}; expected WordNet's dict folder (requirements-text.txt).")
    known = {word for word in teacher.tokenizer.get_vocab() if word.isalpha()} | set(MEDICAL_WORDS)
    found = {part: _synonyms(dict(_entries(folder / f"data.{part}")), known, teacher) for part in PARTS}
    return Lexicon(found, _opposites(dict(_entries(folder / "data.adj")), known))


def _entries(path: Path) -> Iterator[tuple[str, _Entry]]:
    """Offset and content of every meaning of a data file (format of wndb(5WN))."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue  # the licence
        fields = line.split(" | ")[0].split()
        count = int(fields[3], 16)
        words = tuple(re.sub(r"\(.*\)", "", word).replace("_", " ").lower() for word in fields[4 : 4 + 2 * count : 2])
        pointers = fields[5 + 2 * count :]
        opposites = [
            (int(pointers[at + 3][:2], 16), pointers[at + 1], int(pointers[at + 3][2:], 16))
            for at in range(0, 4 * int(fields[4 + 2 * count]), 4)
            if pointers[at] == "!"
        ]
        yield fields[0], _Entry(words, tuple(opposites))


def _synonyms(entries: dict[str, _Entry], known: set[str], teacher: Teacher) -> dict[str, tuple[str, ...]]:
    pairs = []
    for entry in entries.values():
        words = [word for word in entry.words if _WORD.fullmatch(word) and len(word) > 2]
        pairs += [(one, other) for one in words for other in words if one != other and one in known]
    pairs = [
        p for p in dict.fromkeys(pairs) if _is_short(p[1], teacher) and TELLING_WORDS.isdisjoint(" ".join(p).split())
    ]
    kept: dict[str, tuple[str, ...]] = {}
    for (one, other), cosine in zip(pairs, _cosines(pairs, teacher), strict=True):
        if cosine >= (LEAST_MEDICAL_COSINE if one in _MEDICAL else LEAST_COSINE):
            kept[one] = (*kept.get(one, ()), other)
    return kept


def _is_short(word: str, teacher: Teacher) -> bool:
    return len(teacher.tokenizer.encode(word, add_special_tokens=False).ids) <= MOST_PIECES


def _cosines(pairs: list[tuple[str, str]], teacher: Teacher) -> np.ndarray:
    words = sorted({word for pair in pairs for word in pair})
    if not words:
        return np.zeros(0)
    vectors = np.concatenate([teacher.embed(words[at : at + 512]).numpy() for at in range(0, len(words), 512)])
    row = {word: number for number, word in enumerate(words)}
    first, second = (np.array([row[pair[side]] for pair in pairs]) for side in (0, 1))
    cosines: np.ndarray = (vectors[first] * vectors[second]).sum(axis=1)
    return cosines


def _opposites(entries: dict[str, _Entry], known: set[str]) -> tuple[tuple[str, str], ...]:
    found = [
        (entry.words[own - 1], entries[offset].words[other - 1])
        for entry in entries.values()
        for own, offset, other in entry.opposites
        if own and other and offset in entries
    ]
    return tuple(pair for pair in dict.fromkeys(found) if set(pair) <= known - TELLING_WORDS)
