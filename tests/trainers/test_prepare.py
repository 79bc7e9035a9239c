import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ct_tree import a_ct, block_mask, save_nifti
from dicom_series import axes_affine

from core.errors import ConfigError
from core.structures import BY_NAME
from trainers.outcomes import FAILURES
from trainers.preparation.study import StudyOptions
from trainers.prepare import PrepareConfig, prepare
from trainers.spread import SpreadConfig
from trainers.store.reading import StudyStore

HERE = SpreadConfig(workers=0)
HEART = BY_NAME["heart"].number


@pytest.fixture
def tree(tmp_path):
    """Three good studies, and four files that cannot be used."""
    root = tmp_path / "data"
    for number in (1, 2, 3):
        folder = root / f"train/train_{number}/train_{number}a"
        save_nifti(folder / f"train_{number}_a_1.nii.gz", a_ct() + np.int16(number), axes_affine("LPS"))
        save_nifti(tmp_path / f"masks/train_{number}_a_1.nii.gz", block_mask(HEART), axes_affine("LPS"))
    broken = a_ct().astype(np.float32)
    broken[4, 4, 4] = np.nan
    save_nifti(root / "train/train_4/nan.nii.gz", broken, axes_affine("LPS"))
    save_nifti(root / "train/train_4/four_d.nii.gz", np.stack([a_ct()] * 2, -1), axes_affine("LPS"))
    whole = (root / "train/train_1/train_1a/train_1_a_1.nii.gz").read_bytes()
    (root / "train/train_4/short.nii.gz").write_bytes(whole[: len(whole) // 3])
    save_nifti(root / "train/train_4/no_mask.nii.gz", a_ct(), axes_affine("LPS"))
    return root


def test_bad_files_are_listed_and_stop_nothing(tree, tmp_path):
    told = prepare(PrepareConfig(tree, tmp_path / "store", tmp_path / "masks", spread=SpreadConfig(workers=2)))
    assert (told["found"], told["done"], told["failed"]) == (7, 3, 4)
    reasons = {one["study_id"]: one["reason"] for one in told["failures"]}
    assert set(reasons) == {"nan", "four_d", "short", "no_mask"}
    assert "NaN" in reasons["nan"]
    assert "has no mask" in reasons["no_mask"]
    lines = [json.loads(line) for line in (tmp_path / "store" / FAILURES).read_text().splitlines()]
    assert sorted(lines, key=lambda one: one["study_id"]) == sorted(told["failures"], key=lambda one: one["study_id"])
    store = StudyStore(tmp_path / "store")
    assert store.study_ids == ("train_1_a_1", "train_2_a_1", "train_3_a_1")
    assert (store.read_structures("train_2_a_1") == HEART).any()


def test_finished_studies_are_kept_and_half_written_ones_redone(tree, tmp_path):
    config = PrepareConfig(tree, tmp_path / "store", spread=HERE, limit=2)
    first = prepare(config)
    assert first["done"] + first["failed"] == 2
    finished = StudyStore(tmp_path / "store").study_ids
    stamp = {name: (tmp_path / f"store/studies/{name}/zarr.json").stat().st_mtime_ns for name in finished}
    (tmp_path / f"store/studies/.part-train_3_a_1.{os.uname().nodename}.999999/hu").mkdir(parents=True)
    told = prepare(PrepareConfig(tree, tmp_path / "store", spread=HERE))
    assert told["finished_before"] == len(finished)
    assert told["half_written_removed"] == 1
    assert StudyStore(tmp_path / "store").study_ids == ("no_mask", "train_1_a_1", "train_2_a_1", "train_3_a_1")
    for name, before in stamp.items():
        assert (tmp_path / f"store/studies/{name}/zarr.json").stat().st_mtime_ns == before


def test_the_command_prints_one_document_and_takes_plain_options(tree, tmp_path):
    (tmp_path / "metadata.csv").write_text("VolumeName,XYSpacing,ZSpacing\nnobody.nii.gz,0.7,1\n")
    options = "--spacing-mm 1 1 3 --window-hu -1150 350 --resample as_released --workers 0 --chunk 32 32 16".split()
    command = [sys.executable, "-m", "trainers.prepare", "--root", str(tree), "--out", str(tmp_path / "store")]
    command += ["--metadata", str(tmp_path / "metadata.csv"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == 4
    store = StudyStore(tmp_path / "store")
    assert store.settings.spacing_mm == (1.0, 1.0, 3.0)
    assert store.read_volume("train_1_a_1").hu.max() == 350
    again = subprocess.run(command[:7], capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert again.returncode == 2
    assert "other settings" in again.stderr
    assert again.stdout == ""


def test_the_table_mends_blank_headers(tmp_path):
    blank = np.diag([-1.0, -1.0, 1.0, 1.0])
    save_nifti(tmp_path / "data/a/x_1.nii.gz", (a_ct().astype(int) + 1024).astype(np.int16), blank)
    table = tmp_path / "metadata.csv"
    table.write_text(
        "VolumeName,RescaleSlope,RescaleIntercept,XYSpacing,ZSpacing,ImageOrientationPatient,ImagePositionPatient\n"
        'x_1.nii.gz,1,-1024,"[0.7, 0.8]",2.5,"[1, 0, 0, 0, 1, 0]","[-11, 37, 150]"\n'
    )
    without = prepare(PrepareConfig(tmp_path / "data", tmp_path / "store", spread=HERE))
    assert "header is blank" in without["failures"][0]["reason"]
    told = prepare(PrepareConfig(tmp_path / "data", tmp_path / "store", metadata=table, spread=HERE))
    assert told["done"] == 1
    assert len(told["notes"][0]["notes"]) == 2
    save_nifti(tmp_path / "whole/x_1.nii.gz", a_ct(), axes_affine("LPS"))
    prepare(PrepareConfig(tmp_path / "whole", tmp_path / "other", spread=HERE))
    mended, whole = (StudyStore(tmp_path / name).read_volume("x_1") for name in ("store", "other"))
    np.testing.assert_allclose(mended.affine, whole.affine, atol=1e-4)
    np.testing.assert_array_equal(mended.hu, whole.hu)


def test_what_concerns_every_file_is_said_before_any_is_read(tree, tmp_path):
    (tmp_path / "names.json").write_text('{"1": "haert"}')
    with pytest.raises(ConfigError, match="haert"):
        prepare(
            PrepareConfig(tree, tmp_path / "store", study=StudyOptions(mask_names=tmp_path / "names.json"), spread=HERE)
        )
    assert not (tmp_path / "store").exists()


def test_dask_prepares_the_same_store_with_two_workers(tree, tmp_path):
    pytest.importorskip("distributed", reason="requirements-cluster.txt is not installed")
    local = prepare(PrepareConfig(tree, tmp_path / "local", spread=HERE))
    command = [sys.executable, "-m", "trainers.prepare", "--root", str(tree), "--out", str(tmp_path / "dask")]
    command += ["--engine", "dask", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["done"], told["failed"]) == (local["done"], local["failed"])
    ours, theirs = StudyStore(tmp_path / "local"), StudyStore(tmp_path / "dask")
    assert ours.study_ids == theirs.study_ids
    for study_id in ours.study_ids:
        np.testing.assert_array_equal(ours.read_volume(study_id).hu, theirs.read_volume(study_id).hu)
