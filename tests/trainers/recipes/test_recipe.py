"""Recipes are found by name, and a folder that lacks what one reads is refused before anything is trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from core.models.asap import ASAP
from core.models.asap_config import tiny
from core.models.tokens import train_wordpiece
from trainers.changes import change_config
from trainers.crops import Crop, DataView
from trainers.pretrain import main, read_options
from trainers.recipes import RECIPES, find_recipe
from trainers.recipes.asap import WITHOUT_MASKS
from trainers.report_tokens import ReportConfig
from trainers.sources import RecipeStudies, require_fields
from trainers.stage import Stage, enter_stage, total_loss
from trainers.studies import StudiesRequest, open_studies
from trainers.synthetic import SyntheticConfig


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_keeps_its_own_name_and_presets(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    assert "tiny" in recipe.presets
    for short in recipe.presets:
        assert recipe.preset(f"{name}_{short}") is recipe.preset(short)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ConfigError, match="no recipe 'clip'; expected one of asap"):
        find_recipe("clip")
    with pytest.raises(ConfigError, match="no preset 'huge'; expected one of released"):
        find_recipe("asap").preset("huge")


def test_options_start_from_the_preset_and_can_be_changed(tmp_path):
    options = read_options(["--preset", "asap_released", "--out", str(tmp_path), "--loop.batch-size", "2"])
    assert (options.loop.batch_size, options.loop.accumulate, options.loop.optim.epochs) == (2, 8, 200)
    assert options.view.resample == "as_released"
    assert options.reports.as_released
    assert options.out == tmp_path


def test_switches_of_a_model_can_be_changed_by_name():
    changed = change_config(tiny(100), ["fixes.padding_masked=false", "weights.study=0.5", "vision.depth=1"])
    assert (changed.fixes.padding_masked, changed.weights.study, changed.vision.depth) == (False, 0.5, 1)
    assert change_config(tiny(100), []) == tiny(100)
    for wrong, words in (
        ("fixes.magic=true", "one of balanced_injection"),
        ("mask_ratio", "NAME=VALUE"),
        ("a.b=1", "vision"),
    ):
        with pytest.raises(ConfigError, match=words):
            change_config(tiny(100), [wrong])
    for wrong, words in (
        ("mask_ratio=2", "mask_ratio is 2"),
        ("mask_ratio=half", "mask_ratio: 'half' is not of type float"),
        ("vision.depth=1.5", "vision: depth: 1.5 is not of type int"),
        ("vision.depth=true", "depth: True is not of type int"),
        ("fixes.padding_masked=1", "padding_masked: 1 is not of type bool"),
        ("grounding_terms=all", "'all' is none of softmax, presence, both"),
        ("vision.image_size=32", "image_size: 32 is not a list"),
    ):
        with pytest.raises(ConfigError, match=f"impossible.*{words}"):
            change_config(tiny(100), [wrong])


def test_a_missing_input_names_the_command_that_makes_it():
    require_fields(["image"], ["image", "report_ids"])
    with pytest.raises(ConfigError, match=r"organ_ids \(python -m trainers.builders organ-text .*\)"):
        require_fields(["image", "organ_ids"], ["image"])
    with pytest.raises(ConfigError, match=r"region_cells \(only the data engine has it: --data synthetic\)"):
        require_fields(["image", "region_cells"], ["image"])


def test_a_recipe_that_the_data_engine_cannot_feed_asks_for_a_folder(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(read_options(["--recipe", "visd", "--preset", "tiny", "--out", str(tmp_path / "run"), "--loop.cpu"]))
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert "The data engine has no image_v2" in told
    assert "--data FOLDER" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_simcrop_reads_a_folder_without_masks(tmp_path):
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes" / "a.nii.gz").touch()
    (tmp_path / "reports.csv").write_text("study_id,findings,impression\na,Heart is normal.,\n")
    request = StudiesRequest(str(tmp_path), DataView(), ReportConfig(128), SyntheticConfig(), tmp_path / "run")
    tokenizer, recipe = train_wordpiece(["Heart is normal."], 100), find_recipe("asap")
    config = recipe.config("tiny", tokenizer.vocab_size)
    sets = open_studies(request, recipe, (Stage(requires=WITHOUT_MASKS),), config, tokenizer)
    assert (len(sets.train), sets.val) == (1, None)
    with pytest.raises(ConfigError, match="asap_viewer segment"):
        open_studies(request, recipe, (Stage(),), config, tokenizer)
    longer = replace(request, reports=ReportConfig(129))
    with pytest.raises(ConfigError, match="--reports.max-tokens 128"):
        open_studies(longer, recipe, (Stage(requires=WITHOUT_MASKS),), config, tokenizer)


def test_simcrop_has_one_region_size_no_anatomy_and_no_region_token():
    """simcrop_delta.md: constant K, weight 0 on the anatomy branch, fusion memory of patches only."""
    told = find_recipe("asap").config("simcrop", 100)
    assert (told.weights.injection, told.size_steps, told.region_token) == (0.0, 1, False)
    model = ASAP(replace(tiny(100), region_token=False))
    encoded = model.encode_visible(torch.zeros(1, 1, 32, 32, 16), torch.rand(1, 64), 0.75)
    memory, _ = model.visual_memory(encoded, torch.ones(1, 2, 48), torch.ones(1, 2, dtype=torch.bool))
    assert memory.shape == (1, 16, 48)
    assert model.regression_head.weight.grad is None


class OneCrop:
    """An image source whose only study has air in its first voxel and bone everywhere else."""

    study_ids = ("one",)

    def read(self, study_id: str, rng: np.random.Generator) -> Crop:
        hu = np.full((2, 2, 2), 350, np.int16)
        hu[0, 0, 0] = -2000
        return Crop(study_id, hu, None, bool(rng.random() < 2))


class Flag:
    """A field source that says whether the crop was mirrored."""

    fields = ("organ_present",)

    def check(self, study_ids) -> None:
        if "one" not in study_ids:
            raise ConfigError("no one")

    def make(self, crop: Crop, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        return {"organ_present": torch.tensor([crop.is_mirrored])}


def test_an_item_joins_its_image_in_the_views_range_with_its_fields():
    view = DataView(window_hu=(-1150, 350), shown_as=(0, 1), offset_chance=0)
    item = RecipeStudies(OneCrop(), [Flag()], view)[0]
    assert item["study_id"] == "one"
    assert item["image"].shape == (1, 2, 2, 2)
    assert item["image"].flatten().tolist() == [0] + [1] * 7
    assert item["organ_present"].tolist() == [True]
    assert "organ_mask" not in item


def test_a_stage_freezes_by_name_and_sums_the_losses_it_names():
    model = torch.nn.ModuleDict({"text": torch.nn.Linear(2, 2), "vision": torch.nn.Linear(2, 2)})
    enter_stage(model, Stage(freeze=("text.",)))
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    with pytest.raises(ConfigError, match="freezes 'bert'"):
        enter_stage(model, Stage(freeze=("bert",)))
    losses = {"a": torch.tensor(1.0), "b": torch.tensor(2.0), "total": torch.tensor(7.0)}
    assert total_loss(losses, Stage(losses=("a", "b"))) == 3
    assert total_loss(losses, Stage()) == 7
