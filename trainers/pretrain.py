"""Pre-training: `python -m trainers.pretrain --recipe asap --preset small --data synthetic --out runs/asap`.

Run the same command again to continue a run that was stopped. `accelerate launch -m trainers.pretrain ...` uses
several GPUs or machines.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from accelerate import PartialState
from torch import nn

from core.errors import AsapError, ConfigError
from core.models.asap import ASAP
from core.models.asap_config import ASAPConfig
from core.models.bert import BertConfig
from core.models.checkpoint import config_from_json, load_strictly, read_weights
from core.models.imports import fit_weights, put_weights, read_source, start_from
from core.models.model_file import ModelFacts, save_model
from core.models.text_cache import TextCache
from core.models.tokens import ReportTokenizer, train_wordpiece
from core.organ_map import find_organ_map
from core.synthesis.reports import generate_reports
from trainers.allocator import tune_allocator
from trainers.changes import change_config
from trainers.crops import DataView
from trainers.loop import LoopConfig, train
from trainers.recipes import find_recipe
from trainers.recipes.recipe import Preset, Recipe
from trainers.report_tokens import ReportConfig, read_reports
from trainers.resume import WEIGHTS, latest_checkpoint
from trainers.run_files import MODEL, TOKENIZER, list_left_out, record_run
from trainers.run_log import BAD_STUDIES
from trainers.sources import RecipeStudies
from trainers.splits import SPLITS, SplitConfig, write_split
from trainers.stage import Stage, enter_stage, leave_stage, trainable_names
from trainers.studies import SYNTHETIC, StudiesRequest, StudySets, open_studies
from trainers.synthetic import SyntheticConfig
from trainers.validation import Watch

LEARNED_WORDS = 2000
"""Most entries of a vocabulary that is learned from the reports."""


@dataclass(frozen=True)
class PretrainConfig:
    """Everything one run depends on; written beside its checkpoints as config.json."""

    out: Path
    """Folder of the run: config, log, checkpoints and at the end model.safetensors."""
    recipe: str = "asap"
    """Pre-training method, a file of trainers/recipes."""
    preset: str = "corrected"
    """Named settings of the recipe; view, reports, data engine and loop start from it."""
    data: str = SYNTHETIC
    """"synthetic", or a folder with volumes/, reports.csv and what the recipe needs (masks/, builders' files)."""
    model: Path | None = None
    """JSON with every size and switch, as in a run's config.json under "model"; replaces the preset."""
    change: tuple[str, ...] = ()
    """Changes to the model config, such as fixes.padding_masked=false weights.study=0.1."""
    tokenizer: Path | None = None
    """Word-piece JSON; without it one is learned from the reports (not for the full-size presets)."""
    text: Path | None = None
    """text.safetensors of trainers.text_encoder, or CXR-BERT: weights of the text encoder, and its vocabulary."""
    init: tuple[Path, ...] = ()
    """Published weights, converted ones or earlier runs to start from, one after the other: a model of this recipe, or
    encoders for its own (docs/weights.md). What fits is loaded, the encoder must."""
    stages: tuple[str, ...] = ()
    """Only these of the preset's stages, in its order, such as contrast normality; none = all."""
    cache_text: bool = False
    """Keep in out/findings what a frozen text encoder makes of each findings text (recipe asap), in half precision."""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """Steps, batches, precision."""
    view: DataView = field(default_factory=DataView)
    """How CTs are shown, when data is a folder."""
    reports: ReportConfig = field(default_factory=ReportConfig)
    """How reports become tokens, when data is a folder."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Which patients validate, when data is a folder."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    """The data engine, when data is "synthetic"."""


def pretrain(config: PretrainConfig) -> Path:
    """Train, or continue, and write the final model; returns its path."""
    recipe = find_recipe(config.recipe)
    preset = recipe.preset(config.preset)
    tokenizer = _tokenizer(config, preset)
    model_config = _model_config(config, tokenizer)
    request = StudiesRequest(config.data, config.view, config.reports, config.synthetic, config.out, config.split)
    sets = open_studies(request, recipe, wanted_stages(preset, config), model_config, tokenizer)
    is_main = PartialState(cpu=config.loop.cpu).is_main_process
    torch.manual_seed(config.loop.seed)
    model = recipe.build(model_config)
    start_text(recipe, model, tokenizer, config.text)
    for file in config.init:
        source, fitted = start_from(model, recipe.name, file, recipe.required_parts)
        sys.stderr.write(f"{file.name}, weights of {source.name}: {fitted}\n")
    if config.cache_text:  # refused before anything is written
        cache_findings(model, config.out / "findings")
    if is_main:
        record_run(config.out, config, model_config, tokenizer)
        list_left_out(config.out / BAD_STUDIES, sets.left_out)
        if sets.split is not None:
            write_split(config.out / SPLITS, sets.split, config.split)
    trained = run_stages(model, sets, recipe, config)
    if is_main:
        about = ModelFacts(recipe.name, config.preset, facts_of(config, model_config))
        save_model(config.out / MODEL, trained, tokenizer, about)
    return config.out / MODEL


def start_text(recipe: Recipe, model: nn.Module, tokenizer: ReportTokenizer, path: Path | None) -> None:
    """Give a model the text encoder of a file, and what its recipe computes from the vocabulary before training."""
    found = None if path is None else read_source([path])
    if found is not None and found.source.name != "cxr-bert":
        raise ConfigError(
            f"--text {path} holds weights of {found.source.name}; expected a text encoder alone, of "
            "trainers.text_encoder or imported as cxr-bert. Whole models are for --init."
        )
    if recipe.start_text is not None:
        weights = None if found is None else {f"bert.{name}": value for name, value in found.weights.items()}
        recipe.start_text(model, tokenizer, weights)
    elif found is not None:
        put_weights(model, fit_weights(found, model, recipe.name, ()))


def cache_findings(model: nn.Module, folder: Path) -> None:
    """Let ASAP read each findings text once; refuses other recipes and text encoders that train."""
    if not isinstance(model, ASAP):
        raise ConfigError("--cache-text is for recipe asap, whose text encoder is frozen; leave it out.")
    model.text_cache = TextCache(folder, model.bert_encoder)


def run_stages(model: nn.Module, sets: StudySets, recipe: Recipe, config: PretrainConfig) -> nn.Module:
    """Train a preset's stages one after the other, each in its own folder where there are several.

    Stages that are done are read from their last checkpoint.
    """
    preset, loop, out = recipe.preset(config.preset), config.loop, config.out
    stages, watch = wanted_stages(preset, config), Watch(sets.val, recipe.heat, recipe.before_epoch)
    if len(preset.stages) == 1:
        return train(model, sets.train, loop, out, stages[0], watch)
    trainable = trainable_names(model)
    for stage in stages:
        leave_stage(model, trainable)
        if stage.init_from:
            begun = latest_checkpoint(out / stage.init_from)
            if begun is None:
                raise ConfigError(
                    f"Stage {stage.name} starts from {stage.init_from}, which left no checkpoint in {out}."
                )
            enter_stage(model, Stage(stage.init_from))  # its weights may hold what only that stage keeps
            load_strictly(model, read_weights(begun / WEIGHTS)[0], f"{stage.init_from}/{begun.name}")
            leave_stage(model, trainable)
        for studies in (sets.train, sets.val):
            if isinstance(studies, RecipeStudies):
                studies.want(stage.requires)
        model = train(model, sets.train, loop, out / stage.name, stage, watch)
    leave_stage(model, trainable)
    return model


def wanted_stages(preset: Preset, config: PretrainConfig) -> tuple[Stage, ...]:
    """The stages of a run, in the preset's order; ConfigError for one that the preset does not have."""
    known = [stage.name for stage in preset.stages]
    unknown = [name for name in config.stages if name not in known]
    if unknown:
        raise ConfigError(f"Preset {config.preset} has no stage {unknown[0]!r}; expected some of {', '.join(known)}.")
    return tuple(stage for stage in preset.stages if not config.stages or stage.name in config.stages)


def _tokenizer(config: PretrainConfig, preset: Preset) -> ReportTokenizer:
    """The vocabulary of the run: the one it began with, the given one, or one learned from the reports."""
    begun = config.out / TOKENIZER
    if begun.is_file():
        return ReportTokenizer.from_file(begun)
    if config.tokenizer is not None:
        return ReportTokenizer.from_file(config.tokenizer)
    if config.text is not None:
        words = read_weights(config.text)[1] if config.text.suffix == ".safetensors" else {}
        if "tokenizer" not in words:
            raise ConfigError(f"{config.text} holds no vocabulary; give its word-piece file with --tokenizer.")
        return ReportTokenizer.from_json(words["tokenizer"])
    if preset.wants_vocabulary and config.model is None:
        raise ConfigError(
            f"Preset {config.preset} has a published text encoder, such as CXR-BERT; give its word-piece file with "
            "--tokenizer."
        )
    return train_wordpiece(_report_texts(config), LEARNED_WORDS)


def _report_texts(config: PretrainConfig) -> list[str]:
    """Reports to learn a vocabulary from."""
    if config.data == SYNTHETIC:
        reports = generate_reports(1000, config.synthetic.seed)
        return [f"{report.findings} {report.impression}" for report in reports]
    return [row.text for row in read_reports(Path(config.data))]


def _model_config(config: PretrainConfig, tokenizer: ReportTokenizer) -> Any:
    recipe = find_recipe(config.recipe)
    if config.model is None:
        plain = recipe.config(config.preset, tokenizer.vocab_size)
        return change_config(_with_text(plain, config.text), config.change)
    if not config.model.is_file():
        raise ConfigError(f"No model config at {config.model}; expected a JSON file.")
    return change_config(config_from_json(recipe.config_type, config.model.read_text()), config.change)


def _with_text(plain: Any, text: Path | None) -> Any:
    """A preset that is trained from scratch, with a text encoder of the sizes that are stored with its weights."""
    if text is None or text.suffix != ".safetensors" or not isinstance(plain, ASAPConfig) or plain.pyramid is None:
        return plain
    told = read_weights(text)[1].get("config")
    if told is None:
        return plain
    sizes = config_from_json(BertConfig, told)
    return replace(plain, text=sizes, report=replace(plain.report, vocab_size=sizes.vocab_size))


def facts_of(config: PretrainConfig, model: Any) -> dict[str, str]:
    """What an engine must know to show the model a CT as it was trained on."""
    view = config.view
    if config.data == SYNTHETIC:
        spacing = (config.synthetic.study.view.spacing_mm,) * 3
        view = DataView(spacing, config.synthetic.window_hu, clip_late=True, padding="air")
    size = find_recipe(config.recipe).image_size(model)
    facts = {"spacing_mm": view.spacing_mm, "window_hu": view.window_hu, "shown_as": view.shown_as, "crop": size}
    told = {name: json.dumps(list(value)) for name, value in facts.items()}
    told |= {"organ_map": view.organ_map, "organs": find_organ_map(view.organ_map).to_json()}
    told |= {"resample": view.resample, "clip_late": json.dumps(view.clip_late), "padding": view.padding}
    told |= {"place": view.place, "organ_margin": json.dumps(list(view.organ_margin))}
    return told | {"data": config.data, "steps": str(config.loop.optim.steps)}


def main(config: PretrainConfig) -> None:
    """Run, print one JSON document, or end with one line on what to mend."""
    tune_allocator()
    try:
        path = pretrain(config)
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"Stopped. Run the same command again to continue from the last checkpoint in {config.out}.\n")
        raise SystemExit(130) from stop
    if PartialState(cpu=config.loop.cpu).is_main_process:
        sys.stdout.write(json.dumps({"model": str(path), "run": dataclasses.asdict(config.loop)}) + "\n")


def read_options(arguments: Sequence[str]) -> PretrainConfig:
    """The command line as a config; view, reports and loop start from the preset that it names."""
    plain = PretrainConfig(Path())
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--recipe", default=plain.recipe)
    first.add_argument("--preset", default=plain.preset)
    named = first.parse_known_args(arguments)[0]
    preset = find_recipe(named.recipe).preset(named.preset)
    start = replace(plain, recipe=named.recipe, preset=named.preset)
    start = replace(start, out=tyro.MISSING, loop=preset.loop, view=preset.view, reports=preset.reports)
    start = replace(start, synthetic=preset.synthetic)
    start = replace(start, split=SplitConfig(preset.val_share))
    return tyro.cli(PretrainConfig, default=start, args=arguments)


if __name__ == "__main__":
    try:
        options = read_options(sys.argv[1:])
    except ConfigError as unknown:
        sys.stderr.write(f"{unknown}\n")
        raise SystemExit(2) from unknown
    main(options)
