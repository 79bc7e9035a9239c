"""A folder with broken studies trains every recipe to the end: what is left out is listed, and no weight is NaN."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from core.errors import CheckpointError
from core.models.checkpoint import read_weights
from trainers.builders.__main__ import main as build
from trainers.pretrain import pretrain, read_options
from trainers.recipes import RECIPES
from trainers.resume import WEIGHTS, latest_checkpoint
from trainers.run_log import BAD_STUDIES
from trainers.synthetic_folder import PracticeConfig, write_practice

FILES = {"organ-text": "organ_text.json", "organ-state": "organ_state.json", "triplets": "triplets.csv",
         "distill": "distilled.csv"}  # fmt: skip
OPTIONS = (
    "--preset tiny --loop.cpu --loop.batch-size 4 --loop.accumulate 1 --loop.optim.steps 4 --loop.optim.epochs 0 "
    "--loop.optim.warmup-steps 1 --loop.checkpoint-every 2 --view.spacing-mm 16 16 32 --split.val-share 0"
)


def change_volume(path: Path, kind: str) -> None:
    image = nib.load(path)
    voxels = np.asanyarray(image.dataobj).astype(np.float32)
    if kind == "nan":
        voxels[3, 3, 3] = np.nan
    nib.save(nib.Nifti1Image(voxels[:, :, :1] if kind == "thin" else voxels, image.affine), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """NaN voxels, one slice, an unreadable file, no words, one sentence, no organs, and two good studies."""
    data = tmp_path_factory.mktemp("broken")
    write_practice(PracticeConfig(data, count=8, spacing_mm=12.0))
    rows = list(csv.DictReader((data / "reports.csv").open()))
    paths = {kind: [data / kind / f"{row['study_id']}.nii.gz" for row in rows] for kind in ("volumes", "masks")}
    change_volume(paths["volumes"][0], "nan")
    change_volume(paths["volumes"][1], "thin")
    change_volume(paths["masks"][1], "thin")
    paths["volumes"][2].write_bytes(b"no such file")
    rows[3] |= {"findings": " ", "impression": ""}
    rows[4] |= {"findings": "The heart is normal", "impression": ""}
    empty = nib.load(paths["masks"][5])
    nib.save(nib.Nifti1Image(np.zeros(empty.shape, np.uint8), empty.affine), paths["masks"][5])
    with (data / "reports.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    for command, file_name in FILES.items():
        told = [command, "--reports", str(data / "reports.csv"), "--out", str(data / file_name), "--workers", "1"]
        assert build(told) == 0
    return data


def train(name: str, data: Path, out: Path) -> Path:
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)
    return pretrain(read_options(["--recipe", name, "--data", str(data), "--out", str(out), *OPTIONS.split()]))


def line_of(study_id: str, folder: Path) -> int:
    """Where the table says something of a study; reports before it may go over several lines."""
    lines = (folder / "reports.csv").read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if line.startswith(study_id))


@pytest.mark.training
@pytest.mark.parametrize("name", list(RECIPES))
def test_broken_studies_are_listed_and_spoil_nothing(folder, tmp_path, name, capsys):
    weights = read_weights(train(name, folder, tmp_path))[0]
    assert all(bool(value.isfinite().all()) for value in weights.values() if value.is_floating_point())
    told = [json.loads(line) for path in tmp_path.rglob(BAD_STUDIES) for line in path.read_text().splitlines()]
    troubles = " ".join(entry["trouble"] for entry in told)
    assert "no numbers" in troubles
    assert "cannot be read" in troubles
    assert f"Line {line_of('made_2_b_1', folder)} of reports.csv, made_2_b_1: the report is empty" in troubles
    assert "left out: 1 reports" in capsys.readouterr().err


@pytest.mark.training
def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(folder, tmp_path):
    whole = read_weights(train("fvlm", folder, tmp_path / "run"))[0]
    newest = latest_checkpoint(tmp_path / "run")
    (newest / WEIGHTS).write_bytes((newest / WEIGHTS).read_bytes()[:100])
    with pytest.raises(CheckpointError, match=f"Damaged checkpoint.*delete .*{newest.name} to use the one before"):
        train("fvlm", folder, tmp_path / "run")
    for path in newest.iterdir():
        path.unlink()
    newest.rmdir()
    again = read_weights(train("fvlm", folder, tmp_path / "run"))[0]
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert (
        len((tmp_path / "run" / BAD_STUDIES).read_text().split(f"Line {line_of('made_2_b_1', folder)} of")) == 2
    )  # told once
