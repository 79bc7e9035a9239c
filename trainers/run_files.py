"""The files beside a run's checkpoints: what it was asked for, where it ran, which words it knows."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from core.errors import ConfigError
from core.models.checkpoint import config_to_json, write_atomically
from core.models.tokens import ReportTokenizer

CONFIG, ENVIRONMENT, TOKENIZER, MODEL = "config.json", "environment.json", "tokenizer.json", "model.safetensors"
MAY_CHANGE = ("every", "tensorboard", "most_bad_studies", "checkpoint_every", "workers", "cpu", "sharding", "compile")
"""Entries of `loop` that a continued run may set anew."""
PACKAGES = (
    "torch accelerate numpy safetensors tokenizers einops nibabel SimpleITK scipy scikit-image transformers zarr "
    "tensorboard tyro"
).split()


def record_run(out: Path, config: object, model: object, tokenizer: ReportTokenizer | None = None) -> None:
    """Write config, environment and any vocabulary beside the checkpoints; refuse to continue a different run.

    Each start of a run adds its environment.
    """
    told = {"run": json.loads(config_to_json(config)), "model": json.loads(config_to_json(model))}
    path = out / CONFIG
    if path.is_file():
        changed = _differences(_read_json(path), told)
        if changed:
            raise ConfigError(
                f"{out} holds a run with other settings ({', '.join(changed[:5])}). Continue it with its own "
                f"settings (see {CONFIG}), or choose another --out."
            )
    else:
        if tokenizer is not None:
            write_atomically(out / TOKENIZER, tokenizer.to_json().encode())
        write_atomically(path, json.dumps(told, indent=1).encode())
    earlier = _read_json(out / ENVIRONMENT) if (out / ENVIRONMENT).is_file() else []
    write_atomically(out / ENVIRONMENT, json.dumps([*earlier, describe_environment()], indent=1).encode())


def list_left_out(path: Path, reasons: Sequence[str]) -> None:
    """Add reports that cannot be used to the run's list of bad studies, each once, and say how many there are."""
    known = path.read_text() if path.is_file() else ""
    lines = [json.dumps({"step": 0, "trouble": reason}) for reason in reasons]
    new = [line for line in lines if line not in known]
    if new:
        write_atomically(path, "".join([known, *(f"{line}\n" for line in new)]).encode())
        sys.stderr.write(f"left out: {len(new)} reports, listed in {path}, such as: {reasons[0]}\n")


def describe_environment() -> dict[str, Any]:
    """Versions, machine and command of this process."""
    cards = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": cards,
        "cuda": torch.version.cuda,
        "packages": {name: version for name in PACKAGES if (version := _version_of(name))},
    }


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(
            f"{path} is damaged ({error}). Put its old content back, or choose another --out and start from the last "
            "checkpoint here with --init."
        ) from error


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Dotted names of settings that differ, but for those that may."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [d for key in keys for d in _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))]
    is_free = name.rsplit(".", 1)[-1] in MAY_CHANGE or name in ("run.out", "run.tokenizer", "run.split.file")
    return [] if old == new or is_free else [name]
