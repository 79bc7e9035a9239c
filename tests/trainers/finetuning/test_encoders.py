"""Encoders are found in runs of every recipe, in published files, and in fine-tuned models, and say what they said."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from tiny_task import FACTS

from core.errors import CheckpointError, ConfigError
from core.grounding.asap_engine import EngineSpec
from core.grounding.view import ViewConfig
from core.models.asap import ASAP
from core.models.asap_config import tiny
from core.models.checkpoint import config_to_json
from core.models.classifier import Classifier, ClassifierConfig
from core.models.model_file import ModelFacts, save_model
from core.models.tokens import train_wordpiece
from core.tasks.task_file import save_task
from core.tasks.view import TaskView, show, thin_out
from trainers.crops import DataView
from trainers.crops import show as show_crop
from trainers.finetuning.encoders import open_encoder, without_training
from trainers.finetuning.volumes import read_ct
from trainers.folder import prepare_study
from trainers.pretrain import PretrainConfig, facts_of
from trainers.recipes import RECIPES

PUBLISHED = {"asap": "released", "asg": "paper", "ecamp": "paper", "fvlm": "released", "visd": "released"}
"""A preset of the published size; its view is the one that matters."""


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(["a nodule in the left lower lobe"], 200)


def write_run(folder, recipe, tokenizer, facts=FACTS):
    """A run of a recipe's tiny preset as trainers.pretrain leaves it; returns its model in eval mode."""
    torch.manual_seed(1)
    model = RECIPES[recipe].build(RECIPES[recipe].config("tiny", tokenizer.vocab_size))
    save_model(folder / "model.safetensors", model, tokenizer, ModelFacts(recipe, "tiny", facts))
    return model.eval()


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_the_encoder_of_every_recipe_gives_the_tokens_it_gave(recipe, tokenizer, tmp_path):
    model = write_run(tmp_path, recipe, tokenizer)
    start = open_encoder(tmp_path)
    assert start.view.size == RECIPES[recipe].image_size(model.config)
    assert start.config.patch_size == RECIPES[recipe].patch_size(model.config)
    images = torch.randn(2, 1, *start.view.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model.encode_patches(images)
        found = start.build().eval().last_tokens(images, with_norm=True).patches
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert start.view.spacing_mm == (3.0, 3.0, 6.0)


def test_volumes_that_were_trained_the_other_way_round_are_turned(tokenizer, tmp_path):
    write_run(tmp_path, "asap", tokenizer, FACTS | {"axes": "LPS", "resample": "as_released"})
    start = open_encoder(tmp_path)
    assert start.config.reversed_axes == (0, 1)
    assert start.view.resample == "as_released"


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_fine_tuning_makes_of_a_ct_what_pre_training_made(recipe, tokenizer, tmp_path):
    """From the facts of a run on a folder; values beyond the window say whether clipping came first."""
    preset = RECIPES[recipe].preset(PUBLISHED[recipe])
    config = PretrainConfig(tmp_path, recipe, data="folder", view=replace(preset.view, spacing_mm=(6.0, 6.0, 12.0)))
    model = RECIPES[recipe].config("tiny", tokenizer.vocab_size)
    write_run(tmp_path, recipe, tokenizer, facts_of(config, model))
    view = open_encoder(tmp_path).view
    hu = np.random.default_rng(0).integers(-1024, 3000, (20, 18, 12)).astype(np.int16)
    for kind, values in (("volumes", hu), ("masks", np.full(hu.shape, 10, np.uint8))):
        (tmp_path / kind).mkdir()
        nib.nifti1.save(nib.nifti1.Nifti1Image(values, np.diag([-3.0, -3.0, 6.0, 1.0])), tmp_path / kind / "one.nii.gz")
    trained, _ = prepare_study(tmp_path, "one", config.view)
    tuned, _ = thin_out(read_ct(tmp_path / "volumes" / "one.nii.gz"), view)
    np.testing.assert_array_equal(tuned, trained)
    assert view.padding == preset.view.padding
    shown = DataView(window_hu=config.view.window_hu, shown_as=config.view.shown_as)
    np.testing.assert_array_equal(show(tuned, view), show_crop(trained, shown))


def test_engine_json_tells_all_of_the_view(tokenizer, tmp_path):
    write_run(tmp_path, "asap", tokenizer, {})
    told = ViewConfig((4.0, 4.0, 8.0), (32, 32, 16), (8, 8, 4), shown_as=(0.0, 1.0), smooth=False, clip_late=True)
    (tmp_path / "engine.json").write_text(config_to_json(EngineSpec("mine", told)), encoding="utf-8")
    view = open_encoder(tmp_path).view
    assert (view.shown_as, view.resample, view.clip_late, view.padding) == ((0.0, 1.0), "as_released", True, "air")


def test_a_view_that_is_not_told_is_asap_s_and_said_so(tokenizer, tmp_path):
    write_run(tmp_path, "asap", tokenizer, {})
    start = open_encoder(tmp_path)
    assert start.view.spacing_mm == (1.5, 1.5, 3.0)
    assert "does not tell" in start.notes[0]
    spec = EngineSpec("mine", ViewConfig((4.0, 4.0, 8.0), (32, 32, 16), (8, 8, 4), (-500.0, 500.0)))
    (tmp_path / "engine.json").write_text(config_to_json(spec), encoding="utf-8")
    again = open_encoder(tmp_path)
    assert (again.view.spacing_mm, again.view.window_hu, again.notes) == ((4.0, 4.0, 8.0), (-500.0, 500.0), ())


def test_a_fine_tuned_model_can_be_fine_tuned_again(tokenizer, tmp_path):
    write_run(tmp_path, "asap", tokenizer)
    start = open_encoder(tmp_path)
    model = Classifier(ClassifierConfig(start.config, ("a",)))
    model.backbone.load_state_dict(start.weights)
    save_task(tmp_path / "task.safetensors", model, start.view, {"encoder": start.name})
    again = open_encoder(tmp_path / "task.safetensors")
    assert again.sha256 == start.sha256
    assert "fine-tuned" in again.name


def test_files_that_hold_no_whole_encoder_are_refused(tokenizer, tmp_path):
    model = ASAP(tiny(tokenizer.vocab_size))
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("blocks.1.")}
    torch.save({"model": weights}, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match="needed weights"):  # of another size than the published one
        open_encoder(tmp_path / "part.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(CheckpointError):
        open_encoder(tmp_path / "junk.pth")
    with pytest.raises(CheckpointError, match="No weights"):
        open_encoder(tmp_path / "absent")


def test_weights_drawn_anew_are_others_and_the_same_each_time(tokenizer, tmp_path):
    write_run(tmp_path, "asap", tokenizer)
    start = open_encoder(tmp_path)
    first, second = without_training(start, 0), without_training(start, 0)
    assert first.sha256 == second.sha256 != start.sha256


def test_impossible_views_are_refused():
    with pytest.raises(ConfigError, match="rise from black"):
        TaskView(window_hu=(100.0, -100.0))
