"""ECAMP from a data folder to a trained model: it learns, follows its words, and continues bit for bit."""

import json
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState
from entity_folder import write_entity_folder

from core.errors import ConfigError
from core.models.ecamp import ECAMP
from core.models.ecamp_config import ecamp_tiny
from core.models.model_file import load_model
from core.models.tokens import train_wordpiece
from trainers.attention_windows import refresh_windows, windows_of
from trainers.batch import check_batch, collate
from trainers.changes import change_config
from trainers.crops import DataView
from trainers.loop import LoopConfig, train
from trainers.optim import OptimConfig
from trainers.pretrain import pretrain, read_options
from trainers.recipes.ecamp import PAPER_VIEW, PUBLISHED_LOOP, RECIPE, RELEASED_VIEW
from trainers.report_tokens import ReportConfig, read_reports
from trainers.run_log import LOG, LogConfig
from trainers.splits import SplitConfig
from trainers.studies import StudiesRequest, open_studies
from trainers.synthetic import SyntheticConfig
from trainers.validation import Watch

STAGES = RECIPE.preset("tiny").stages
WATCH = Watch(before_epoch=RECIPE.before_epoch)
STILL = DataView(mirror_chance=0.0, smallest_crop=1.0, offset_chance=0.0)


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """accelerate keeps one state per process; a run of another precision needs a new one."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def folder(tmp_path):
    return write_entity_folder(tmp_path / "data", with_masks=True)


def a_run(folder, out, changes=(), stages=STAGES, view=STILL):
    """Model and training set of the tiny preset with `changes`."""
    words = train_wordpiece([f"{row.text} there may be" for row in read_reports(folder)], 300)
    config = change_config(ecamp_tiny(words.vocab_size), changes)
    request = StudiesRequest(str(folder), view, ReportConfig(), SyntheticConfig(), out, SplitConfig(val_share=0.0))
    torch.manual_seed(3)
    return ECAMP(config), open_studies(request, RECIPE, stages, config, words).train


def a_loop(steps, **changes) -> LoopConfig:
    optim = OptimConfig(steps=steps, warmup_steps=1, peak_lr=4e-3)
    return replace(LoopConfig(batch_size=8, log=LogConfig(every=1), cpu=True, optim=optim), **changes)


def losses_of(out) -> list[dict[str, float]]:
    return [json.loads(line)["losses"] for line in (out / LOG).read_text().splitlines()]


@pytest.mark.training
def test_learns_eight_studies_by_heart(folder, tmp_path):
    """Images at their places and words of reports become predictable."""
    model, studies = a_run(folder, tmp_path, ["sr.refresh_epochs=15"])
    train(model, studies, a_loop(45), tmp_path, STAGES[0], WATCH)
    losses = losses_of(tmp_path)
    for name, share in (("reconstruction", 0.4), ("super_resolution", 0.4), ("language", 0.6), ("total", 0.5)):
        early, late = (sum(entry[name] for entry in part) / 5 for part in (losses[:5], losses[-5:]))
        assert late < share * early, name


@pytest.mark.training
def test_a_stopped_run_has_the_same_windows_and_weights(folder, tmp_path):
    """Stopped in the third epoch, whose windows were found after the second."""
    changes, stage = ["sr.window=2", "sr.momentum=0.25"], STAGES[0]
    loop = a_loop(8, batch_size=4, checkpoint_every=5)
    model, studies = a_run(folder, tmp_path / "whole", changes)
    whole = train(model, studies, loop, tmp_path / "whole", stage, WATCH)

    model, studies = a_run(folder, tmp_path / "killed", changes)
    read, reads = studies.images.read, []

    def stop_late(study_id, rng):
        reads.append(study_id)
        if len(reads) > 8 + 2 * 16 + 6:  # one epoch, then two with a look each, then some of the fourth
            raise KeyboardInterrupt
        return read(study_id, rng)

    studies.images.read = stop_late
    with pytest.raises(KeyboardInterrupt):
        train(model, studies, loop, tmp_path / "killed", stage, WATCH)
    model, studies = a_run(folder, tmp_path / "killed", changes)
    continued = train(model, studies, loop, tmp_path / "killed", stage, WATCH)
    for (name, a), (_, b) in zip(whole.state_dict().items(), continued.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    kept = [sorted(path.name for path in (tmp_path / run / "windows").iterdir()) for run in ("whole", "killed")]
    assert kept[0] == kept[1] == ["00001.csv", "00002.csv", "00003.csv"]
    for name in kept[0]:
        assert (tmp_path / "whole/windows" / name).read_bytes() == (tmp_path / "killed/windows" / name).read_bytes()


@pytest.mark.training
def test_windows_come_from_where_the_model_looks(folder, tmp_path):
    """Before the second epoch the memory holds every study's most looked-at window, and its items show it."""
    model, studies = a_run(folder, tmp_path, ["sr.window=1", "sr.momentum=0"])
    compared = []

    def refresh_and_look(start):
        refresh_windows(start)
        if start.number == 1:
            studies.set_epoch(0)
            batch = collate([studies[n] for n in range(8)])
            found = start.model.eval().find_windows(batch)
            start.model.train()
            compared.append((found.tolist(), batch["sr_corner"].tolist()))

    train(model, studies, a_loop(2), tmp_path, STAGES[0], Watch(before_epoch=refresh_and_look))
    (found, shown), windows = compared[0], windows_of(studies)
    assert found == shown
    assert len({tuple(corner) for corner in found}) > 1
    assert windows is not None
    assert set(windows.memory.middles) == {f"s{n}" for n in range(8)}
    assert windows_of(a_run(folder, tmp_path / "b", ["sr.window_from=center"])[1]) is None


