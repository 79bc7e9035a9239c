"""Questions with their truth, asked of a small untrained engine; what they give is written into its folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_engine import write_tiny_engine

from core.anatomy.masks import OrganMasks
from core.errors import ConfigError
from core.grounding.model_folder import open_folder
from core.grounding.readout import make_canvas
from core.synthesis.patients import Patient, ViewConfig
from core.synthesis.phantom import PhantomConfig, build_phantom
from core.synthesis.studies import StudyConfig, make_study
from core.volume import Volume
from trainers.calibrate import CalibrateConfig, calibrate, collect_answers
from trainers.patients import write_patient
from trainers.presence_answers import questions_about
from trainers.presence_fit import Answer, FitConfig
from trainers.stored_study import store

STUDY = StudyConfig(ViewConfig((44, 36, 44), 7.5), findings=(2, 4))


@pytest.fixture(scope="module")
def patient():
    phantom = build_phantom(PhantomConfig((60, 44, 56), (6.0, 6.0, 6.0), "RAS", lesions=()))
    return Patient("somebody", phantom.volume.hu, phantom.masks.labels, phantom.volume.grid)


@pytest.fixture(scope="module")
def config(tmp_path_factory, patient):
    root = tmp_path_factory.mktemp("calibrate")
    write_tiny_engine(root / "model")
    write_patient(patient, root / "patients" / "somebody")
    return CalibrateConfig(
        root / "model", root / "patients", count=2, study=STUDY, answers=root / "answers.jsonl", workers=0
    )


def test_questions_carry_the_truth_of_the_study(config, patient):
    engine = open_folder(config.model)
    there, denied = set(), 0
    for seed in range(3):
        study = make_study(patient, STUDY, np.random.default_rng(seed))
        volume = Volume(study.scene.hu.astype(np.int16), study.scene.grid, study.scene.grid)
        masks = OrganMasks(study.scene.labels, "truth")
        canvas = make_canvas(volume, engine.embed_volume(volume, masks), masks)
        asked = questions_about(study, store(study), canvas, np.random.default_rng(0))
        painted = {finding.claim.finding for finding in study.findings}
        there |= {one.query.asked.finding for one in asked if one.is_there}
        assert {one.query.asked.finding for one in asked if one.is_there} <= painted
        absent = [one for one in asked if one.query.asked.finding not in painted]
        assert absent
        assert not any(one.is_there for one in absent)
        denied += sum(one.query.asked.is_denied for one in asked)
    assert there
    assert denied


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(config):
    whole = collect_answers(replace(config, answers=None))
    assert {answer.study for answer in whole} == {0, 1}
    collect_answers(replace(config, count=1))
    with config.answers.open("a", encoding="utf-8") as file:
        file.write('{"number": 1, "answ')  # torn by a power cut
    assert collect_answers(config) == whole
    assert collect_answers(replace(config, workers=1)) == whole  # nothing is left to ask
    with pytest.raises(ConfigError, match="another model, seed or kind of study"):
        collect_answers(replace(config, seed=1))


def test_a_calibration_is_written_and_opened_with_its_engine(config, monkeypatch):
    rng = np.random.default_rng(0)
    made = [
        Answer("somebody", number // 4, "Lung nodule", bool(number % 2), number % 2 + 0.2 * rng.normal(), 0.0, 3.0)
        for number in range(600)
    ]
    monkeypatch.setattr("trainers.calibrate.collect_answers", lambda _: made)
    before = json.loads((config.model / "engine.json").read_text(encoding="utf-8"))
    told = calibrate(replace(config, write=False))
    assert json.loads((config.model / "engine.json").read_text(encoding="utf-8")) == before
    assert told["findings"]["Lung nodule"]["covered"]
    assert told["chances"][0]["there"] < 0.1 < told["chances"][-1]["there"]
    calibrate(replace(config, card=config.model.parent / "card.md"))
    card = (config.model.parent / "card.md").read_text(encoding="utf-8")
    assert "| Lung nodule | 1.00 | " in card or "| Lung nodule | 0.99 | " in card
    assert "and was wrong in" in card
    found = open_folder(config.model)
    assert found.spec.view.spacing_mm == tuple(before["view"]["spacing_mm"])
    assert found.calibration.family("Lung nodule").auroc > 0.95
    assert found.calibration.missed.rate <= 0.05
    assert "each study judged by the others" in found.calibration.measured_on
    calibrate(replace(config, fit=FitConfig(least_auroc=0.9999)))
    assert not open_folder(config.model).calibration.is_measured  # covers nothing: zeros, "cannot tell"
