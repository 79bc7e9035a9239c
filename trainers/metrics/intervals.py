"""Confidence intervals that respect patients: several scans of one person are drawn together."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from core.errors import ConfigError

Statistic = Callable[[np.ndarray], float]
"""Row numbers (M,) int64, with repeats -> the number of interest over those rows; NaN where it is not defined."""


Measure = Callable[[np.ndarray], dict[str, float]]
"""The same for several numbers by name."""


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


class Interval(NamedTuple):
    """A number with its percentile bootstrap interval."""

    value: float  # over all rows as they are
    low: float  # NaN where no draw was defined
    high: float
    draws: int  # draws that the statistic was defined on; far fewer than asked for = do not trust the ends


def bootstrap_interval(
    statistic: Statistic, patients: Sequence[Hashable], draws: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile bootstrap over patients (clusters), Efron and Tibshirani 1993, chapter 13; Field and Welsh 2007.

    patients: whose each of the N rows is. Each draw takes as many patients as there are, with replacement, and all rows
    of each. A difference of two models is one statistic: compute both on the same rows. The same seed gives the same
    interval. Raises ConfigError without rows or with an impossible level.
    """
    if not len(patients) or draws < 1 or not 0 < level < 1:
        raise ConfigError(f"A bootstrap needs rows, draws and 0 < level < 1; got {len(patients)}, {draws} and {level}.")
    clusters = _rows_of_patients(patients)
    rng = np.random.default_rng(seed)
    found = np.array([statistic(_draw_rows(clusters, rng)) for _ in range(draws)], dtype=float)
    found = found[np.isfinite(found)]
    value = float(statistic(np.arange(len(patients))))
    if not found.size:
        return Interval(value, np.nan, np.nan, 0)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), int(found.size))


def bootstrap_many(
    measure: Measure, patients: Sequence[Hashable], config: IntervalConfig
) -> dict[str, list[float | None]]:
    """[low, high] of every number of `measure`, all from the same draws, as `bootstrap_interval` makes them.

    None where fewer than half of the draws define a number; {} with no draws.
    """
    clusters, drawn = _rows_of_patients(patients), dict[str, list[float]]()
    rng = np.random.default_rng(config.seed)
    for _ in range(config.draws):
        for name, value in measure(_draw_rows(clusters, rng)).items():
            drawn.setdefault(name, []).append(value)
    return {name: _percentiles(np.array(values), config.level) for name, values in drawn.items()}


def _percentiles(values: np.ndarray, level: float) -> list[float | None]:
    defined = values[np.isfinite(values)]
    if 2 * len(defined) < len(values):
        return [None, None]
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def _rows_of_patients(patients: Sequence[Hashable]) -> list[np.ndarray]:
    rows: dict[Hashable, list[int]] = {}
    for row, patient in enumerate(patients):
        rows.setdefault(patient, []).append(row)
    return [np.array(numbers) for numbers in rows.values()]


def _draw_rows(clusters: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([clusters[drawn] for drawn in rng.integers(len(clusters), size=len(clusters))])
