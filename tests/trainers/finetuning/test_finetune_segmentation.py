"""`python -m trainers.finetune segmentation`, from a list to masks on a CT's own grid."""

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import nibabel.orientations as nio
import numpy as np
import pytest
import torch
from tiny_task import read_json, write_encoder

from core.errors import ConfigError
from core.structures import BY_NAME
from core.tasks.registry import list_tasks, open_task_segmenter
from core.volume import Volume
from trainers.finetune import main
from trainers.finetuning.volumes import read_ct

SPACING = (3.0, 2.0, 6.0)
QUICK = "--loop.cpu --interval.draws 20 --roi 32 32 16 --channels 2 --loop.batch-size 2 --crops.per-case 2".split()
SHORT = "--loop.optim.epochs 0 --loop.optim.steps 2 --loop.patience 0 --loop.optim.peak-lr 1e-3".split()


def write_case(root: Path, name: str, seed: int, axes: str = "RAS") -> dict[str, str]:
    """Two organs that only their density tells apart, the smaller one on the patient's left. Stored along `axes`."""
    rng = np.random.default_rng(seed)
    shape = (36, 44, 20)
    hu, labels = rng.normal(-800, 20, shape), np.zeros(shape, np.uint8)
    y, z = rng.integers(6, 10), rng.integers(2, 5)
    labels[4:14, y : y + 14, z : z + 10] = 1
    labels[19:33, y : y + 28, z : z + 12] = 2
    hu[labels == 1] = 0
    hu[labels == 2] = 800
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-50, -40, -60)
    turn = nio.ornt_transform(nio.axcodes2ornt("RAS"), nio.axcodes2ornt(axes))
    told = {}
    for kind, values in (("image", hu.astype(np.int16)), ("label", labels)):
        path = root / kind / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = nio.apply_orientation(values, turn)
        nib.nifti1.save(nib.nifti1.Nifti1Image(stored, affine @ nio.inv_ornt_aff(turn, shape)), path)
        told[kind] = str(path.relative_to(root))
    return told


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("voxels")
    write_encoder(root / "run")
    orientations = ("RAS", "LPS", "SAR", "PIL", "LAS", "RAS", "RPI", "LPS")
    cases = [write_case(root, f"case_{n}_a", n, axes) for n, axes in enumerate(orientations)]
    write_dataset(root / "dataset.json", cases[:6], cases[6:])
    return root


def write_dataset(path: Path, train: list, test: list, labels: object = None, **more: object) -> Path:
    labels = labels or {"0": "background", "1": "spleen", "2": "Liver"}
    path.write_text(json.dumps({"labels": labels, "training": train, "testing": test, **more}))
    return path


def options(root: Path, out: Path, *more: object) -> list[str]:
    told = ["segmentation", "--out", out, "--encoder", root / "run", "--list", root / "dataset.json"]
    return [str(word) for word in [*told, "--root", root, "--cache", root / "cache", *QUICK, *more]]


