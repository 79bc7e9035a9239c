"""Fine-tuning to segmentation: UNETR on any recipe's ViT, measured on every CT's own grid."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from torch import nn

from core.errors import ConfigError
from core.models.checkpoint import load_strictly, write_atomically
from core.models.unetr import Segmenter3d, SegmenterConfig
from core.tasks.segmenting import predict_classes, segment_thin
from core.tasks.task_file import save_task
from core.tasks.view import TaskView
from trainers.changes import change_config
from trainers.finetuning.decathlon import SegCase, SegLists, read_decathlon, side_swap
from trainers.finetuning.encoders import StartEncoder, open_encoder, without_training
from trainers.finetuning.label_data import write_skipped
from trainers.finetuning.results import METRICS, PREDICTIONS, copy_model, steps_per_epoch, summarise_seeds, to_json
from trainers.finetuning.shares import require_apart, share_rows, write_shares
from trainers.finetuning.volumes import read_ct, read_labels_beside
from trainers.finetuning.voxel_config import SegmentationConfig
from trainers.finetuning.voxel_metrics import CaseScores, mean_defined, report_voxels, score_case
from trainers.finetuning.voxel_studies import CropStudies, ThinCases
from trainers.loop import train
from trainers.metrics.overlap import score_dice
from trainers.run_files import MODEL, record_run
from trainers.sharding import unsharded
from trainers.splits import patient_of
from trainers.stage import Stage
from trainers.validation import Watch, fork_random

REMEDY = (
    "Let patients of the training list validate with --carve, or repeat a published protocol with --allow-val-is-test."
)


class Trial(NamedTuple):
    """What every seed trains on."""

    config: SegmentationConfig
    start: StartEncoder
    view: TaskView
    lists: SegLists
    thin: ThinCases
    model: SegmenterConfig


def finetune_segmentation(config: SegmentationConfig) -> dict[str, Any]:
    """Train once per seed, measure on the testing cases, write everything to `config.out`; the printed document."""
    trial = _prepare(config)
    if PartialState(cpu=config.loop.cpu).is_main_process:
        record_run(config.out, config, trial.model)
        sides = {"train": trial.lists.train, "val": trial.lists.val, "test": trial.lists.test}
        named = {side: [case.name for case in cases] for side, cases in sides.items()}
        write_shares(config.out, config.share, named, {"classes": list(trial.lists.classes)})
        write_skipped(config.out, trial.lists.skipped)
    results = {seed: _run_seed(trial, seed) for seed in config.seeds}
    return _conclude(trial, results)


def _prepare(config: SegmentationConfig) -> Trial:
    """Encoder, lists and resampled cases; refuses what cannot work before training."""
    start = open_encoder(config.encoder)
    start = without_training(start, config.seeds[0]) if config.from_scratch else start
    view = change_config(replace(start.view, size=config.roi), config.change_view)
    lists = _share(read_decathlon(config.list, config.root), config)
    model = SegmenterConfig(start.config, lists.classes, view.size, config.channels)
    thin = ThinCases(view, len(lists.classes), config.cache)
    skipped = thin.prepare([*lists.train, *lists.val, *lists.test])
    lists = lists._replace(
        train=_usable(lists.train, skipped, "train"),
        val=_usable(lists.val, skipped, "validate"),
        test=_usable(lists.test, skipped, "test") if lists.test else (),
        skipped=lists.skipped | skipped,
    )
    if side_swap(lists.classes) is None:
        note = "A left or right label has no counterpart, so that CTs are never flipped from left to right."
        lists = lists._replace(notes=(*lists.notes, note))
    return Trial(config, start, view, lists, thin, model)


def _share(lists: SegLists, config: SegmentationConfig) -> SegLists:
    """The cases that are used, with a validation side that no testing patient is on."""
    carve = config.carve or not lists.val
    rows = share_rows([case.name for case in lists.train], config.share, carve)
    val = tuple(lists.train[row] for row in rows.val) if carve else lists.val
    train = tuple(lists.train[row] for row in rows.train)
    sides = {"train": train, "val": val, "test": lists.test}
    named = {side: [case.name for case in cases] for side, cases in sides.items()}
    notes = require_apart(named, config.share.patient_rule, config.allow_val_is_test, REMEDY)
    return lists._replace(train=train, val=val, notes=(*lists.notes, *notes))


def _usable(cases: Sequence[SegCase], skipped: dict[str, str], verb: str) -> tuple[SegCase, ...]:
    kept = tuple(case for case in cases if case.name not in skipped)
    if not kept:
        first = next(iter(skipped.items()), ("none", "the list is empty"))
        raise ConfigError(f"No case that should {verb} can be used. The first: {first[0]}: {first[1]}")
    return kept


def _run_seed(trial: Trial, seed: int) -> dict[str, Any]:
    """One training and what it is worth."""
    config, out = trial.config, trial.config.out / f"seed-{seed}"
    studies = CropStudies(trial.thin, trial.lists.train, config.crops, side_swap(trial.lists.classes), seed)
    per_epoch = steps_per_epoch(len(studies), config.loop)
    loop = replace(config.loop, seed=seed, validate_every=per_epoch * config.validate_epochs)
    torch.manual_seed(seed)
    model = Segmenter3d(trial.model)
    load_strictly(model.backbone, trial.start.weights, trial.start.name)
    watch = Watch(measure=lambda accelerator, model: _validate(accelerator, model, trial))
    trained = train(model, studies, loop, out, Stage(requires=("image", "voxel_class")), watch)
    assert isinstance(trained, Segmenter3d)
    results = _measure(trained, trial, out)
    if PartialState(cpu=config.loop.cpu).is_main_process:
        save_task(out / MODEL, trained, trial.view, _facts(trial, seed))
    return results


@torch.no_grad()
def _validate(accelerator: Accelerator, model: nn.Module, trial: Trial) -> dict[str, float]:
    """What decides when to stop: 1 - mean Dice at the model's spacing, over classes and then over cases."""
    model.eval()
    means, count = [], len(trial.lists.classes)
    with fork_random(accelerator), unsharded(model) as plain:
        assert isinstance(plain, Segmenter3d)
        for case in trial.lists.val:
            kept = trial.thin.read(case)
            found = segment_thin(plain, kept.hu, trial.view, trial.config.overlap).argmax(dim=0)
            dice = score_dice(found, torch.from_numpy(np.array(kept.labels)), count, trial.config.absent)
            means.append(mean_defined(dice))
    model.train()
    overall = float(np.nan_to_num(mean_defined(np.array(means))))  # 0 where no case has any class
    return {"dice": overall, "total": 1 - overall}


