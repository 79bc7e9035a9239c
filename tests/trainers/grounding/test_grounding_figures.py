"""Figures over sentences, and intervals that draw patients."""

import json

import numpy as np
import pytest

from trainers.grounding.figures import MEASURES, summarise, summarise_presence
from trainers.grounding.judging import Answer, Reading, SentenceRow
from trainers.metrics.intervals import IntervalConfig

READING = Reading(1, 0.1, 0, 0.8, 0.5, 0.9, 0.7, 0.6, 0, 0.4, 0, 0, 0)


def row(patient="a", finding="mass", hit=1.0, wrong=np.nan):
    raw = READING._replace(hit=hit, wrong_side=wrong)
    return SentenceRow(patient, patient, finding, "A mass.", (), "", 3.0, "", raw, READING)


def answer(is_there, score, patient="a", finding="mass", margin=0.0):
    return Answer(patient, patient, finding, "A mass.", is_there, score, margin, 0.5)


def test_means_leave_out_what_is_not_defined_and_count_the_rest():
    told = summarise([row(hit=1, wrong=1), row(hit=0, wrong=0), row("b", "nodule", hit=1)], IntervalConfig(draws=20))
    overall = told["overall"]
    assert overall["raw"]["pointing"]["value"] == pytest.approx(2 / 3)
    assert (overall["raw"]["wrong_side"]["value"], overall["raw"]["wrong_side"]["n"]) == (0.5, 2)
    assert (overall["sentences"], overall["patients"]) == (3, 2)
    assert set(overall["constrained"]) == set(MEASURES)
    assert list(told["per_finding"]) == ["mass", "nodule"]
    assert told["per_finding"]["mass"]["raw"]["pointing"]["value"] == 0.5
    assert told["per_finding"]["nodule"]["raw"]["wrong_side"] == {"value": None, "low": None, "high": None, "n": 0}
    json.dumps(told, allow_nan=False)


def test_one_patient_has_no_interval_and_several_are_drawn_whole():
    alone = summarise([row(hit=0), row(hit=1)], IntervalConfig())["overall"]["raw"]["pointing"]
    assert (alone["value"], alone["low"], alone["high"]) == (0.5, None, None)
    twice = [row(patient, hit=hit) for patient, hit in zip("aabbccdd", [1, 1, 0, 0, 1, 1, 0, 0], strict=True)]
    apart = [row(str(number), hit=one.raw.hit) for number, one in enumerate(twice)]
    wide, narrow = (summarise(rows, IntervalConfig(draws=200))["overall"]["raw"]["pointing"] for rows in (twice, apart))
    assert wide["high"] - wide["low"] > narrow["high"] - narrow["low"]


def test_intervals_contain_what_is_known_in_nearly_all_samples():
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(24):
        rows = [row(str(number), hit=float(rng.random() < 0.7)) for number in range(40)]
        one = summarise(rows, IntervalConfig(draws=100, seed=seed))["overall"]["raw"]["pointing"]
        inside += one["low"] <= 0.7 <= one["high"]
    assert 19 <= inside <= 24


def test_presence_is_per_finding_so_that_common_ones_do_not_help():
    answers = [answer(True, 0.9, str(n)) for n in range(6)] + [answer(False, 0.8, str(n)) for n in range(2)]
    answers += [answer(True, 0.2, "9", "nodule"), *(answer(False, 0.1, str(n), "nodule") for n in range(9))]
    answers += [answer(False, 0.5, "3", "effusion")]
    told = summarise_presence(answers, IntervalConfig(draws=50))
    assert told["per_finding"]["mass"]["score"]["value"] == 1
    assert told["per_finding"]["nodule"]["score"]["value"] == 1
    assert told["per_finding"]["effusion"]["score"]["value"] is None
    assert told["mean_over_findings"]["findings"] == 2
    assert told["mean_over_findings"]["score"]["value"] == 1
    assert told["overall"]["score"]["value"] < 1
    assert told["overall"]["probability"]["value"] == 0.5
    assert (told["overall"]["true"], told["overall"]["false"]) == (7, 12)
    json.dumps(told, allow_nan=False)


def test_presence_without_questions_is_told_as_nothing():
    told = summarise_presence([], IntervalConfig())
    assert told["overall"] == {"true": 0, "false": 0, "probability": None, "score": None, "margin": None}
