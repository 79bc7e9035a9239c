"""Overlap of segmentations: Dice per class and case, and the loss that trains for it (ASAP spec 6.3)."""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from core.models.unetr import dice_loss

Absent = Literal["penalise", "skip", "zero"]
"""A class that the truth does not have. penalise: NaN, but 0 where it was drawn all the same. skip: NaN in any case, as
in MONAI's metric and the published tables, so that a false lesion costs nothing. zero: 0 in any case, as the published
`dice` function."""


class DiceSummary(NamedTuple):
    """Dice of N cases."""

    per_case: tuple[float, ...]  # mean over the classes that are defined
    mean: float  # over cases
    std: float  # over cases, of the population


def score_dice(found: Tensor, truth: Tensor, classes: int, absent: Absent = "penalise") -> np.ndarray:
    """Dice of each foreground class: label maps (X, Y, Z) integer, 0 = background -> (classes - 1,) float64."""
    if found.shape != truth.shape:
        raise ConfigError(f"The segmentation is {tuple(found.shape)}, the truth {tuple(truth.shape)}; expected equal.")
    return np.array([_dice(found == number, truth == number, absent) for number in range(1, classes)])


def _dice(found: Tensor, truth: Tensor, absent: Absent) -> float:
    drawn, there = int(found.sum()), int(truth.sum())
    if there or (absent == "penalise" and drawn):
        return 2 * int((found & truth).sum()) / (drawn + there)
    return 0.0 if absent == "zero" else np.nan


def summarise_dice(table: np.ndarray) -> DiceSummary:
    """Dice (cases, classes), NaN = not defined -> means; a case without any defined class is left out of them."""
    per_case = [float(np.nanmean(row)) if not np.isnan(row).all() else np.nan for row in table]
    defined = np.array([dice for dice in per_case if not np.isnan(dice)])
    if not defined.size:
        return DiceSummary(tuple(per_case), np.nan, np.nan)
    return DiceSummary(tuple(per_case), float(defined.mean()), float(defined.std()))


def drop_class(logits: Tensor, truth: Tensor, dropped: int) -> tuple[Tensor, Tensor]:
    """Label maps without a class that the other data set does not have: (C, X, Y, Z), (X, Y, Z) -> two of (X, Y, Z).

    Its probability goes to the background before the likeliest class is taken; in the truth it becomes background.
    """
    probability = logits.softmax(dim=0)
    probability[0] += probability[dropped]
    probability[dropped] = -1
    return probability.argmax(dim=0), torch.where(truth == dropped, 0, truth)


def dice_ce_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Soft Dice plus cross-entropy, a scalar: logits (B, C, X, Y, Z), truth (B, X, Y, Z) integer.

    1 - mean over cases and classes, background among them, of 2 sum(p y) / (sum p^2 + sum y^2 + 1e-6) (Milletari 2016).
    """
    return dice_loss(logits, truth.long()) + F.cross_entropy(logits, truth.long())
