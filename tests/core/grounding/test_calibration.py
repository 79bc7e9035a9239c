"""What may be concluded from a chance: only about findings whose error rate is known, and of a denial the opposite."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_engine import write_tiny_engine

from core.errors import CheckpointError, ConfigError
from core.grounding.calibration import Calibration, ErrorRate, FamilyRecord, PresenceScores
from core.grounding.model_folder import hash_weights, open_folder
from core.grounding.presence import asked_of, explain_calibration, judge
from core.report.parse import parse_report

RATE = ErrorRate(12, 400, 0.05, 0.0156, 0.0519)
MEASURED = Calibration(
    *(10.0, 0.0, -5.0, 0.0, 0.2, 0.8, RATE, RATE),
    families=(FamilyRecord("Pleural effusion", 0.0, 0.95, RATE, RATE),),
    measured_on="400 made-up studies",
)


def conclude(sentence, score, calibration=MEASURED):
    asked = asked_of(parse_report(sentence).sentences[0].mentions)
    return judge(calibration, asked, PresenceScores(score, 0.0, 0.0), 0.5)


@pytest.mark.parametrize(
    ("sentence", "score", "support", "probability"),
    [
        ("There is a left pleural effusion.", 0.9, "supported", 0.982),
        ("There is a left pleural effusion.", 0.1, "no support", 0.018),
        ("There is a left pleural effusion.", 0.5, "cannot tell", 0.5),
        ("No pleural effusion.", 0.9, "no support", 0.018),
        ("No pleural effusion.", 0.1, "supported", 0.982),
        ("No pleural effusion.", 0.5, "cannot tell", 0.5),
        ("Possible pleural effusion.", 0.9, "cannot tell", 0.5),
        ("There is a nodule in the left lower lobe.", 0.9, "cannot tell", 0.5),
        ("Pleural effusion and consolidation.", 0.9, "cannot tell", 0.5),
        ("The liver is normal.", 0.9, "cannot tell", 0.5),
    ],
)
def test_a_sentence_is_judged_and_a_denial_gets_the_opposite(sentence, score, support, probability):
    found = conclude(sentence, score)
    assert found.support == support
    assert found.probability == pytest.approx(probability, abs=1e-3)
    assert (found.error is None) == (support == "cannot tell")


def test_a_conclusion_names_its_error_rate():
    words = conclude("There is a left pleural effusion.", 0.1).words
    assert words.startswith(
        "No support in this scan for pleural effusion: the chance that it is there is 2 %, below 20 %."
    )
    assert "wrong in 3 % (12 of 400); 95 % interval 2 to 5 %" in words
    assert "speaks against this denial" in conclude("No pleural effusion.", 0.9).words
    legend = explain_calibration(MEASURED)
    assert "400 made-up studies" in legend
    assert "below 20 %" in legend
    assert "Covered: pleural effusion." in legend


@pytest.mark.parametrize("calibration", [Calibration(), Calibration(0.0, 0.0, 0.0)])
def test_without_measured_error_rates_nothing_is_concluded(calibration):
    found = judge(calibration, asked_of(()), PresenceScores(0.9, 0.9, 9.0), 0.97)
    assert (found.support, found.probability) == ("cannot tell", 0.97)
    assert "was not measured" in explain_calibration(calibration)


@pytest.mark.parametrize(
    "wrong",
    [
        {"no_support_below": 0.9},
        {"supported_above": 1.2},
        {"score_weight": -1.0},
        {"bias": float("nan")},
        {"families": ()},
        {"families": MEASURED.families * 2},
        {"missed": None},
        {"measured_on": ""},
    ],
)
def test_a_calibration_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match="expected"):
        replace(MEASURED, **wrong)


@pytest.mark.parametrize("wrong", [{"wrong": 500}, {"asked": 0}, {"low": 0.5}, {"limit": 0.0}])
def test_an_error_rate_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match="expected"):
        replace(RATE, **wrong)


@pytest.fixture
def folder(tmp_path):
    write_tiny_engine(tmp_path / "model")
    return tmp_path / "model"


def write_into(folder, **changes):
    path = folder / "engine.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    told["calibration"] = {**json.loads(json.dumps(dataclasses.asdict(MEASURED))), **changes}
    path.write_text(json.dumps(told), encoding="utf-8")


def test_a_measured_calibration_is_read_back(folder):
    write_into(folder, weights_sha256=hash_weights(folder))
    assert replace(open_folder(folder).calibration, weights_sha256="") == MEASURED


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"no_support_below": 0.95}, "no_support_below is 0.95, above supported_above 0.8"),
        ({"missed": {"wrong": 9, "asked": 4, "limit": 0.05, "low": 0.1, "high": 0.2}}, "9 wrong of 4"),
        ({"score_weight": "ten"}, "score_weight: 'ten' is not of type float"),
        ({"temperature": 2}, "temperature"),
        ({"weights_sha256": "0" * 64}, "measured with other weights"),
    ],
)
def test_a_folder_with_a_broken_calibration_is_refused_with_what_to_do(folder, changes, words):
    write_into(folder, **changes)
    with pytest.raises(CheckpointError, match=words) as told:
        open_folder(folder)
    assert "trainers.calibrate --model model" in str(told.value)
    assert np.isfinite(open_folder(folder, ignore_calibration=True).presence_probability(0.5, 0.1))
