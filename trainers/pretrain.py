"""Pre-training: `python -m trainers.pretrain --recipe asap --preset small --data synthetic --out runs/asap`.

Run the same command again to continue a run that was stopped. `accelerate launch -m trainers.pretrain ...` uses
several GPUs or machines.
"""

import dataclasses
import json
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from core.errors import AsapError, ConfigError
from core.models.asap import ASAP
from core.models.asap_config import ASAPConfig
from core.models.asap_file import save_asap
from core.models.checkpoint import (
    config_from_json,
    config_to_json,
    import_weights,
    load_strictly,
    read_published,
    read_weights,
    write_atomically,
)
from core.models.tokens import ReportTokenizer, train_wordpiece
from core.synthesis.reports import generate_reports
from trainers.batches import Studies
from trainers.folder import CACHE, FolderConfig, FolderStudies, read_reports
from trainers.loop import LoopConfig, train
from trainers.recipes import RECIPES, preset_config
from trainers.synthetic import SyntheticConfig, SyntheticStudies

CONFIG, ENVIRONMENT, TOKENIZER, MODEL = "config.json", "environment.json", "tokenizer.json", "model.safetensors"
LEARNED_WORDS = 2000
"""Most entries of a vocabulary that is learned from the reports."""
MAY_CHANGE = ("log_every", "checkpoint_every", "workers", "cpu")
"""Entries of `loop` that a continued run may set anew."""


