"""Presets against the table of published settings (recipes_common.md, section 6), number by number."""

from typing import Any, NamedTuple

import pytest

from trainers.loop import LoopConfig
from trainers.optim import plan_schedule
from trainers.recipes import RECIPES

WORDS = 30522
"""CXR-BERT's vocabulary."""


class Published(NamedTuple):
    """One column of the table; sizes as (x, y, z)."""

    spacing_mm: tuple[float, ...] = (1.5, 1.5, 3.0)
    window_hu: tuple[float, float] = (-1000, 1000)
    shown_as: tuple[float, float] = (-1, 1)
    crop: tuple[int, ...] = (224, 224, 112)
    patch: tuple[int, ...] = (16, 16, 8)
    tokens: int = 512
    peak_lr: float = 1.5e-4
    decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    batch: int = 14
    accumulate: int = 8
    precision: str = "fp16"


FVLM = Published(
    spacing_mm=(1, 1, 3), window_hu=(-1150, 350), shown_as=(0, 1), crop=(352, 256, 112), patch=(32, 16, 16), tokens=384,
    peak_lr=1e-4, decay=0.01, betas=(0.9, 0.999), accumulate=1, precision="no",
)  # fmt: skip
ASG = Published(peak_lr=4e-5, betas=(0.9, 0.999), batch=72, accumulate=1, precision="no")
VISD = FVLM._replace(patch=(32, 32, 16))  # a token of the last level of its ResNet
TABLE = {"asap": Published(), "fvlm": FVLM, "visd": VISD, "ecamp": Published(), "asg": ASG}
CASES = [(name, preset) for name in TABLE for preset in ("released", "paper")]


def config_of(name: str, preset: str) -> Any:
    return RECIPES[name].config(f"{name}_{preset}", WORDS)


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_views_sizes_and_optimisers_are_those_of_the_table(name, preset):
    recipe, want = RECIPES[name], TABLE[name]
    chosen, config = recipe.preset(f"{name}_{preset}"), config_of(name, preset)
    view, loop = chosen.view, chosen.loop
    assert (view.spacing_mm, view.window_hu, view.shown_as) == (want.spacing_mm, want.window_hu, want.shown_as)
    assert (recipe.image_size(config), recipe.patch_size(config)) == (want.crop, want.patch)
    assert chosen.reports.max_tokens == want.tokens <= recipe.longest_text(config)
    optim = loop.optim
    assert (optim.peak_lr, optim.weight_decay, optim.betas) == (want.peak_lr, want.decay, want.betas)
    assert (loop.batch_size, loop.accumulate, loop.precision) == (want.batch, want.accumulate, want.precision)
    assert chosen.wants_vocabulary


@pytest.mark.parametrize("name", ["asap", "ecamp"])
@pytest.mark.parametrize("preset", ["released", "paper"])
def test_three_quarters_of_2744_patches_are_hidden(name, preset):
    config = config_of(name, preset)
    assert (config.mask_ratio, config.vision.grid, config.vision.patches) == (0.75, (14, 14, 14), 2744)


def rates(loop: LoopConfig, steps_per_epoch: int, epochs: list[float]) -> list[float]:
    schedule = plan_schedule(loop.optim, steps_per_epoch)
    return [schedule.lr(round(epoch * steps_per_epoch)) for epoch in epochs]


def test_schedules_have_their_published_length_and_warm_up():
    asap, ecamp, asg, fvlm, visd = (
        RECIPES[n].preset("released").loop for n in ("asap", "ecamp", "asg", "fvlm", "visd")
    )
    assert rates(asap, 105, [10, 20, 110, 200]) == pytest.approx([7.5e-5, 1.5e-4, 7.5e-5, 0])
    assert rates(ecamp, 105, [20, 40, 120]) == pytest.approx([7.5e-5, 1.5e-4, 7.5e-5])
    assert plan_schedule(ecamp.optim, 105).steps == 120 * 105
    assert rates(asg, 156, [10, 20, 50]) == pytest.approx([2e-5, 4e-5, 1e-8])
    assert (asg.patience * 156, plan_schedule(asg.optim, 156).steps) == (5 * asg.validate_every, 50 * 156)
    assert rates(fvlm, 430, [0, 377 / 430]) == pytest.approx([1e-6, 1e-4])
    assert plan_schedule(fvlm.optim, 430).steps == 20 * 430
    assert visd == fvlm


def test_spaces_and_temperatures_are_those_of_the_table():
    for preset in ("released", "paper"):
        fvlm, visd, asg, asap = (config_of(name, preset) for name in ("fvlm", "visd", "asg", "asap"))
        assert [(c.embed, c.temperature.start, c.temperature.learned) for c in (fvlm, visd)] == [(256, 0.07, True)] * 2
        assert (asg.heads.embed, asg.temperature, asg.text.depth, asap.temperature) == (128, 0.07, 6, 0.07)
        assert asap.text_frozen
        assert fvlm.organs == visd.organs == ("lung", "heart", "esophagus", "aorta")


def test_deviations_are_named_switches():
    """What the text and the code do differently can be turned one by one with --change."""
    fixes, told = config_of("asap", "released").fixes, config_of("asap", "paper").fixes
    assert not any(vars(fixes).values())
    assert {name for name, value in vars(told).items() if value} == {
        "learned_size", "no_unused_weights", "padding_masked", "language_on_masked_only", "text_in_eval_mode",
    }  # fmt: skip
    for name in TABLE:
        assert config_of(name, "released") != config_of(name, "paper")
