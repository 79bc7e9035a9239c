"""Recipe asap at two scales, from the data engine to a model folder that opens."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_two_scale import tiny_two_scale

from core.errors import ConfigError
from core.grounding.model_folder import open_folder
from core.models.checkpoint import config_to_json, read_weights
from core.models.tokens import train_wordpiece
from core.report.traits import TRAITS
from core.synthesis.patients import Patient, ViewConfig
from core.synthesis.phantom import PhantomConfig, build_phantom
from core.synthesis.reports import generate_reports
from core.synthesis.studies import StudyConfig
from trainers.bundle import BundleConfig, bundle
from trainers.cells import FINDING_KINDS, STRUCTURE_CLASSES
from trainers.loop import LoopConfig
from trainers.optim import OptimConfig
from trainers.patients import write_patient
from trainers.pretrain import PretrainConfig, pretrain, read_options
from trainers.run_log import LogConfig
from trainers.study_cache import FillConfig, fill_cache
from trainers.synthetic import SyntheticConfig


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    root = tmp_path_factory.mktemp("two_scale")
    phantom = build_phantom(replace(PhantomConfig(), lesions=(), spacing_mm=(6.0, 6.0, 6.0)))
    write_patient(Patient("one", phantom.volume.hu, phantom.masks.labels, phantom.volume.grid), root / "patients/one")
    tokenizer = train_wordpiece([report.findings for report in generate_reports(50, 0)], 400)
    (root / "tokenizer.json").write_text(tokenizer.to_json())
    config = tiny_two_scale(tokenizer.vocab_size, (STRUCTURE_CLASSES, len(FINDING_KINDS)), len(TRAITS))
    text = replace(config.text, positions=256)
    (root / "model.json").write_text(config_to_json(replace(config, text=text, report=text)))
    data = SyntheticConfig(
        root / "patients",
        phantoms=0,
        count=4,
        cache_dir=root / "studies",
        study=StudyConfig(ViewConfig((36, 36, 36), 9.0)),
        crop=(32, 32, 32),
        patch=(16, 16, 16),
        window_hu=(-1000.0, 1000.0),
        false_claims=4,
        cells=True,
        jitter_hu=10.0,
    )
    optim = OptimConfig(steps=2, warmup_steps=1)
    loop = LoopConfig(batch_size=2, cpu=True, checkpoint_every=1, log=LogConfig(every=1), optim=optim)
    return PretrainConfig(
        root,
        preset="two_scale",
        model=root / "model.json",
        tokenizer=root / "tokenizer.json",
        loop=loop,
        synthetic=data,
    )


def run(config, out):
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    return pretrain(replace(config, out=out))


@pytest.mark.training
def test_studies_are_made_ahead_and_once(start):
    fill = FillConfig(start.synthetic)
    assert fill_cache(fill, lambda done, of: None) == 4
    assert fill_cache(fill, lambda done, of: None) == 0
    with pytest.raises(ConfigError, match="expected a folder"):
        FillConfig(replace(start.synthetic, cache_dir=None))


@pytest.mark.training
def test_a_run_continues_where_it_was_stopped_and_becomes_an_engine(start, tmp_path):
    whole = read_weights(run(start, tmp_path / "whole"))[0]
    for left in (tmp_path / "whole").glob("checkpoint*2"):
        assert left.is_dir()
    stopped = tmp_path / "stopped"
    first = replace(start, loop=replace(start.loop, optim=start.loop.optim))
    run(first, stopped)
    newest = max(path for path in stopped.iterdir() if path.is_dir())
    for file in [*newest.rglob("*")]:
        file.unlink()
    newest.rmdir()
    (stopped / "model.safetensors").unlink()
    again = read_weights(run(start, stopped))[0]
    assert all(torch.allclose(value, again[name], atol=1e-6) for name, value in whole.items())
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"place", "extent", "presence", "kinds", "structures", "reconstruction"} <= set(log[0]["losses"])
    engine = open_folder(bundle(BundleConfig(tmp_path / "whole", tmp_path / "model")))
    assert engine.spec.view.patch_size == (2, 2, 2)
    assert engine.spec.view.subdivisions == 1
    assert np.linalg.norm(engine.embed_sentences(["There is a nodule."])[0]) == pytest.approx(1.0, abs=1e-5)


def test_the_preset_starts_from_its_own_data_engine():
    options = read_options(["--preset", "two_scale", "--out", "x", "--synthetic.count", "7"])
    assert options.synthetic.cells
    assert options.synthetic.crop == (112, 80, 112)
    assert options.synthetic.count == 7
    assert options.loop.precision == "auto"
