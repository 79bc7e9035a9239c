"""Generated studies are a folder that recipes train on, whatever the number of processes that do."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from core.findings import CT_RATE_LABELS
from core.models.asap_file import load_asap
from core.models.model_file import read_about
from trainers.builders.files import read_triplets
from trainers.report_tokens import read_reports
from trainers.synthetic_folder import PracticeConfig, write_practice

OPTIONS = (
    "--recipe asap --preset tiny --loop.cpu --loop.batch-size 2 --loop.optim.steps 2 --loop.optim.warmup-steps 1 "
    "--view.spacing-mm 12 12 18 --reports.max-tokens 100 --split.val-share 0.5 --loop.log.every 1"
)


@pytest.fixture(scope="module")
def practice(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("practice")
    write_practice(PracticeConfig(folder, count=4, spacing_mm=12.0))
    return folder


def test_the_same_seed_writes_the_same_studies(practice, tmp_path):
    write_practice(PracticeConfig(tmp_path, count=1, spacing_mm=12.0))
    for name in ("volumes/made_1_a_1.nii.gz", "masks/made_1_a_1.nii.gz"):
        assert (tmp_path / name).read_bytes() == (practice / name).read_bytes()
    ids = [row.study_id for row in read_reports(practice)]
    assert ids == ["made_1_a_1", "made_1_b_1", "made_2_a_1", "made_2_b_1"]


@pytest.mark.training
def test_the_command_trains_on_two_processes_and_validates_other_patients(practice, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "trainers.pretrain", "--data", str(practice), "--out", str(tmp_path), *OPTIONS.split()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    split = json.loads((tmp_path / "splits.json").read_text())
    assert {study[:6] for study in split["train"]}.isdisjoint(study[:6] for study in split["val"])
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [("validation" in entry, entry["step"]) for entry in log] == [(False, 1), (False, 2), (True, 2)]
    assert read_about(tmp_path / "model.safetensors")[:2] == ("asap", "tiny")
    assert load_asap(tmp_path / "model.safetensors").facts["organ_map"] == "asap9"
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment[0]["packages"]["torch"]


def test_one_and_two_processes_write_the_same_files(practice, tmp_path):
    write_practice(PracticeConfig(tmp_path, count=4, spacing_mm=12.0, workers=2))
    here = {path.relative_to(practice): path.read_bytes() for path in practice.rglob("*") if path.is_file()}
    there = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert here == there


def test_the_truth_is_told_of_every_sentence(practice):
    told = json.loads((practice / "sentences.json").read_text())
    reports = {row.study_id: row.findings for row in read_reports(practice)}
    some = 0
    for study, sentences in told.items():
        assert " ".join(sentence["text"] for sentence in sentences) == reports[study]
        for sentence in sentences:
            claimed = any(fact["existence"] != "absent" for fact in sentence["facts"])
            assert bool(sentence["mask"]) == claimed == bool(sentence["findings"])
            if sentence["mask"]:
                some += 1
                mask = nib.nifti1.load(practice / sentence["mask"])
                volume = nib.nifti1.load(practice / "volumes" / f"{study}.nii.gz")
                np.testing.assert_allclose(mask.affine, volume.affine)
                assert np.asarray(mask.dataobj).any()
    assert some > 0
    assert set(read_triplets(practice / "triplets.csv")) <= set(told)
    labels = list(csv.DictReader((practice / "labels.csv").open()))
    assert [row["study_id"] for row in labels] == list(told)
    assert all(row[label] in "01" for row in labels for label in CT_RATE_LABELS)
    assert any("1" in list(row.values())[1:] for row in labels)
