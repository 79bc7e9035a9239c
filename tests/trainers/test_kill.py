"""A run of two stages that is killed outright goes on as if nothing had happened."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_studies import TinyStudies, tiny_tokenizer

from core.errors import ConfigError
from core.models.asap import ASAP
from core.models.asap_config import ASAPConfig, tiny
from trainers.loop import LoopConfig
from trainers.optim import OptimConfig
from trainers.pretrain import PretrainConfig, run_stages
from trainers.recipes.recipe import Preset, Recipe
from trainers.run_log import LOG, LogConfig
from trainers.stage import Stage
from trainers.studies import StudySets


def with_dropout(words: int) -> ASAPConfig:
    """So that the state of the random numbers matters."""
    config = tiny(words)
    return replace(config, text=replace(config.text, dropout=0.1), report=replace(config.report, dropout=0.1))


STAGES = (
    Stage("look", length=0.5, freeze=("bert_encoder.", "align_text_mlp."), losses=("reconstruction", "injection")),
    Stage("read"),
)
RECIPE = Recipe("two", ASAPConfig, ASAP, {"tiny": Preset(with_dropout, stages=STAGES)})


class SlowStudies(TinyStudies):
    def __init__(self, seconds: float) -> None:
        super().__init__(tiny_tokenizer())
        self.seconds = seconds

    def __getitem__(self, index: int) -> dict:
        time.sleep(self.seconds)
        return super().__getitem__(index)


def run(folder: Path, seconds: float = 0.0, recipe: Recipe = RECIPE) -> ASAP:
    """Both stages: 10 and 20 steps, a checkpoint every 3."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)
    loop = LoopConfig(2, checkpoint_every=3, cpu=True, log=LogConfig(every=1))
    loop = replace(loop, optim=OptimConfig(20, warmup_steps=1, peak_lr=3e-3))
    torch.manual_seed(3)
    model = ASAP(with_dropout(tiny_tokenizer().vocab_size))
    config = PretrainConfig(folder, recipe="two", preset="tiny", loop=loop)
    return run_stages(model, StudySets(SlowStudies(seconds), None, None), recipe, config)


def wait_for(log: Path, steps: int, process: subprocess.Popen) -> None:
    """Return when the process has written that many steps."""
    for _ in range(6000):
        if log.is_file() and log.read_text().count("\n") >= steps:
            return
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.05)
    raise AssertionError("the run did not get that far within five minutes")


@pytest.mark.training
@pytest.mark.parametrize(("stage", "steps"), [("look", 5), ("read", 8)])
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(tmp_path, stage, steps):
    whole = run(tmp_path / "whole")
    here = Path(__file__).resolve().parent
    told = f"from pathlib import Path; from test_kill import run; run(Path({str(tmp_path / 'killed')!r}), 0.03)"
    paths = os.pathsep.join([str(here), str(here.parents[1])])
    with subprocess.Popen(
        [sys.executable, "-c", told], env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.PIPE
    ) as process:
        wait_for(tmp_path / "killed" / stage / LOG, steps, process)
        process.kill()
    assert process.returncode == -9
    continued = run(tmp_path / "killed")
    for (name, one), two in zip(whole.state_dict().items(), continued.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    logs = [[json.loads(line) for line in (tmp_path / name / "read" / LOG).open()] for name in ("whole", "killed")]
    assert [(e["step"], e["losses"]) for e in logs[0]] == [(e["step"], e["losses"]) for e in logs[1]]


@pytest.mark.training
def test_a_stage_freezes_for_itself_only(tmp_path):
    torch.manual_seed(3)
    before = ASAP(with_dropout(tiny_tokenizer().vocab_size)).state_dict()
    after = run(tmp_path).state_dict()
    look = torch.load(tmp_path / "look" / "step-0000010" / "training.pt", weights_only=True)
    assert not any(name.startswith("bert_encoder.") for name in look["moments"])
    name = "bert_encoder.bert.embeddings.word_embeddings.weight"
    assert not torch.equal(before[name], after[name])  # the second stage trains it
    losses = json.loads((tmp_path / "look" / LOG).read_text().splitlines()[0])["losses"]
    assert losses["total"] == pytest.approx(losses["reconstruction"] + losses["injection"])


@pytest.mark.training
def test_a_stage_can_start_where_an_earlier_one_ended(tmp_path):
    """The second and third stage both follow the first, so their first steps are the same."""
    stages = (Stage("a", length=0.1), Stage("b", length=0.1), Stage("c", length=0.1, init_from="a"))
    run(tmp_path, recipe=replace(RECIPE, presets={"tiny": Preset(with_dropout, stages=stages)}))
    first = [json.loads((tmp_path / name / LOG).read_text().splitlines()[0])["losses"] for name in "abc"]
    assert first[1] == first[2] != first[0]


def test_a_stage_that_starts_from_one_that_never_ran_is_refused(tmp_path):
    recipe = replace(RECIPE, presets={"tiny": Preset(tiny, stages=(Stage("a", init_from="z"), Stage("b")))})
    config = PretrainConfig(tmp_path, recipe="two", preset="tiny")
    with pytest.raises(ConfigError, match="starts from z, which left no checkpoint"):
        run_stages(ASAP(tiny(100)), StudySets(SlowStudies(0), None, None), recipe, config)
