"""Confidence intervals by bootstrap: patients, not studies, are drawn again, since a patient's studies are alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import ConfigError

Measure = Callable[[np.ndarray], dict[str, float]]
"""Row numbers, with repeats, -> numbers by name; NaN where they are not defined."""


@dataclass(frozen=True)
class IntervalConfig:
    """How intervals are made."""

    draws: int = 1000
    """Times the patients are drawn with replacement; 0 = no intervals."""
    level: float = 0.95
    """Share of the draws inside the interval."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        if self.draws < 0 or not 0 < self.level < 1:
            raise ConfigError("interval.draws must not be negative, interval.level lie in (0, 1).")


def bootstrap(patients: Sequence[str], measure: Measure, config: IntervalConfig) -> dict[str, list[float | None]]:
    """[low, high] of every number of `measure` by percentiles; None where fewer than half of the draws define it."""
    if config.draws == 0:
        return {}
    names, of_row = np.unique(np.array(patients), return_inverse=True)
    rows_of = np.split(np.argsort(of_row, kind="stable"), np.cumsum(np.bincount(of_row))[:-1])
    rng = np.random.default_rng(config.seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(config.draws):
        chosen = rng.integers(0, len(names), len(names))
        for name, value in measure(np.concatenate([rows_of[patient] for patient in chosen])).items():
            drawn.setdefault(name, []).append(value)
    edge = (1 - config.level) / 2
    return {name: _percentiles(np.array(values), edge) for name, values in drawn.items()}


def _percentiles(values: np.ndarray, edge: float) -> list[float | None]:
    defined = values[~np.isnan(values)]
    if 2 * len(defined) < len(values):
        return [None, None]
    low, high = np.quantile(defined, [edge, 1 - edge])
    return [float(low), float(high)]
