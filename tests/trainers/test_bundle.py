import json

import numpy as np
import pytest

from core.errors import CheckpointError
from core.grounding.model_folder import open_folder
from core.grounding.readout import SentenceQuery, ground_sentences, make_canvas
from core.models.asap import ASAP
from core.models.asap_config import tiny
from core.models.asap_file import save_asap
from core.models.checkpoint import config_to_json
from core.models.tokens import train_wordpiece
from core.synthesis.patients import ViewConfig
from core.synthesis.phantom import PhantomConfig, build_phantom
from core.synthesis.reports import generate_reports
from core.synthesis.studies import StudyConfig
from trainers.bundle import BundleConfig, bundle
from trainers.pretrain import PretrainConfig
from trainers.run_files import CONFIG, MODEL, TOKENIZER
from trainers.synthetic import SyntheticConfig


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What trainers.pretrain leaves behind, of an untrained model."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = train_wordpiece([report.findings for report in generate_reports(30, 0)], 400)
    model = ASAP(tiny(tokenizer.vocab_size))
    study = StudyConfig(ViewConfig((32, 32, 16), 9.0))
    synthetic = SyntheticConfig(study=study, crop=(32, 32, 16), patch=(8, 8, 4), window_hu=(-900.0, 300.0))
    told = {
        "run": json.loads(config_to_json(PretrainConfig(folder, synthetic=synthetic))),
        "model": json.loads(config_to_json(model.config)),
    }
    (folder / CONFIG).write_text(json.dumps(told))
    (folder / TOKENIZER).write_text(tokenizer.to_json())
    save_asap(folder / MODEL, model, tokenizer, {})
    return folder


def test_a_bundled_run_opens_as_an_engine_that_sees_ct_as_in_training(run, tmp_path):
    engine = open_folder(bundle(BundleConfig(run, tmp_path / "model", name="own")))
    assert engine.name == "own"
    assert engine.spec.view.spacing_mm == (9.0, 9.0, 9.0)
    assert engine.spec.view.hu_range == (-900.0, 300.0)
    phantom = build_phantom(PhantomConfig(shape=(48, 36, 40), spacing_mm=(7.0, 7.0, 7.0), lesions=()))
    features = engine.embed_volume(phantom.volume, phantom.masks)
    canvas = make_canvas(phantom.volume, features, phantom.masks)
    query = SentenceQuery(1, "There is a nodule in the left lower lobe.", "There is no nodule in the left lower lobe.")
    heat = ground_sentences(engine, features, canvas, [query])[0].map.heat
    assert heat.max() == pytest.approx(1.0)
    assert np.isfinite(heat).all()


def test_a_run_on_a_folder_keeps_how_its_cts_were_clipped_and_padded(run, tmp_path):
    told = json.loads((run / CONFIG).read_text())
    told["run"]["data"] = "folder"
    told["run"]["view"] |= {"shown_as": [0.0, 1.0], "resample": "as_released", "clip_late": False, "padding": "mirror"}
    for name in (TOKENIZER, MODEL):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / CONFIG).write_text(json.dumps(told))
    view = open_folder(bundle(BundleConfig(tmp_path, tmp_path / "model"))).spec.view
    assert (view.shown_as, view.smooth, view.clip_late, view.padding) == ((0.0, 1.0), False, False, "mirror")


def test_a_model_whose_errors_were_not_measured_cannot_tell(run, tmp_path):
    engine = open_folder(bundle(BundleConfig(run, tmp_path / "model")))
    assert engine.presence_probability(0.9, -0.9) == 0.5
    assert not engine.calibration.is_measured


def test_a_model_folder_tells_how_it_was_made_and_not_where(run, tmp_path):
    told = json.loads((run / "config.json").read_text())
    told["run"]["synthetic"]["patients_dir"] = "/home/someone/patients"
    (run / "config.json").write_text(json.dumps(told))
    (run / "log.jsonl").write_text('{"step": 1}\n')
    out = bundle(BundleConfig(run, tmp_path / "model"))
    settings = json.loads((out / "run.json").read_text())
    assert settings["run"]["synthetic"]["patients_dir"] == "patients"
    assert settings["model"] == told["model"]
    assert (out / "log.jsonl").read_text() == '{"step": 1}\n'


def test_a_run_without_weights_is_refused(run, tmp_path):
    for name in (CONFIG, TOKENIZER):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    with pytest.raises(CheckpointError, match="nor a checkpoint yet"):
        bundle(BundleConfig(tmp_path, tmp_path / "model"))
    with pytest.raises(CheckpointError, match="expected a run"):
        bundle(BundleConfig(tmp_path / "nothing", tmp_path / "model"))
