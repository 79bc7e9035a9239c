"""From word pieces to words: which token belongs to which word, and one vector per word."""

from typing import NamedTuple

import torch
from torch import Tensor


class Words(NamedTuple):
    """The words of each text without [CLS]; W = T - 1 slots, the last ones empty."""

    report: Tensor  # (B, D), [CLS]
    vectors: Tensor  # (B, W, D), zero rows in empty slots
    is_real: Tensor  # (B, W) bool, True = a word ([SEP] counts as one where a text ends with it)
    number: Tensor  # (B, T) int64, word of each token: w + 1 for slot w, 0 for [CLS], -1 for padding


def number_words(ids: Tensor, is_real: Tensor, continues: Tensor) -> Tensor:
    """Word of each token: ids (B, T) int64, is_real (B, T) bool, continues (V,) bool per entry of the vocabulary.

    True in `continues` = the piece goes on with the word before it ("##ing"). (B, T) int64: 0 for [CLS], which is the
    first token, then 1, 2, …; -1 for padding.
    """
    starts = ~continues[ids]
    starts[:, 0] = True
    return (starts.cumsum(dim=1) - 1).masked_fill(~is_real, -1)


def merge_words(states: Tensor, number: Tensor) -> Words:
    """Sum the pieces of every word (ASG spec 3): states (B, T, D), number (B, T) as `number_words` gives it.

    A piece that goes on with [CLS], which no text has, is added to it.
    """
    slots = torch.arange(number.shape[1], device=number.device)
    belongs = number[:, None, :] == slots[:, None]  # (B, 1 + W, T)
    merged = belongs.to(states.dtype) @ states
    return Words(merged[:, 0], merged[:, 1:], belongs[:, 1:].any(dim=-1), number)


def label_words(labels: Tensor, number: Tensor) -> Tensor:
    """The label of each word's tokens: labels (B, T) integer >= 0, number (B, T) -> (B, W) int64, 0 in empty slots.

    Where pieces of one word differ, the largest label counts.
    """
    taken = torch.zeros(len(number), number.shape[1] + 1, dtype=torch.int64, device=number.device)
    taken.scatter_reduce_(1, number + 1, labels.long(), "amax")  # column 0 is padding's, 1 is [CLS]'s
    return taken[:, 2:]
