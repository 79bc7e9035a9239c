"""`python -m trainers.finetune classification`, from lists to a model that the page can open."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_task import read_json, write_ct, write_encoder, write_label_task, write_list

from core.errors import CheckpointError, ConfigError
from core.tasks.registry import list_tasks, open_classifier
from core.volume import Volume
from trainers.finetune import main

QUICK = "--loop.cpu --interval.draws 20 --loop.optim.epochs 30 --loop.batch-size 8".split()


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("labels")
    write_label_task(root)
    write_encoder(root / "run")
    return root


def options(root: Path, out: Path, *more: object) -> list[str]:
    told = ["classification", "--out", out, "--encoder", root / "run", "--train", root / "train.csv"]
    told += ["--volumes", root / "volumes", "--cache", root / "cache", *QUICK, *more]
    return [str(word) for word in told]


@pytest.mark.training
def test_probe_learns_what_can_be_seen_and_the_page_can_open_it(task, tmp_path):
    out = tmp_path / "probe"
    told = main(options(task, out, "--test", task / "valid.csv", "--seeds", 0, 1))
    assert told["seeds"]["0"]["test"]["values"]["auroc/Bright"]["value"] > 0.9
    assert set(told["seeds"]) == {"0", "1"}
    assert told["over_seeds"]["test"]["auroc_macro"]["sd"] >= 0
    low, high = told["seeds"]["0"]["test"]["values"]["f1_micro"]["interval"]
    assert 0 <= low <= told["seeds"]["0"]["test"]["values"]["f1_micro"]["value"] <= high <= 1
    for name in ("config.json", "environment.json", "metrics.json", "splits.json", "model.safetensors"):
        assert (out / name).is_file(), name
    with (out / "seed-0" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["side"] for row in rows} == {"val", "test"}
    split = read_json(out / "splits.json")
    assert not {name[:8] for name in split["train"]} & {name[:8] for name in split["val"]}
    models = tmp_path / "models"
    (models / "bright").mkdir(parents=True)
    shutil.copy(out / "model.safetensors", models / "bright")
    (engine,) = list_tasks(models)
    assert (engine.name, engine.task, engine.can_run) == ("bright", "classification", True)
    test = [row for row in rows if row["side"] == "test"][1]
    from trainers.finetuning.volumes import read_ct

    scores = open_classifier("bright", models).score(read_ct(task / "volumes" / "valid" / test["study_id"]))
    # features are kept in half precision, so the page's number differs in the third digit at most
    assert scores[0].probability == pytest.approx(float(test["p/Bright"]), abs=5e-3)


@pytest.mark.training
def test_features_are_computed_once(task, tmp_path):
    main(options(task, tmp_path / "first"))
    kept = {path: path.stat().st_mtime_ns for path in (task / "cache").rglob("*.npy")}
    main(options(task, tmp_path / "second", "--head.init-std", 0.1))
    assert {path: path.stat().st_mtime_ns for path in (task / "cache").rglob("*.npy")} == kept
    assert all(np.load(path).dtype == np.float16 for path in kept if "thin" not in str(path))


@pytest.mark.training
def test_full_fine_tuning_changes_the_encoder_and_continues_bit_for_bit(task, tmp_path):
    quick = ["--mode", "full", "--head.norm", "layer", "--loop.optim.epochs", 0, "--loop.optim.steps"]
    whole = tmp_path / "whole"
    main(options(task, whole, *quick, 4, "--loop.checkpoint-every", 2, "--loop.patience", 0))
    again = tmp_path / "again"
    shutil.copytree(whole, again)
    shutil.rmtree(again / "seed-0" / "step-0000004")
    before = (again / "seed-0" / "step-0000002" / "weights.safetensors").read_bytes()
    main(options(task, again, *quick, 4, "--loop.checkpoint-every", 2, "--loop.patience", 0))
    last = "seed-0/step-0000004/weights.safetensors"
    assert (whole / last).read_bytes() == (again / last).read_bytes() != before
    assert read_json(whole / "metrics.json")["seeds"] == read_json(again / "metrics.json")["seeds"]


@pytest.mark.training
def test_exclusive_classes_and_the_released_head(task, tmp_path):
    with (task / "train.csv").open() as file:
        rows = [[row["VolumeName"], row["Bright"]] for row in csv.DictReader(file)]
    listed = write_list(tmp_path / "classes.csv", ["img_list", "label"], rows)
    steps = ["--loop.optim.epochs", 0, "--loop.optim.steps", 20, "--loop.optim.warmup-steps", 2]
    told = main(options(task, tmp_path / "out", "--train", listed, "--exclusive", "--preset", "released", *steps))
    assert told["classes"] == ["0", "1"]
    assert 0 <= told["seeds"]["0"]["val"]["values"]["accuracy"]["value"] <= 1


@pytest.mark.training
def test_validation_on_the_test_set_is_told_where_it_is_allowed(task, tmp_path):
    both = ["--val", task / "valid.csv", "--test", task / "valid.csv", "--allow-val-is-test"]
    told = main(options(task, tmp_path / "out", *both))
    assert "chosen on the test set" in told["notes"][0]
    assert told["seeds"]["0"]["val"]["values"] == told["seeds"]["0"]["test"]["values"]


def test_bad_lists_are_refused_by_name(task, tmp_path):
    def run(header, rows, *more):
        listed = write_list(tmp_path / "list.csv", header, rows)
        return main(options(task, tmp_path / "out", "--train", listed, *more))

    names = [f"train_{n}_a_1.nii.gz" for n in range(8)]
    plain = [[name, n % 2] for n, name in enumerate(names)]
    with pytest.raises(ConfigError, match="no column 'Nodule'.*Bright"):
        run(["id", "Bright"], plain, "--columns", "Nodule")
    with pytest.raises(ConfigError, match="'7' in column 'Bright' of row 2"):
        run(["id", "Bright"], [[names[0], 7], *plain[1:]])
    with pytest.raises(ConfigError, match="'A' and 'B' are equal in all 8 rows"):
        run(["id", "A", "B"], [[*row, row[1]] for row in plain])
    with pytest.raises(ConfigError, match="nothing can be learned"):
        run(["id", "Bright"], [[name, 0] for name in names])
    with pytest.raises(ConfigError, match="train_0_a_1.nii.gz' twice"):
        run(["id", "Bright"], [*plain, plain[0]])
    with pytest.raises(ConfigError, match="None of the .* has a usable CT.*no file under volumes"):
        run(["id", "Bright"], [[f"other_{n}_a_1", n % 2] for n in range(8)])
    with pytest.raises(ConfigError, match="chosen on the test set"):
        run(["id", "Bright"], plain, "--val", task / "valid.csv", "--test", task / "valid.csv", "--columns", "Bright")
    with pytest.raises(ConfigError, match="in train and in test"):  # whatever is allowed between val and test
        run(["id", "Bright"], plain, "--test", tmp_path / "list.csv")
    with pytest.raises(CheckpointError, match="No weights"):
        main(options(task, tmp_path / "out", "--encoder", tmp_path / "nothing"))
    assert not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.training
def test_what_cannot_be_used_is_left_out_and_listed(task, tmp_path):
    root = tmp_path / "volumes"
    rows = []
    for number in range(10):
        write_ct(root / f"p{number}.nii.gz", bool(number % 2), number)
        rows.append([f"p{number}", number % 2, 0])
    (root / "p3.nii.gz").write_bytes(b"not a CT")
    broken = root / "p4.nii.gz"
    broken.write_bytes(broken.read_bytes()[:2000])
    rows.append(["absent", 1, 0])
    listed = write_list(tmp_path / "list.csv", ["id", "Bright", "Never"], rows)
    told = main(options(task, tmp_path / "out", "--train", listed, "--volumes", root))
    assert told["classes"] == ["Bright"]
    assert "Never" in told["notes"][0]
    with (tmp_path / "out" / "skipped.csv").open() as file:
        skipped = {row["study_id"]: row["reason"] for row in csv.DictReader(file)}
    assert set(skipped) == {"absent", "p3", "p4"}
    assert "no file" in skipped["absent"]


def test_a_damaged_volume_of_infinite_values_is_no_ct(task, tmp_path):
    import nibabel as nib

    from core.errors import StudyError
    from trainers.finetuning.volumes import read_ct

    hu = np.full((8, 8, 8), np.nan, np.float32)
    nib.nifti1.save(nib.nifti1.Nifti1Image(hu, np.eye(4)), tmp_path / "nan.nii.gz")
    with pytest.raises(StudyError, match="no numbers"):
        read_ct(tmp_path / "nan.nii.gz")
    assert isinstance(read_ct(task / "volumes" / "train" / "train_1_a_1.nii.gz"), Volume)