def _measure(model: Segmenter3d, trial: Trial, out: Path) -> dict[str, Any]:
    """Numbers on validation and testing cases, each on its CT's own grid. Writes predictions.csv and metrics.json."""
    config, told, rows = trial.config, dict[str, Any](), list[Sequence[object]]()
    for side, cases in (("val", trial.lists.val), ("test", trial.lists.test)):
        if cases:
            scores = [_score(model, case, trial) for case in cases]
            patients = [patient_of(case.name, config.share.patient_rule) for case in cases]
            told[side] = report_voxels(scores, patients, trial.lists.classes[1:], config.interval)
            rows += [row for one in scores for row in _rows_of(side, one, trial.lists.classes[1:])]
    if PartialState(cpu=config.loop.cpu).is_main_process:
        sink = io.StringIO()
        csv.writer(sink).writerows([("side", "case", "class", "dice", "hd95_mm", "truth_ml", "found_ml"), *rows])
        write_atomically(out / PREDICTIONS, sink.getvalue().encode())
        write_atomically(out / METRICS, to_json(told))
    return told


def _score(model: Segmenter3d, case: SegCase, trial: Trial) -> CaseScores:
    volume, count = read_ct(case.image), len(trial.lists.classes)
    truth = read_labels_beside(case.label, volume, count)
    found = predict_classes(model, volume, trial.view, trial.config.overlap)
    return score_case(case.name, found, truth, volume.grid, count, trial.config.absent)


def _rows_of(side: str, scores: CaseScores, classes: Sequence[str]) -> list[Sequence[object]]:
    """One row per class; undefined numbers are empty."""
    rows: list[Sequence[object]] = []
    for place, name in enumerate(classes):
        numbers = (scores.dice[place], scores.hd95_mm[place], scores.truth_ml[place], scores.found_ml[place])
        rows.append((side, scores.name, name, *("" if np.isnan(n) else f"{n:.5f}" for n in numbers)))
    return rows


def _facts(trial: Trial, seed: int) -> dict[str, str]:
    count = len(trial.lists.train)
    return {"encoder": trial.start.name, "data": f"{count} CTs of {trial.config.list.name}", "seed": str(seed)}


def _conclude(trial: Trial, results: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The printed document, and the first seed's model as the run's."""
    config, lists = trial.config, trial.lists
    told: dict[str, Any] = {
        "task": "segmentation",
        "encoder": trial.start.name,
        "encoder_sha256": trial.start.sha256,
        "fraction": config.share.fraction,
        "classes": list(lists.classes),
        "cases": {"train": len(lists.train), "val": len(lists.val), "test": len(lists.test)},
        "skipped": len(lists.skipped),
        "notes": [*trial.start.notes, *lists.notes],
        "seeds": {str(seed): result for seed, result in results.items()},
        "over_seeds": summarise_seeds(list(results.values())),
        "model": str(config.out / MODEL),
    }
    if PartialState(cpu=config.loop.cpu).is_main_process:
        write_atomically(config.out / METRICS, to_json(told))
        copy_model(config.out / f"seed-{config.seeds[0]}" / MODEL, config.out / MODEL)
    return told
