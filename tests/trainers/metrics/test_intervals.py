import numpy as np
import pytest

from core.errors import ConfigError
from trainers.metrics.intervals import bootstrap_interval


def test_an_interval_covers_its_value_and_comes_again():
    numbers = np.random.default_rng(0).normal(1.0, 2.0, 200)
    mean = bootstrap_interval(lambda rows: float(numbers[rows].mean()), range(200), draws=400, seed=3)
    assert mean.value == pytest.approx(numbers.mean())
    assert mean == bootstrap_interval(lambda rows: float(numbers[rows].mean()), range(200), draws=400, seed=3)
    assert mean != bootstrap_interval(lambda rows: float(numbers[rows].mean()), range(200), draws=400, seed=4)
    width = 2 * 1.96 * numbers.std() / np.sqrt(200)  # of the normal approximation
    assert mean.high - mean.low == pytest.approx(width, rel=0.15)


def test_scans_of_one_patient_are_no_new_evidence():
    """Each patient scanned four times: the interval stays that of 50 patients, and does not shrink to half."""
    numbers = np.random.default_rng(1).normal(size=50)
    once = bootstrap_interval(lambda rows: float(numbers[rows].mean()), range(50), draws=500)
    often = np.repeat(numbers, 4)
    names = np.repeat([f"patient {n}" for n in range(50)], 4).tolist()
    clustered = bootstrap_interval(lambda rows: float(often[rows].mean()), names, draws=500)
    pretended = bootstrap_interval(lambda rows: float(often[rows].mean()), range(200), draws=500)
    assert clustered == pytest.approx(once)
    assert pretended.high - pretended.low < 0.65 * (once.high - once.low)


def test_draws_without_an_answer_are_counted_out():
    """With two patients half of all draws hold one of them twice."""
    both = bootstrap_interval(lambda rows: 1.0 if len(set(rows)) == 2 else np.nan, ["a", "b"], draws=1000)
    assert (both.value, both.low, both.high) == (1.0, 1.0, 1.0)
    assert both.draws == pytest.approx(500, abs=60)
    never = bootstrap_interval(lambda rows: np.nan, ["a"], draws=5)
    assert never.draws == 0
    assert np.isnan(never.low)


@pytest.mark.parametrize(("patients", "level"), [([], 0.95), (["a"], 1.0)])
def test_nonsense_is_refused(patients, level):
    with pytest.raises(ConfigError, match="bootstrap"):
        bootstrap_interval(lambda rows: 0.0, patients, level=level)
