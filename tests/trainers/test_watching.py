"""What a run shows while it goes on: validation, early stopping, pictures, events; and compiled blocks."""

import json
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_studies import TinyStudies, tiny_config, tiny_tokenizer

from core.errors import ConfigError
from core.models.asap import ASAP
from core.models.asap_config import LossWeights
from core.models.checkpoint import read_weights
from trainers.loop import BEST, LoopConfig, train
from trainers.optim import OptimConfig
from trainers.pictures import draw_heat
from trainers.recipes.asap import find_sentences
from trainers.run_log import EVENTS, LOG, LogConfig, RunLog
from trainers.sharding import compile_blocks, repeated_blocks
from trainers.validation import Watch


@pytest.fixture(autouse=True)
def fresh_accelerator():
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)


def a_model() -> ASAP:
    torch.manual_seed(7)
    return ASAP(replace(tiny_config(tiny_tokenizer()), weights=LossWeights(grounding=1.0)))


def a_config(steps: int, **changes: object) -> LoopConfig:
    optim = OptimConfig(steps=steps, warmup_steps=1, peak_lr=3e-3)
    return replace(LoopConfig(batch_size=4, log=LogConfig(every=1), cpu=True, optim=optim), **changes)


def entries(folder: Path, kind: str) -> list[dict]:
    return [told for line in (folder / LOG).open() if kind in (told := json.loads(line))]


class Few(TinyStudies):
    """Three of the studies: less than a batch."""

    def __len__(self) -> int:
        return 3


@pytest.mark.training
def test_validation_changes_nothing_and_sees_every_study(tmp_path):
    studies, config = TinyStudies(tiny_tokenizer()), a_config(4, validate_every=2)
    plain = train(a_model(), studies, config, tmp_path / "plain")
    watched = train(a_model(), studies, config, tmp_path / "watched", watch=Watch(Few(tiny_tokenizer())))
    for (name, one), two in zip(plain.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    told = entries(tmp_path / "watched", "validation")
    assert [entry["step"] for entry in told] == [2, 4]
    assert told[1]["validation"]["total"] < told[0]["validation"]["total"]
    assert set(told[0]["validation"]) == set(entries(tmp_path / "plain", "losses")[0]["losses"])


class Worse(TinyStudies):
    """Validation studies whose report is not in the vocabulary the model learns: they only become worse."""

    def __getitem__(self, index: int) -> dict:
        sample = super().__getitem__(index)
        sample["sentence_target"] = 1 - sample["sentence_target"]
        return sample


@pytest.mark.training
def test_a_run_without_patience_for_worse_ends_early_at_its_best(tmp_path):
    config = a_config(40, validate_every=2, patience=2, checkpoint_every=100)
    model = train(a_model(), TinyStudies(tiny_tokenizer()), config, tmp_path, watch=Watch(Worse(tiny_tokenizer())))
    told = [entry["validation"]["total"] for entry in entries(tmp_path, "validation")]
    best = int(np.argmin(told))
    assert len(told) == best + 3 < 20
    for name, value in read_weights(tmp_path / BEST)[0].items():
        assert torch.equal(model.state_dict()[name], value), name
    again = train(a_model(), TinyStudies(tiny_tokenizer()), config, tmp_path, watch=Watch(Worse(tiny_tokenizer())))
    assert len(entries(tmp_path, "validation")) == len(told)  # it stays ended
    assert torch.equal(again.norm.weight, model.norm.weight)


@pytest.mark.training
def test_events_hold_losses_and_a_picture(tmp_path):
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    studies = TinyStudies(tiny_tokenizer())
    config = a_config(2, log=LogConfig(every=1, tensorboard=True))
    train(a_model(), studies, config, tmp_path, watch=Watch(None, find_sentences))
    events = loading.EventAccumulator(str(tmp_path / EVENTS))
    events.Reload()
    logged = [entry["losses"]["total"] for entry in entries(tmp_path, "losses")]
    assert [event.value for event in events.Scalars("train/total")] == pytest.approx(logged, rel=1e-6)
    picture = events.Images("heat of the first sentences")[0]
    assert (picture.height, picture.width) == (32, 2 * 32)


def test_events_without_their_package_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="requirements-train.txt"):
        RunLog(tmp_path, (0, 2), LogConfig(tensorboard=True), 4, 0)


def test_heat_is_red_where_it_is_hottest_with_right_on_the_left():
    image = np.zeros((8, 6, 4), np.float32)
    image[0, 0, 0] = 1.0
    heat = np.zeros((1, 4, 3, 2))
    heat[0, 3, 2, 1] = 1.0  # most right, most anterior, upper layer
    picture = draw_heat(image, heat)
    assert picture.shape == (6, 8, 3)
    assert picture[:2, :2].tolist() == [[[255, 0, 0]] * 2] * 2  # anterior is up
    assert picture[2:].max() == 0


def test_a_terminal_gets_a_bar_with_speed_and_time_left(tmp_path, monkeypatch):
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    log = RunLog(tmp_path, (0, 2), LogConfig(every=1), 4, 0)
    for step in (1, 2):
        log.count_step(step, 1.0, False)
        log.write_step(step, {"total": 0.5}, 1.0, 1e-3)
    log.close()
    shown = screen.getvalue()
    assert "2/2" in shown
    assert "studies/s" in shown
    assert "<00:00" in shown  # time left


def test_blocks_are_the_transformer_layers():
    kinds = [type(block).__name__ for block in repeated_blocks(a_model())]
    assert kinds.count("Block") == 4
    assert set(kinds) == {"Block", "BertLayer"}


@pytest.mark.training
def test_compiled_blocks_compute_the_same():
    """Traced and run op by op: what a compiler is given is the model's own computation."""
    sample = TinyStudies(tiny_tokenizer())[0]
    images = sample["image"][None]
    model = a_model().eval()
    plain = model.encode_patches(images)
    for block in model.blocks:
        block.compile(backend="aot_eager")
    torch.testing.assert_close(model.encode_patches(images), plain)
    names = set(model.state_dict())
    compile_blocks(model)
    assert set(model.state_dict()) == names
