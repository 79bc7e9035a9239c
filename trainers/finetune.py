"""Fine-tuning to classification and segmentation, from any recipe's encoder or published weights.

`python -m trainers.finetune classification --encoder runs/asap --train train.csv --volumes data --out runs/probe`, and
`segmentation` likewise with `--list dataset.json`; see docs/finetuning.md. Run the same command again to continue a run
that was stopped. Prints one JSON document.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro
from accelerate import PartialState

from core.errors import AsapError, ConfigError
from trainers.finetuning.classification import finetune_classification
from trainers.finetuning.label_config import ClassificationConfig
from trainers.finetuning.label_config import preset_defaults as label_defaults
from trainers.finetuning.segmentation import finetune_segmentation
from trainers.finetuning.voxel_config import SegmentationConfig
from trainers.finetuning.voxel_config import preset_defaults as voxel_defaults

TASKS = ("classification", "segmentation")


def read_classification(arguments: Sequence[str]) -> ClassificationConfig:
    """The options of `classification`; head and loop start from the mode and preset that they name."""
    plain = ClassificationConfig(Path(), Path(), Path(), Path())
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--mode", default=plain.mode)
    first.add_argument("--preset", default=plain.preset)
    first.add_argument("--share.fraction", "--fraction", dest="fraction", type=float, default=1.0)
    named = first.parse_known_args(arguments)[0]
    start = label_defaults(plain, named.mode, named.preset, named.fraction)
    start = replace(start, **dict.fromkeys(("out", "encoder", "train", "volumes"), tyro.MISSING))
    return tyro.cli(ClassificationConfig, default=start, args=_short_names(arguments))


def read_segmentation(arguments: Sequence[str]) -> SegmentationConfig:
    """The options of `segmentation`; crops, loop and validation start from the preset that they name."""
    plain = SegmentationConfig(Path(), Path(), Path())
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", default=plain.preset)
    start = voxel_defaults(plain, first.parse_known_args(arguments)[0].preset)
    start = replace(start, **dict.fromkeys(("out", "encoder", "list"), tyro.MISSING))
    return tyro.cli(SegmentationConfig, default=start, args=_short_names(arguments))


def _short_names(arguments: Sequence[str]) -> list[str]:
    """--fraction is understood for --share.fraction."""
    return [word.replace("--fraction", "--share.fraction", 1) if _is_fraction(word) else word for word in arguments]


def _is_fraction(word: str) -> bool:
    return word == "--fraction" or word.startswith("--fraction=")


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Run one task; AsapError for what a person can mend."""
    task, *rest = arguments or ("",)
    if task == "classification":
        return finetune_classification(read_classification(rest))
    if task == "segmentation":
        return finetune_segmentation(read_segmentation(rest))
    raise ConfigError(f"There is no task {task!r}; expected one of {', '.join(TASKS)}, then its options (--help).")


if __name__ == "__main__":
    try:
        told = main(sys.argv[1:])
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    except KeyboardInterrupt as stop:
        sys.stderr.write("Stopped. Run the same command again to continue from the last checkpoint.\n")
        raise SystemExit(130) from stop
    if PartialState().is_main_process:
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
