"""ECAMP's masked language task: hide the words that describe an entity, weigh what there is to learn (spec 2).

Everything here is a function of word pieces and of uniform draws, so that a study's masks can be made again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from core.errors import ConfigError
from core.models.entity_words import EntityWords

STOCK_WEIGHT = 0.05
"""What a token of a stock phrase counts in the loss."""
NEAR = 2
"""A descriptor stands at most so many units before its entity."""

Phrases = dict[str, list[tuple[str, ...]]]
"""Phrases as pieces by their first piece, longest first."""


@dataclass(frozen=True)
class MaskingRule:
    """How often each kind of token is hidden."""

    unit: Literal["word", "piece"] = "word"
    """word: roles belong to whole words and entities may be phrases. piece: as released, to single word pieces."""
    descriptor_prob: float = 1.0
    """Of the two units before an entity: 1.0 in the paper, in effect 0.7 in the released code."""
    entity_prob: float = 0.75
    """Of entities."""
    other_prob: float = 0.7
    """Of all other tokens."""
    plain_prob: float = 0.75
    """Of every token of a report without an entity."""

    def __post_init__(self) -> None:
        chances = (self.descriptor_prob, self.entity_prob, self.other_prob, self.plain_prob)
        if min(chances) < 0 or max(chances) > 1:
            raise ConfigError(f"Masking probabilities must lie in [0, 1], got {self}.")


RELEASED_RULE = MaskingRule(unit="piece", descriptor_prob=0.7)
"""The released code, whose test for descriptors looks at the wrong position."""


class Roles(NamedTuple):
    """What each of T word pieces is; all (T,)."""

    entity: Tensor  # bool, True = belongs to an entity
    descriptor: Tensor  # bool, True = stands right before an entity (and may itself be one)
    stock: Tensor  # bool, True = inside a stock phrase
    head: Tensor  # int64, the piece whose draw decides about this one
    maskable: Tensor  # bool, True = may be hidden


class EntityMasker:
    """Word lists and a rule, made ready for one vocabulary."""

    def __init__(self, words: EntityWords, rule: MaskingRule, split: Callable[[str], Sequence[str]]) -> None:
        """split: text -> its word pieces, without special tokens."""
        self.rule = rule
        self._entities = (
            _by_first((e,) for e in words.entities) if rule.unit == "piece" else _compile(words.entities, split)
        )
        self._stock = _compile(words.stock_phrases, split)

    def find_roles(self, pieces: Sequence[str]) -> Roles:
        """Roles of one text, [CLS] first; padding may follow and has none."""
        if self.rule.unit == "piece":
            return _piece_roles(pieces, self._entities, self._stock)
        return _word_roles(pieces, self._entities, self._stock)

    def choose(self, roles: Roles, draws: Tensor, entity_draws: Tensor) -> Tensor:
        """Which pieces to hide: (T,) bool; draws, entity_draws (T,) uniform in [0, 1).

        A piece that continues a word follows the word's first piece. In the released rule it does so before entities
        are drawn, so that the end of an entity's word stays visible.
        """
        rule = self.rule
        if bool(roles.entity.any()):
            limit = torch.where(roles.descriptor, rule.descriptor_prob, rule.other_prob)
        else:
            limit = torch.full(draws.shape, rule.plain_prob)
        first = (draws < limit) & ~roles.entity
        second = (entity_draws < rule.entity_prob) & roles.entity
        return (first[roles.head] | (second[roles.head] & roles.entity)) & roles.maskable


def weigh_tokens(roles: Roles) -> Tensor:
    """Weights of the loss, (T,) float32 with sum T: stock phrases count 0.05, descriptors get what those lost.

    With D stock tokens, M descriptors and o that are both: g = (0.95 (D - o) + M) / (M - 0.95 o) multiplies the
    descriptors; without descriptors all tokens are scaled up alike (spec 2.4).
    """
    length, lost = len(roles.stock), 1 - STOCK_WEIGHT
    weights = torch.ones(length, dtype=torch.float64)
    weights[roles.stock] = STOCK_WEIGHT
    stock, told = int(roles.stock.sum()), int(roles.descriptor.sum())
    if stock and told:
        both = int((roles.stock & roles.descriptor).sum())
        weights[roles.descriptor] *= (lost * (stock - both) + told) / (told - lost * both)
    elif stock:
        weights *= length / (length - lost * stock)
    return weights.float()


def continues_word(pieces: Sequence[str]) -> Tensor:
    """Which pieces are no beginning of a word: (T,) bool."""
    return torch.tensor([piece.startswith("##") for piece in pieces], dtype=torch.bool)


def _piece_roles(pieces: Sequence[str], entities: Phrases, stock: Phrases) -> Roles:
    """The released reading: positions 1 to T-2 up to the first padding; an entity is one piece, whatever follows."""
    real = pieces.index("[PAD]") if "[PAD]" in pieces else len(pieces)
    continues = continues_word(pieces)
    maskable = torch.zeros(len(pieces), dtype=torch.bool)
    maskable[1 : min(real, len(pieces) - 1)] = True
    entity = torch.tensor([piece in entities for piece in pieces], dtype=torch.bool) & maskable & ~continues
    before = [place - step for place in entity.nonzero().flatten().tolist() for step in (1, NEAR) if place > step]
    descriptor = _marked(len(pieces), [(place, place + 1) for place in before if pieces[place] != "."])
    longest = max((len(phrase) for phrases in stock.values() for phrase in phrases), default=1)
    spans = [span for span in _find_spans(pieces, stock) if span[0] <= len(pieces) - longest]
    return Roles(entity, descriptor, _marked(len(pieces), spans), _word_heads(continues), maskable)


def _word_roles(pieces: Sequence[str], entities: Phrases, stock: Phrases) -> Roles:
    """The same idea on whole words: entities may span several, descriptors are the two words before one."""
    continues = continues_word(pieces)
    maskable = torch.tensor([not (piece.startswith("[") and piece.endswith("]")) for piece in pieces])
    ends = [*(~continues).nonzero().flatten().tolist()[1:], len(pieces)]
    is_end = set(ends)
    spans = [span for span in _find_spans(pieces, entities) if span[1] in is_end]
    starts = (~continues).nonzero().flatten().tolist()
    order = {start: number for number, start in enumerate(starts)}
    head, told = _word_heads(continues), []
    for start, end in spans:
        head[start:end] = start
        for number in range(max(0, order[start] - NEAR), order[start]):
            told.append((starts[number], ends[number]))
    told = [(start, end) for start, end in told if pieces[start] != "." and bool(maskable[start])]
    length = len(pieces)
    stock_spans = _find_spans(pieces, stock)
    return Roles(_marked(length, spans), _marked(length, told), _marked(length, stock_spans), head, maskable)


def _compile(phrases: Iterable[str], split: Callable[[str], Sequence[str]]) -> Phrases:
    """Phrases as pieces; those that the vocabulary cannot spell are left out, or they would match any such word."""
    cut = (tuple(split(phrase)) for phrase in phrases)
    return _by_first(pieces for pieces in cut if pieces and "[UNK]" not in pieces)


def _by_first(phrases: Iterable[tuple[str, ...]]) -> Phrases:
    table: Phrases = {}
    for phrase in sorted(set(phrases), key=len, reverse=True):
        table.setdefault(phrase[0], []).append(phrase)
    return table


def _find_spans(pieces: Sequence[str], phrases: Phrases) -> list[tuple[int, int]]:
    """Where phrases stand, left to right without overlap, the longest where several begin: (start, end)."""
    spans, place = [], 0
    while place < len(pieces):
        found = [p for p in phrases.get(pieces[place], []) if tuple(pieces[place : place + len(p)]) == p]
        if found:
            spans.append((place, place + len(found[0])))
        place = spans[-1][1] if found else place + 1
    return spans


def _word_heads(continues: Tensor) -> Tensor:
    """For each piece the first piece of its word: (T,) int64."""
    places = torch.arange(len(continues))
    return torch.where(continues, 0, places).cummax(dim=0).values


def _marked(length: int, spans: Iterable[tuple[int, int]]) -> Tensor:
    marked = torch.zeros(length, dtype=torch.bool)
    for start, end in spans:
        marked[start:end] = True
    return marked
