"""The command, from a folder or the data engine to a model file that opens."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import pytest
import torch
from accelerate.state import AcceleratorState

from core.errors import ConfigError
from core.models.asap_file import load_asap
from core.models.tokens import train_wordpiece
from core.synthesis.patients import Patient, ViewConfig
from core.synthesis.phantom import PhantomConfig, build_phantom
from core.synthesis.reports import generate_reports
from core.synthesis.studies import StudyConfig
from trainers.crops import DataView
from trainers.loop import LoopConfig
from trainers.optim import OptimConfig
from trainers.patients import write_patient
from trainers.pretrain import PretrainConfig, main, pretrain
from trainers.report_tokens import ReportConfig
from trainers.run_files import CONFIG, ENVIRONMENT, record_run
from trainers.run_log import LogConfig
from trainers.synthetic import SyntheticConfig


@pytest.fixture(scope="module")
def patients(tmp_path_factory) -> Path:
    phantom = build_phantom(replace(PhantomConfig(), lesions=(), spacing_mm=(6.0, 6.0, 6.0)))
    root = tmp_path_factory.mktemp("patients")
    write_patient(Patient("one", phantom.volume.hu, phantom.masks.labels, phantom.volume.grid), root / "one")
    return root


def a_run(patients: Path, out: Path, **loop: object) -> PretrainConfig:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    optim = OptimConfig(steps=2, warmup_steps=1)
    view = ViewConfig(shape=(32, 32, 16), spacing_mm=12.0)
    data = SyntheticConfig(
        patients, phantoms=0, count=4, study=StudyConfig(view=view), crop=(32, 32, 16), patch=(8, 8, 4), max_tokens=128
    )
    vocabulary = patients.parent / "tokenizer.json"
    if not vocabulary.is_file():
        vocabulary.write_text(train_wordpiece([r.findings for r in generate_reports(50, 0)], 400).to_json())
    return PretrainConfig(
        out,
        preset="tiny",
        tokenizer=vocabulary,
        loop=replace(LoopConfig(batch_size=2, cpu=True, log=LogConfig(every=1), optim=optim), **loop),
        synthetic=data,
    )


@pytest.mark.training
def test_a_run_leaves_a_model_that_opens_with_its_vocabulary_and_view(patients, tmp_path):
    path = pretrain(a_run(patients, tmp_path / "run"))
    loaded = load_asap(path)
    assert not loaded.model.training
    assert json.loads(loaded.facts["spacing_mm"]) == [12.0, 12.0, 12.0]
    ids, attn = loaded.tokenizer.encode_prompts(["There is a nodule."], 64)
    assert loaded.model.embed_sentences(ids, attn).shape == (1, 48)
    assert loaded.model.encode_patches(torch.zeros(1, 1, 32, 32, 16)).shape == (1, 4, 4, 4, 48)
    written = {item.name for item in path.parent.iterdir()}
    assert {"config.json", "environment.json", "tokenizer.json", "log.jsonl", "step-0000002"} <= written


@pytest.mark.training
def test_another_run_does_not_continue_in_its_folder(patients, tmp_path):
    pretrain(a_run(patients, tmp_path))
    with pytest.raises(ConfigError, match="other settings .run.loop.batch_size"):
        pretrain(a_run(patients, tmp_path, batch_size=1))
    pretrain(a_run(patients, tmp_path, log=LogConfig(every=2)))  # what is not part of the result may change


@pytest.mark.parametrize("name", [CONFIG, ENVIRONMENT])
def test_damaged_settings_of_a_run_are_named(patients, tmp_path, name):
    config = a_run(patients, tmp_path)
    record_run(tmp_path, config, config.loop)
    (tmp_path / name).write_text((tmp_path / name).read_text()[:40])
    with pytest.raises(ConfigError, match=f"{name} is damaged"):
        record_run(tmp_path, config, config.loop)


def test_a_view_that_the_model_cannot_read_is_refused_before_anything_is_written(patients, tmp_path):
    config = a_run(patients, tmp_path / "run")
    wider = replace(config.synthetic, patch=(4, 4, 4))
    with pytest.raises(ConfigError, match=r"in patches of \(4, 4, 4\)"):
        pretrain(replace(config, synthetic=wider))
    assert not (tmp_path / "run").exists()


def test_full_size_presets_ask_for_their_vocabulary(patients, tmp_path, capsys):
    config = replace(a_run(patients, tmp_path), preset="released", tokenizer=None)
    with pytest.raises(SystemExit) as stop:
        main(config)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "--tokenizer" in captured.err


def test_missing_patients_are_named(tmp_path):
    with pytest.raises(ConfigError, match="trainers.patients"):
        pretrain(a_run(tmp_path / "none", tmp_path / "run"))


def test_unknown_preset_lists_the_known_ones(patients, tmp_path):
    with pytest.raises(ConfigError, match="released, paper, corrected, small, two_scale, tiny"):
        pretrain(replace(a_run(patients, tmp_path), preset="large"))


@pytest.mark.training
def test_a_folder_of_studies_trains_from_earlier_weights(patients, tmp_path):
    """From volumes/, masks/ and reports.csv, starting where another run ended."""
    data = tmp_path / "data"
    for kind in ("volumes", "masks"):
        (data / kind).mkdir(parents=True)
    for name in ("a", "b"):
        nib.save(nib.load(patients / "one" / "ct.nii.gz"), data / "volumes" / f"{name}.nii.gz")
        nib.save(nib.load(patients / "one" / "organs.nii.gz"), data / "masks" / f"{name}.nii.gz")
    (data / "reports.csv").write_text(
        "study_id,findings,impression\na,Heart is normal. No nodule.,\nb,Clear lungs.,None.\n"
    )
    first = pretrain(a_run(patients, tmp_path / "first"))
    config = replace(
        a_run(patients, tmp_path / "second"),
        data=str(data),
        init=(first,),
        view=DataView(spacing_mm=(12.0, 12.0, 12.0)),
        reports=ReportConfig(max_tokens=64),
    )
    second = load_asap(pretrain(config))
    assert json.loads(second.facts["spacing_mm"]) == [12.0, 12.0, 12.0]
    logged = [json.loads(line) for line in (tmp_path / "second" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in logged] == [1, 2]
    change = (second.model.norm.weight - load_asap(first).model.norm.weight).abs().max()
    assert 0 < change < 0.01


@pytest.mark.training
def test_kept_findings_are_refused_where_the_text_encoder_trains(patients, tmp_path):
    config = replace(a_run(patients, tmp_path / "run"), cache_text=True)
    with pytest.raises(ConfigError, match="frozen text encoder"):
        pretrain(config)
    pretrain(replace(config, change=("text_frozen=true",)))
    assert list((tmp_path / "run" / "findings").rglob("*.npy"))
