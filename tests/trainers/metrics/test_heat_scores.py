import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainers.metrics.classification import score_area
from trainers.metrics.heat import (
    BEYOND,
    BODY,
    LEVELS,
    ORGAN,
    TRUTH,
    area_of_levels,
    best_dice,
    count_levels,
    dice_from,
)


@pytest.fixture
def scan():
    """Heat in steps of 1/64, so that many voxels are equally hot, and random zones."""
    rng = np.random.default_rng(0)
    heat = (rng.integers(0, 64, (9, 8, 7)) / 64).astype(np.float32)
    return heat, rng.integers(0, 4, heat.shape).astype(np.uint8)


@pytest.mark.parametrize("others", [(BODY, ORGAN), (ORGAN,), (BEYOND, BODY, ORGAN)])
def test_area_from_counts_is_that_of_all_pairs(scan, others):
    heat, zones = scan
    judged = np.isin(zones, (TRUTH, *others))
    expected = roc_auc_score(zones[judged] == TRUTH, heat[judged])
    assert area_of_levels(count_levels(heat, zones), others) == pytest.approx(expected, abs=1e-12)


def test_dice_from_counts_is_that_of_the_voxels(scan):
    heat, zones = scan
    counts, truth = count_levels(heat, zones), zones == TRUTH

    def dice(threshold):
        drawn = heat >= threshold
        return 2 * (drawn & truth).sum() / (drawn.sum() + truth.sum())

    for threshold in (0.25, 0.5, 0.75):
        assert dice_from(counts, threshold) == pytest.approx(dice(threshold))
    best = best_dice(counts)
    assert best.dice == pytest.approx(max(dice(step / 64) for step in range(1, 64)))
    assert dice(best.threshold) == pytest.approx(best.dice)


def test_counts_add_up_over_slabs(scan):
    heat, zones = scan
    parts = [count_levels(heat[:, :, cut], zones[:, :, cut]) for cut in (slice(0, 3), slice(3, None))]
    assert (parts[0] + parts[1] == count_levels(heat, zones)).all()


def test_heat_that_is_the_finding_and_heat_that_is_its_opposite():
    zones = np.full((4, 4, 4), BODY, np.uint8)
    zones[1:3, 1:3, 1:3] = TRUTH
    heat = (zones == TRUTH).astype(np.float32)
    counts = count_levels(heat, zones)
    assert (area_of_levels(counts), best_dice(counts).dice, dice_from(counts, 0.5)) == (1, 1, 1)
    counts = count_levels(1 - heat, zones)
    assert (area_of_levels(counts), dice_from(counts, 0.5)) == (0, 0)


def test_no_heat_has_no_dice_and_nothing_to_compare_has_no_area():
    counts = count_levels(np.zeros((2, 2, 2), np.float32), np.full((2, 2, 2), TRUTH, np.uint8))
    assert best_dice(counts).dice == 0
    assert np.isnan(best_dice(counts).threshold)
    assert np.isnan(area_of_levels(counts))
    assert counts.shape == (4, LEVELS)


def test_the_fast_area_is_the_usual_one():
    rng = np.random.default_rng(1)
    truth, scores = rng.random(60) < 0.4, rng.integers(0, 9, 60).astype(float)
    assert score_area(scores, truth) == pytest.approx(roc_auc_score(truth, scores))
    assert score_area(-scores, truth) == pytest.approx(1 - roc_auc_score(truth, scores))
    assert np.isnan(score_area(scores, np.ones(60, bool)))