@pytest.mark.training
def test_segmenter_learns_and_gives_masks_on_any_ct_s_own_grid(task, tmp_path):
    out = tmp_path / "organs"
    steps = "--loop.optim.epochs 0 --loop.optim.steps 30 --loop.optim.peak-lr 1e-2 --validate-epochs 3".split()
    told = main(options(task, out, *steps, "--loop.patience", 30))
    values = told["seeds"]["0"]["test"]["values"]
    assert values["dice/spleen"]["value"] > 0.7
    assert values["dice/Liver"]["value"] > 0.7
    assert values["hd95_mm"]["value"] < 30
    with (out / "seed-0" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (told["cases"]["val"] + told["cases"]["test"])
    shutil.copytree(out, tmp_path / "models" / "organs", ignore=shutil.ignore_patterns("seed-*"))
    (engine,) = list_tasks(tmp_path / "models")
    assert (engine.task, engine.can_run) == ("segmentation", True)
    _require_same_masks_in_every_orientation(tmp_path)


def _require_same_masks_in_every_orientation(root: Path) -> None:
    segmenter = open_task_segmenter("organs", root / "models")
    patient = []
    for axes in ("RAS", "LPS", "SAR", "PIL"):
        files = write_case(root / axes, "new", 99, axes)
        volume = read_ct(root / axes / files["image"])
        masks = segmenter.segment(volume)
        assert masks.labels.shape == volume.shape
        stored = volume.to_source(masks.labels)
        truth = np.asarray(nib.nifti1.load(root / axes / files["label"]).dataobj)
        found = stored == BY_NAME["spleen"].number
        assert 2 * (found & (truth == 1)).sum() / (found.sum() + (truth == 1).sum()) > 0.7
        patient.append(masks.labels)
    for labels in patient[1:]:  # the same patient, however the file is stored
        np.testing.assert_array_equal(labels, patient[0])
    assert set(np.unique(patient[0])) <= {0, BY_NAME["spleen"].number, BY_NAME["liver"].number}


@pytest.mark.training
def test_a_stopped_run_continues_bit_for_bit(task, tmp_path):
    whole, again = tmp_path / "whole", tmp_path / "again"
    main(options(task, whole, *SHORT, "--loop.checkpoint-every", 1))
    shutil.copytree(whole, again)
    shutil.rmtree(again / "seed-0" / "step-0000002")
    main(options(task, again, *SHORT, "--loop.checkpoint-every", 1))
    last = "seed-0/step-0000002/weights.safetensors"
    assert (whole / last).read_bytes() == (again / last).read_bytes()
    assert read_json(whole / "metrics.json")["seeds"] == read_json(again / "metrics.json")["seeds"]


def test_lists_that_choose_on_the_test_set_are_refused(task, tmp_path):
    told = json.loads((task / "dataset.json").read_text())
    listed = write_dataset(tmp_path / "same.json", told["training"], told["testing"], validation=told["testing"])
    with pytest.raises(ConfigError, match="chosen on the test set.*--carve"):
        main(options(task, tmp_path / "out", "--list", listed))
    listed = write_dataset(tmp_path / "leak.json", told["training"], told["training"][:1])
    with pytest.raises(ConfigError, match="in train and in test"):
        main(options(task, tmp_path / "out", "--list", listed))


def test_bad_lists_and_sizes_are_refused(task, tmp_path):
    told = json.loads((task / "dataset.json").read_text())
    listed = write_dataset(tmp_path / "gap.json", told["training"], [], labels={"0": "background", "2": "lung"})
    with pytest.raises(ConfigError, match="without gaps"):
        main(options(task, tmp_path / "out", "--list", listed))
    listed = write_dataset(tmp_path / "few.json", told["training"], [], labels={"0": "background", "1": "lung"})
    with pytest.raises(ConfigError, match="holds the label 2"):
        main(options(task, tmp_path / "out", "--list", listed))
    with pytest.raises(ConfigError, match="multiples of the patch"):
        main(options(task, tmp_path / "out", "--roi", 30, 32, 16))
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(ConfigError, match='no "training"'):
        main(options(task, tmp_path / "out", "--list", tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="No training case"):
        main(options(task, tmp_path / "out", "--root", tmp_path))


def test_one_damaged_case_is_left_out(task, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(task / "image", root / "image")
    shutil.copytree(task / "label", root / "label")
    (root / "image" / "case_2_a.nii.gz").write_bytes(b"nothing")
    (root / "label" / "case_3_a.nii.gz").unlink()
    told = main(options(task, tmp_path / "out", "--root", root, *SHORT))
    with (tmp_path / "out" / "skipped.csv").open() as file:
        assert {row["study_id"] for row in csv.DictReader(file)} == {"case_2_a", "case_3_a"}
    assert told["cases"]["train"] + told["cases"]["val"] == 4


def test_volumes_read_like_the_program_reads_them(task):
    volume = read_ct(task / "image" / "case_1_a.nii.gz")
    assert isinstance(volume, Volume)
    assert volume.source.orientation == "LPS"
    assert volume.spacing_mm == pytest.approx(SPACING)