@pytest.mark.parametrize(
    "changes",
    [
        ["sr.mode=hires", "vision.image_size=[32, 32, 16]", "vision.patch_size=[8, 8, 4]", "sr.window=2"],
        [
            "text_in=cxrbert",
            "text.vocab_size=300",
            "text.width=24",
            "text.depth=1",
            "text.heads=2",
            "text.mlp_width=48",
        ],
        ["sr.window_from=center", "language_on=all", "task.as_released=true", "task.rule.unit=piece"],
    ],
)
def test_every_way_gives_a_batch_that_the_model_reads(folder, tmp_path, changes):
    if changes[0].startswith("text_in"):
        changes = [*changes, "report.vocab_size=300"]
    model, studies = a_run(folder, tmp_path, changes, view=replace(STILL, mirror_chance=0.5))
    batch = collate([studies[0], studies[7]])
    check_batch(batch, STAGES[0].requires)
    losses = model({name: value for name, value in batch.items() if isinstance(value, torch.Tensor)})
    losses["total"].backward()
    assert all(bool(loss.isfinite()) for loss in losses.values())


def test_windows_on_organs_read_masks(folder, tmp_path):
    stages = RECIPE.preset("organ").stages
    _, studies = a_run(folder, tmp_path, ["sr.window_from=organ", "sr.window=2"], stages)
    assert studies[0]["sr_corner"].tolist() == [1, 1, 1]  # the report names lobes, the mask has none
    for path in (folder / "masks").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="asap_viewer segment"):
        a_run(folder, tmp_path / "other", ["sr.window_from=organ"], stages)


@pytest.mark.training
def test_the_command_trains_and_keeps_a_model(folder, tmp_path):
    arguments = ["--recipe", "ecamp", "--preset", "tiny", "--data", str(folder)]
    few = "--loop.optim.steps 3 --loop.optim.warmup-steps 1 --loop.cpu --loop.batch-size 4 --out".split()
    path = pretrain(read_options([*arguments, *few, str(tmp_path / "run")]))
    loaded = load_model(path, "ecamp", RECIPE.config_type, RECIPE.build)
    assert json.loads(loaded.about.facts["crop"]) == [32, 32, 16]
    tokens = loaded.model.encode_patches(torch.zeros(1, 1, 32, 32, 16))
    assert tokens.shape == (1, 4, 4, 4, 48)
    with pytest.raises(ConfigError, match="not defined for this recipe"):
        loaded.model.embed_sentences(torch.zeros(1, 3), torch.ones(1, 3))
    with pytest.raises(ConfigError, match="holds weights of ecamp"):
        pretrain(read_options([*arguments, "--text", str(path), *few, str(tmp_path / "other")]))


def test_a_folder_without_statements_is_refused_by_naming_the_builder(folder, tmp_path):
    (folder / "distilled.csv").unlink()
    with pytest.raises(ConfigError, match="trainers.builders distill"):
        a_run(folder, tmp_path)


def test_presets_say_what_was_published():
    released, paper = (RECIPE.config(name, 30522) for name in ("ecamp_released", "ecamp_paper"))
    assert (released.task.rule.descriptor_prob, paper.task.rule.descriptor_prob) == (0.7, 1.0)
    assert (released.language_on, released.mim_norm, released.sr.norm) == ("all", "all", "all")
    assert (paper.language_on, paper.mim_norm, paper.sr.norm) == ("masked", "masked", "window")
    assert released.vision.slow_positions
    assert not paper.vision.slow_positions
    optim = PUBLISHED_LOOP.optim
    assert (optim.epochs, optim.horizon_epochs, optim.warmup_epochs, optim.peak_lr) == (120, 200, 40, 1.5e-4)
    assert (RELEASED_VIEW.mirror_chance, PAPER_VIEW.flip_chance) == (0, 0)
