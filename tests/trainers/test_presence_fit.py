"""Thresholds keep the error rate that they promise on new answers, and nothing is promised without ground."""

import numpy as np
import pytest

from core.errors import ConfigError
from core.grounding.calibration import PresenceScores
from trainers.presence_fit import (
    Answer,
    FitConfig,
    decide,
    fit_calibration,
    fit_chances,
    interval,
    set_thresholds,
)

SHIFTS = {"Lung nodule": 0.4, "Pleural effusion": 2.5, "Emphysema": 2.0}


def draw_answers(seed, count, shifts=SHIFTS, patients=("a",), noise=0.3):
    """Scores of findings that are there lie higher by `shifts` (in tenths of a cosine), by another bias each."""
    rng = np.random.default_rng(seed)
    answers = []
    for number in range(count):
        finding = sorted(shifts)[number % len(shifts)]
        is_there = bool(rng.random() < 0.5)
        level = 0.2 + 0.05 * sorted(shifts).index(finding) + 0.1 * shifts[finding] * is_there
        score = level + noise * 0.1 * rng.standard_normal()
        contrast = 3 + 2 * is_there + rng.standard_normal()
        patient = patients[(number // 6) % len(patients)]
        answers.append(Answer(patient, number // 6, finding, is_there, score, -score + rng.normal(), contrast))
    return answers


def test_thresholds_keep_their_promise_on_new_answers():
    config = FitConfig(missed_limit=0.05, invented_limit=0.1)
    rates = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        low, high = set_thresholds(*overlapping(rng, 600), config)
        new, there = overlapping(rng, 10_000)
        assert low < high
        rates.append([(new[there] < low).mean(), (new[~there] > high).mean()])
    over = (np.array(rates) > [0.05, 0.1]).mean(axis=0)
    assert (over <= 0.1).all()  # 95 % sure each: 2 of 40 are expected to pass by a little
    assert (np.array(rates) <= [0.08, 0.14]).all()
    assert (np.mean(rates, axis=0) > [0.02, 0.05]).all()  # and not by hardly ever concluding anything


def overlapping(rng, count):
    truth = rng.random(count) < 0.5
    return 1 / (1 + np.exp(-rng.normal(np.where(truth, 1.2, -1.2), 1.5))), truth


def test_too_few_answers_give_no_threshold():
    truth = np.array([True, False] * 25)  # 25 without a single error still leave 11 % possible
    low, high = set_thresholds(np.where(truth, 0.9, 0.1), truth, FitConfig())
    assert (low, high) == (None, None)


def test_thresholds_that_would_overlap_meet():
    truth = np.array([True, False] * 200)
    chances = np.where(truth, np.linspace(0.6, 1, 400), np.linspace(0, 0.4, 400))
    low, high = set_thresholds(chances, truth, FitConfig())
    assert low == high
    assert chances[~truth].max() < low < chances[truth].min() + 0.05


def test_intervals_are_those_of_clopper_and_pearson():
    assert interval(0, 59, 0.05)[1] == pytest.approx(0.0495, abs=1e-4)
    assert interval(1, 20, 0.025) == pytest.approx((0.0013, 0.2487), abs=1e-4)


def test_no_weight_counts_against_a_finding():
    chances = fit_chances(draw_answers(1, 600), FitConfig())
    assert chances.weights[0] > 0
    assert chances.weights[1] == 0  # the margin falls where the finding is there
    assert chances.weights[2] > 0


def test_a_calibration_keeps_its_measured_rates_below_the_limits_and_leaves_out_what_it_cannot_tell():
    shifts = SHIFTS | {"Bronchiectasis": 0.0, "Hiatal hernia": 2.0}
    answers = draw_answers(2, 1500, shifts)
    rare = {one.study for one in answers if one.finding == "Hiatal hernia"}
    few = sorted(rare)[:30]
    answers = [one for one in answers if one.finding != "Hiatal hernia" or one.study in few]
    answers = [one._replace(contrast=3.0) for one in answers]
    found = fit_calibration(answers, FitConfig(), "made-up scores")
    covered = [family.finding for family in found.families]
    assert "Pleural effusion" in covered
    assert "Emphysema" in covered
    assert not {"Bronchiectasis", "Hiatal hernia"} & set(covered)
    assert found.missed.rate <= 0.05
    assert found.invented.rate <= 0.05
    assert found.missed.low <= found.missed.rate <= found.missed.high
    sure = PresenceScores(0.75, 0.0, 3.0)
    family = found.family("Pleural effusion")
    assert found.conclude(found.chance(sure, family.offset)) == "supported"
    assert found.conclude(found.chance(sure._replace(score=0.1), family.offset)) == "no support"
    new = [one for one in draw_answers(77, 6000, SHIFTS) if one.finding in covered]
    new = [one._replace(contrast=3.0) for one in new]
    chances = [found.chance(PresenceScores(*one[4:]), found.family(one.finding).offset) for one in new]
    wrong = [chance < found.no_support_below for chance, one in zip(chances, new, strict=True) if one.is_there]
    assert np.mean(wrong) <= 0.06


def test_scores_that_tell_nothing_conclude_nothing():
    answers = draw_answers(3, 900, dict.fromkeys(SHIFTS, 0.0))
    found = fit_calibration([one._replace(contrast=0.0) for one in answers], FitConfig(), "noise")
    assert not found.is_measured
    assert found.probability(0.9, 0.1) == 0.5


def test_patients_are_left_out_whole():
    """One patient's scores are turned round: judged by the others they are wrong, and no promise is made."""
    answers = draw_answers(4, 1200, {"Pleural effusion": 3.0}, patients=("a", "b"))
    turned = [one._replace(is_there=not one.is_there) if one.patient == "b" else one for one in answers]
    config = FitConfig(least_auroc=0.01)
    assert fit_calibration(answers, config, "x").is_measured
    assert not fit_calibration(turned, config, "x").is_measured


def test_what_is_decided_depends_on_nothing_but_the_answers():
    answers = draw_answers(5, 600)
    assert decide(answers, FitConfig()) == decide(list(answers), FitConfig())


@pytest.mark.parametrize("wrong", [{"missed_limit": 0}, {"folds": 1}, {"least_answers": 0}])
def test_impossible_promises_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"[Ee]xpected"):
        FitConfig(**wrong)


def test_answers_of_one_truth_are_refused():
    answers = [one._replace(is_there=True) for one in draw_answers(6, 60)]
    with pytest.raises(ConfigError, match="both truths"):
        fit_calibration(answers, FitConfig(), "x")