@dataclass(frozen=True)
class PretrainConfig:
    """Everything one run depends on; written beside its checkpoints as config.json."""

    out: Path
    """Folder of the run: config, log, checkpoints and at the end model.safetensors."""
    recipe: Literal["asap"] = "asap"
    """Pre-training method."""
    preset: str = "corrected"
    """released, corrected, small or tiny."""
    data: str = "synthetic"
    """"synthetic", or a folder with volumes/, masks/ and reports.csv."""
    model: Path | None = None
    """JSON with every size and switch, as in a run's config.json under "model"; replaces the preset."""
    tokenizer: Path | None = None
    """Word-piece JSON; without it one is learned from the reports (not for the full-size presets)."""
    text: Path | None = None
    """text.safetensors of trainers.text_encoder: vocabulary and weights of the text encoder."""
    init: Path | None = None
    """Published or own weights to start from; what fits is loaded, the encoder must."""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """Steps, batches, precision."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    """The data engine, when data is "synthetic"."""
    folder: FolderConfig = field(default_factory=FolderConfig)
    """How volumes are prepared, when data is a folder."""


def pretrain(config: PretrainConfig) -> Path:
    """Train, or continue, and write the final model; returns its path."""
    tokenizer = _tokenizer(config)
    model_config = _model_config(config, tokenizer)
    studies = open_studies(config, model_config, tokenizer)
    _record(config, model_config, tokenizer)
    torch.manual_seed(config.loop.seed)
    model = RECIPES[config.recipe].build(model_config)
    if config.text is not None:
        load_strictly(model.bert_encoder, read_weights(config.text)[0], config.text.name)
    if config.init is not None:
        sys.stderr.write(f"{config.init.name}: {import_weights(model, read_published(config.init))}\n")
    trained = train(model, studies, config.loop, config.out, RECIPES[config.recipe].requires)
    assert isinstance(trained, ASAP)
    facts = {"recipe": config.recipe, "data": config.data, "steps": str(config.loop.optim.steps)} | _view_facts(config)
    save_asap(config.out / MODEL, trained, tokenizer, facts)
    return config.out / MODEL


def open_studies(config: PretrainConfig, model: ASAPConfig, tokenizer: ReportTokenizer) -> Studies:
    """The training set, refused early when it cannot feed this model."""
    if config.data != "synthetic":
        return FolderStudies(Path(config.data), config.folder, model.vision.image_size, tokenizer, config.out / CACHE)
    crop, patch = config.synthetic.crop, config.synthetic.patch
    if (crop, patch) != (model.vision.image_size, model.vision.patch_size):
        raise ConfigError(
            f"The synthetic studies have {crop} voxels in patches of {patch}, the model reads "
            f"{model.vision.image_size} in {model.vision.patch_size}. Set --synthetic.crop and "
            "--synthetic.patch, or choose another preset."
        )
    return SyntheticStudies(config.synthetic, tokenizer)


def _tokenizer(config: PretrainConfig) -> ReportTokenizer:
    """The vocabulary of the run: the one it began with, the given one, or one learned from the reports."""
    begun = config.out / TOKENIZER
    if begun.is_file():
        return ReportTokenizer.from_file(begun)
    if config.text is not None:
        return ReportTokenizer.from_json(read_weights(config.text)[1]["tokenizer"])
    if config.tokenizer is not None:
        return ReportTokenizer.from_file(config.tokenizer)
    if config.preset in ("released", "corrected") and config.model is None:
        raise ConfigError(
            f"Preset {config.preset} has CXR-BERT's text encoder; give its word-piece file with --tokenizer."
        )
    return train_wordpiece(_report_texts(config), LEARNED_WORDS)


def _report_texts(config: PretrainConfig) -> list[str]:
    """Reports to learn a vocabulary from."""
    if config.data == "synthetic":
        reports = generate_reports(1000, config.synthetic.seed)
        return [f"{report.findings} {report.impression}" for report in reports]
    return [row.text for row in read_reports(Path(config.data))]


def _model_config(config: PretrainConfig, tokenizer: ReportTokenizer) -> ASAPConfig:
    if config.model is None:
        return preset_config(config.recipe, config.preset, tokenizer.vocab_size)
    if not config.model.is_file():
        raise ConfigError(f"No model config at {config.model}; expected a JSON file.")
    return config_from_json(ASAPConfig, config.model.read_text())


def _view_facts(config: PretrainConfig) -> dict[str, str]:
    """What an engine must know to show the model a CT as it was trained on."""
    if config.data == "synthetic":
        spacing = [config.synthetic.study.view.spacing_mm] * 3
        window = list(config.synthetic.window_hu)
    else:
        spacing, window = list(config.folder.spacing_mm), list(config.folder.window_hu)
    return {"spacing_mm": json.dumps(spacing), "window_hu": json.dumps(window)}


def _record(config: PretrainConfig, model: ASAPConfig, tokenizer: ReportTokenizer) -> None:
    """Write config, environment and vocabulary beside the checkpoints; refuse to continue a different run."""
    told = {"run": json.loads(config_to_json(config)), "model": json.loads(config_to_json(model))}
    path = config.out / CONFIG
    if path.is_file():
        changed = _differences(json.loads(path.read_text()), told)
        if changed:
            raise ConfigError(
                f"{config.out} holds a run with other settings ({', '.join(changed[:5])}). Continue it with its own "
                f"settings (see {CONFIG}), or choose another --out."
            )
        return
    environment = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
    write_atomically(config.out / TOKENIZER, tokenizer.to_json().encode())
    write_atomically(config.out / ENVIRONMENT, json.dumps(environment, indent=1).encode())
    write_atomically(path, json.dumps(told, indent=1).encode())


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Dotted names of settings that differ, but for those that may."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [d for key in keys for d in _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))]
    is_free = name.rsplit(".", 1)[-1] in MAY_CHANGE or name in ("run.out", "run.tokenizer")
    return [] if old == new or is_free else [name]


def main(config: PretrainConfig) -> None:
    """Run, print one JSON document, or end with one line on what to mend."""
    try:
        path = pretrain(config)
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"Stopped. Run the same command again to continue from the last checkpoint in {config.out}.\n")
        raise SystemExit(130) from stop
    sys.stdout.write(json.dumps({"model": str(path), "run": dataclasses.asdict(config.loop)}) + "\n")


if __name__ == "__main__":
    main(tyro.cli(PretrainConfig))
