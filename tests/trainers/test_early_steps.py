"""Stepping within the backward pass gives the weights of stepping after it, bit for bit."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_studies import TinyStudies, tiny_config, tiny_tokenizer
from torch import Tensor, nn

import trainers.early_steps
from core.errors import ConfigError
from core.models.asap import ASAP
from core.models.asap_config import LossWeights
from trainers.early_steps import EarlySteps
from trainers.loop import LoopConfig, train
from trainers.optim import OptimConfig, build_adamw
from trainers.run_log import LOG, LogConfig
from trainers.stage import Stage


@pytest.fixture(autouse=True)
def fresh_accelerator() -> None:
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def _steps_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models have no 64 MB of gradients."""
    monkeypatch.setattr(trainers.early_steps, "_ENOUGH", 2000)


def _two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 40), nn.GELU(), nn.Linear(40, 1))


def _config(clip_norm: float = 0.0, **changes: object) -> LoopConfig:
    optim = OptimConfig(steps=4, warmup_steps=1, peak_lr=3e-3, clip_norm=clip_norm)
    return replace(LoopConfig(batch_size=2, log=LogConfig(every=1), cpu=True, optim=optim), **changes)


def _model(weights: LossWeights | None = None) -> ASAP:
    torch.manual_seed(7)
    config = tiny_config(tiny_tokenizer())
    return ASAP(config if weights is None else replace(config, weights=weights))


@pytest.mark.usefixtures("_steps_often")
def test_gradients_are_gone_before_the_pass_ends_and_weights_are_those_of_one_step() -> None:
    late, soon, values = _two_layers(), _two_layers(), torch.randn(8, 20)
    optimizers = [build_adamw(model, OptimConfig(peak_lr=0.1)) for model in (late, soon)]
    early, held = EarlySteps(optimizers[1]), []
    soon[0].register_full_backward_pre_hook(lambda *_: held.append(soon[2].weight.grad is None))
    for _ in range(3):
        late(values).square().sum().backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in late.parameters() if p.grad is not None])
        optimizers[0].step()
        optimizers[0].zero_grad()
        soon(values).square().sum().backward()
        assert early.finish() == pytest.approx(float(norm), rel=1e-5)
        assert all(parameter.grad is None for parameter in soon.parameters())
    for a, b in zip(late.parameters(), soon.parameters(), strict=True):
        assert torch.equal(a, b)
    early.detach()
    soon(values).sum().backward()
    assert soon[0].weight.grad is not None


@pytest.mark.usefixtures("_steps_often")
def test_gradients_that_are_no_numbers_move_nothing() -> None:
    model = _two_layers()
    early = EarlySteps(build_adamw(model, OptimConfig()))
    before = [parameter.clone() for parameter in model.parameters()]
    (model(torch.randn(8, 20)).sum() * math.nan).backward()
    assert math.isnan(early.finish())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    model(torch.randn(8, 20)).sum().backward()
    assert early.finish() > 0  # the next step is none the worse


@pytest.mark.training
@pytest.mark.usefixtures("_steps_often")
def test_training_with_and_without_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    runs = {}
    for name, is_early in (("early", True), ("late", False)):
        config = _config(step_early=is_early, checkpoint_every=2)
        runs[name] = train(_model(), TinyStudies(tiny_tokenizer()), config, tmp_path / name).state_dict()
    for name, value in runs["late"].items():
        assert torch.equal(value, runs["early"][name]), name
    logs = [[json.loads(line) for line in (tmp_path / name / LOG).read_text().splitlines()] for name in runs]
    assert [entry["losses"] for entry in logs[0]] == [entry["losses"] for entry in logs[1]]


@pytest.mark.training
@pytest.mark.parametrize("config", [_config(1.0), _config(accumulate=2)])
def test_steps_that_need_all_gradients_wait_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: LoopConfig
) -> None:
    monkeypatch.setattr(EarlySteps, "finish", lambda _self: pytest.fail("stepped early"))
    train(_model(), TinyStudies(tiny_tokenizer()), config, tmp_path)


class _Watched(ASAP):
    """Remembers of each step whether image losses were settled before texts were read."""

    def forward(self, batch: Mapping[str, Tensor], noise: Tensor | None = None) -> dict[str, Tensor]:
        seen.append(self.settles_early)
        return super().forward(batch, noise)


seen: list[bool] = []


@pytest.mark.training
@pytest.mark.parametrize(
    ("config", "stage", "expected"),
    [
        (_config(), Stage(), True),
        (_config(step_early=False), Stage(), False),
        (_config(1.0), Stage(), False),
        (_config(accumulate=2), Stage(), False),
        (_config(precision="bf16"), Stage(), False),
        (_config(), Stage(losses=("reconstruction",)), False),
    ],
)
def test_losses_are_settled_early_only_where_the_total_is_stepped_alone(
    tmp_path: Path, config: LoopConfig, stage: Stage, expected: bool
) -> None:
    seen.clear()
    torch.manual_seed(7)
    model = _Watched(tiny_config(tiny_tokenizer()))
    once = replace(config, optim=replace(config.optim, steps=1, warmup_steps=0))
    train(model, TinyStudies(tiny_tokenizer()), once, tmp_path, stage)
    assert set(seen) == {expected}
    assert not model.settles_early  # whoever has it next may want gradients at the end


@pytest.mark.usefixtures("_steps_often")
def test_a_weight_with_two_gradients_in_a_step_is_refused() -> None:
    model = _two_layers()
    early = EarlySteps(build_adamw(model, OptimConfig()))
    model(torch.randn(8, 20)).sum().backward()
    with pytest.raises(AssertionError, match="two gradients"):
        model(torch.randn(8, 20)).sum().backward()
    early.finish()
    model(torch.randn(8, 20)).sum().backward()


@pytest.mark.training
def test_broken_numbers_never_reach_the_weights(tmp_path: Path) -> None:
    class Broken(TinyStudies):
        def __getitem__(self, index: int) -> dict:
            sample = super().__getitem__(index)
            sample["sentence_target"] = sample["sentence_target"] * float("nan")
            return sample

    model = _model(LossWeights(grounding=1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = _config()
    config = replace(config, optim=replace(config.optim, steps=50))
    with pytest.raises(ConfigError, match="not finite in 6 steps in a row"):
        train(model, Broken(tiny_tokenizer()), config, tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
