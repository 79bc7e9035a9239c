"""Learning rates of the published schedules, as their own code computed them."""

import json
import os
from pathlib import Path

import pytest

from trainers.optim import OptimConfig, plan_schedule

FIXTURES = Path(os.environ.get("ASAP_FIXTURES", Path(__file__).resolve().parents[3] / "shared" / "fixtures"))


@pytest.fixture(scope="module")
def traces():
    path = FIXTURES / "metrics" / "metrics.json"
    if not path.is_file():
        pytest.skip(f"golden numbers {path} are absent (set ASAP_FIXTURES)")
    return json.loads(path.read_text())["expected"]


def test_asap_warms_up_and_falls_by_fractional_epochs(traces):
    told = traces["lr_asap_pretrain"]
    optim = OptimConfig(
        0,
        epochs=told["max_epochs"],
        warmup_steps=0,
        warmup_epochs=told["warmup_epochs"],
        peak_lr=told["lr"],
        floor_lr=told["min_lr"],
    )
    schedule = plan_schedule(optim, 1.0)  # one step per epoch: steps are epochs
    assert [schedule.lr(epoch) for epoch in told["epochs"]] == pytest.approx(told["lr_values"], rel=1e-9, abs=1e-15)


def test_classification_warms_up_and_falls_by_steps(traces):
    told = traces["lr_classification"]
    schedule = plan_schedule(OptimConfig(told["total"], warmup_steps=told["warmup_steps"], peak_lr=told["base"]), 1.0)
    assert [schedule.lr(step) for step in told["steps"]] == pytest.approx(told["lr_values"], rel=1e-9, abs=1e-15)


def test_fvlm_holds_its_rate_within_an_epoch(traces):
    told = traces["lr_fvlm"]
    optim = OptimConfig(
        0,
        epochs=told["max_epoch"],
        schedule="epoch_cosine",
        warmup_steps=told["warmup_steps"],
        peak_lr=told["init_lr"],
        start_lr=told["warmup_start_lr"],
        floor_lr=told["min_lr"],
    )
    per_epoch = max(step for _, step in told["points"]) + 1
    schedule = plan_schedule(optim, per_epoch)
    rates = [schedule.lr(epoch * per_epoch + step) for epoch, step in told["points"]]
    assert rates == pytest.approx(told["lr_values"], rel=1e-9, abs=1e-15)


def test_asg_warms_up_over_a_share_and_falls_to_its_floor():
    """Spec: linear over 40 % of all steps, one cosine, floor 1e-8."""
    schedule = plan_schedule(OptimConfig(1000, warmup_steps=0, warmup_share=0.4, peak_lr=4e-5, floor_lr=1e-8), 20)
    assert schedule.lr(200) == pytest.approx(2e-5)
    assert schedule.lr(400) == pytest.approx(4e-5)
    assert schedule.lr(700) == pytest.approx((4e-5 + 1e-8) / 2)
    assert schedule.lr(1000) == pytest.approx(1e-8)


def test_ecamp_stops_before_its_cosine_ends():
    """Spec: 40 epochs of warm-up, horizon of 200, stop after 120."""
    optim = OptimConfig(0, epochs=120, horizon_epochs=200, warmup_steps=0, warmup_epochs=40)
    schedule = plan_schedule(optim, 10)
    assert schedule.steps == 1200
    assert schedule.lr(1200) == pytest.approx(1.5e-4 / 2)
