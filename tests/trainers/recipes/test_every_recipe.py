"""What every recipe promises: it trains from a folder, goes on where it stopped, and is the same on two processes."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import distributed as dist
from torch import multiprocessing

from core.models.checkpoint import read_weights
from core.models.model_file import load_model, read_about
from trainers.builders.__main__ import main as build
from trainers.pretrain import pretrain, read_options
from trainers.recipes import RECIPES
from trainers.resume import WEIGHTS, latest_checkpoint
from trainers.run_log import LOG
from trainers.synthetic_folder import PracticeConfig, write_practice

FILES = {"organ-text": "organ_text.json", "organ-state": "organ_state.json", "triplets": "triplets.csv",
         "distill": "distilled.csv"}  # fmt: skip
OPTIONS = (
    "--preset tiny --loop.cpu --loop.accumulate 1 --loop.optim.steps 8 --loop.optim.epochs 0 "
    "--loop.optim.warmup-steps 1 --loop.checkpoint-every 4 --loop.log.every 1 "
    "--view.spacing-mm 16 16 32 --split.val-share 0"
)


def train(name: str, data: Path, out: Path, batch_size: int) -> Path:
    """Eight steps of a recipe's smallest preset in this process."""
    torch.set_num_threads(1)
    told = ["--recipe", name, "--data", str(data), "--out", str(out), "--loop.batch-size", str(batch_size)]
    return pretrain(read_options(told + OPTIONS.split()))


def work(rank: int, port: int, folder: Path) -> None:
    """All recipes in one of two processes."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in told.items()} | {"MASTER_ADDR": "127.0.0.1"}
    for name in RECIPES:
        train(name, folder / "data", folder / "two" / name, 2)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Generated studies with all that builders make of them, and every recipe trained on them by one process."""
    folder = tmp_path_factory.mktemp("recipes")
    data = folder / "data"
    write_practice(PracticeConfig(data, count=8, spacing_mm=12.0))
    for command, file in FILES.items():
        told = [command, "--reports", str(data / "reports.csv"), "--out", str(data / file), "--workers", "1"]
        assert build(told) == 0
    AcceleratorState._reset_state(reset_partial_state=True)
    for name in RECIPES:
        train(name, data, folder / "one" / name, 4)
    return folder


@pytest.fixture(scope="module")
def pairs(runs) -> Path:
    """The same trained by two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (port, runs), nprocs=2)
    return runs


def last_folder(run: Path, name: str) -> Path:
    """Where a recipe's last stage keeps its checkpoints."""
    stages = RECIPES[name].preset("tiny").stages
    return run / name if len(stages) == 1 else run / name / stages[-1].name


@pytest.mark.training
@pytest.mark.parametrize("name", list(RECIPES))
def test_a_run_leaves_a_model_that_opens(runs, name):
    recipe, path = RECIPES[name], runs / "one" / name / "model.safetensors"
    assert read_about(path)[:2] == (name, "tiny")
    model = load_model(path, name, recipe.config_type, recipe.build).model
    tokens = model.encode_patches(torch.zeros(1, 1, *recipe.image_size(model.config)))
    assert tokens.ndim == 5
    assert bool(tokens.isfinite().all())


@pytest.mark.training
@pytest.mark.parametrize("name", list(RECIPES))
def test_a_run_that_lost_its_last_steps_makes_them_again_bit_for_bit(runs, tmp_path, name):
    AcceleratorState._reset_state(reset_partial_state=True)
    shutil.copytree(runs / "one" / name, tmp_path / name)
    newest = latest_checkpoint(last_folder(tmp_path, name))
    expected = read_weights(newest / WEIGHTS)[0]
    shutil.rmtree(newest)
    (tmp_path / name / "model.safetensors").unlink()
    train(name, runs / "data", tmp_path / name, 4)
    for key, value in read_weights(newest / WEIGHTS)[0].items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.training
@pytest.mark.parametrize("name", list(RECIPES))
def test_two_processes_have_the_losses_of_one(pairs, name):
    """ASG and ViSD-Boost blow rounding up; test_rounding_alone.py shows that nothing else differs."""
    logs, (relative, absolute, steps) = [], (1e-3, 1e-4, 4) if name in ("asg", "visd") else (2e-5, 2e-6, 8)
    for run in ("one", "two"):
        lines = (last_folder(pairs / run, name) / LOG).read_text().splitlines()
        logs.append([json.loads(line)["losses"] for line in lines])
    assert len(logs[0]) == len(logs[1]) > 0
    for step, (one, two) in enumerate(zip(*(log[:steps] for log in logs), strict=True)):
        assert one["total"] > 0, step
        assert two == pytest.approx(one, rel=relative, abs=absolute), step
