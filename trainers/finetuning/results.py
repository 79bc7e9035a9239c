"""What a fine-tuning leaves behind: numbers over seeds, and its model."""

import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState

from core.errors import CheckpointError
from trainers.loop import LoopConfig

METRICS, PREDICTIONS = "metrics.json", "predictions.csv"


def steps_per_epoch(studies: int, loop: LoopConfig) -> int:
    """Whole optimiser steps of all processes in one pass over a training set, at least 1."""
    together = loop.batch_size * loop.accumulate * PartialState(cpu=loop.cpu).num_processes
    return max(1, studies // together)


def to_json(document: dict[str, Any]) -> bytes:
    """A document as the bytes of a JSON file; refuses NaN, which JSON does not have."""
    return json.dumps(document, indent=1, allow_nan=False).encode() + b"\n"


def summarise_seeds(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Side -> metric over all classes -> mean and standard deviation over the seeds (0 for one)."""
    told: dict[str, dict[str, dict[str, float]]] = {}
    for side in results[0]:
        names = [name for name in results[0][side]["values"] if "/" not in name]
        for name in names:
            values = [result[side]["values"][name]["value"] for result in results]
            if None not in values:
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                told.setdefault(side, {})[name] = {"mean": statistics.fmean(values), "sd": spread}
    return told


def copy_model(source: Path, target: Path) -> None:
    """A second copy of a model, whole or not at all."""
    scratch = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(source, scratch)
        scratch.replace(target)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise CheckpointError(f"{target} could not be written ({error}). Copy {source} there by hand.") from error
