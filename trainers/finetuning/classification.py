"""Fine-tuning to classification: a linear probe on kept features, or everything."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from torch import Tensor, nn

from core.models.checkpoint import load_strictly, write_atomically
from core.models.classifier import Classifier, ClassifierConfig, FeatureClassifier, label_loss
from core.tasks.task_file import save_task
from core.tasks.view import TaskView
from trainers.batches import Studies
from trainers.changes import change_config
from trainers.finetuning.encoders import StartEncoder, open_encoder, require_window, without_training
from trainers.finetuning.feature_cache import FeatureCache, Features
from trainers.finetuning.label_config import ClassificationConfig
from trainers.finetuning.label_data import LabelSets, open_label_sets, write_label_sets
from trainers.finetuning.label_metrics import auroc, choose_thresholds, report_labels
from trainers.finetuning.label_studies import CtStudies, FeatureStudies, ThinCts
from trainers.finetuning.lists import LabelTable
from trainers.finetuning.results import METRICS, PREDICTIONS, copy_model, steps_per_epoch, summarise_seeds, to_json
from trainers.finetuning.volumes import CtFiles
from trainers.loop import train
from trainers.run_files import MODEL, record_run
from trainers.sharding import unsharded
from trainers.splits import patient_of
from trainers.stage import Stage
from trainers.validation import Watch, fork_random

TIE_BREAK = 1e-4
"""Weight of the loss beside 1 - AUROC, which few studies fix to a few values."""
Predict = Callable[[nn.Module], np.ndarray]


class Side(NamedTuple):
    """Studies on one side, as a model reads them."""

    table: LabelTable
    studies: Studies
    predict: Predict  # model -> logits (N, C) float32, in the order of the table


class Trial(NamedTuple):
    """What every seed trains on."""

    config: ClassificationConfig
    start: StartEncoder
    view: TaskView
    sets: LabelSets
    sides: dict[str, Side]
    train_features: np.ndarray | None  # of a probe

    @property
    def model(self) -> ClassifierConfig:
        """The classifier's config."""
        return ClassifierConfig(self.start.config, self.sets.train.classes, self.config.exclusive, self.config.head)


def finetune_classification(config: ClassificationConfig) -> dict[str, Any]:
    """Train once per seed, measure on the test list, write everything to `config.out`; returns the printed document."""
    trial = _prepare(config)
    if PartialState(cpu=config.loop.cpu).is_main_process:
        record_run(config.out, config, trial.model)
        write_label_sets(config.out, trial.sets, config)
    results = {seed: _run_seed(trial, seed) for seed in config.seeds}
    return _conclude(trial, results)


def _prepare(config: ClassificationConfig) -> Trial:
    """Encoder, lists and studies; refuses what cannot work before anything is computed."""
    start = open_encoder(config.encoder)
    start = without_training(start, config.seeds[0]) if config.from_scratch else start
    view = change_config(start.view, config.change_view)
    require_window(view, start.config)
    files = CtFiles(config.volumes)
    sets = open_label_sets(config, files)
    ClassifierConfig(start.config, sets.train.classes, config.exclusive, config.head)
    if config.mode == "probe":
        return _prepare_probe(config, start, view, sets, files)
    return _prepare_full(config, start, view, sets, files)


def _prepare_probe(
    config: ClassificationConfig, start: StartEncoder, view: TaskView, sets: LabelSets, files: CtFiles
) -> Trial:
    device = "cuda" if torch.cuda.is_available() and not config.loop.cpu else "cpu"
    cache = FeatureCache(config.cache, start, view, config.head, device)
    found: dict[str, Features] = {}
    for name, table in _tables(sets).items():
        found[name] = cache.collect(files, table.ids)
    sets = sets.without({name: why for one in found.values() for name, why in one.skipped.items()})
    sides = {}
    for name, table in _tables(sets).items():
        values = found[name].values
        studies = FeatureStudies(values, table, config.exclusive)
        sides[name] = Side(table, studies, partial(_head_logits, features=values))
    return Trial(config, start, view, sets, sides, found["train"].values)


def _prepare_full(
    config: ClassificationConfig, start: StartEncoder, view: TaskView, sets: LabelSets, files: CtFiles
) -> Trial:
    cts = ThinCts(files, view, config.cache)
    ids = [name for table in _tables(sets).values() for name in table.ids]
    sets = sets.without(cts.prepare(ids))
    sides = {}
    for name, table in _tables(sets).items():
        still = CtStudies(cts, table, config.exclusive)
        moving = CtStudies(cts, table, config.exclusive, config.shift, config.share.seed)
        studies = moving if name == "train" else still
        sides[name] = Side(table, studies, partial(_image_logits, studies=still))
    return Trial(config, start, view, sets, sides, None)


def _tables(sets: LabelSets) -> dict[str, LabelTable]:
    tables = {"train": sets.train, "val": sets.val}
    return tables | ({"test": sets.test} if sets.test is not None else {})


def _head_logits(model: nn.Module, features: np.ndarray) -> np.ndarray:
    device = next(model.parameters()).device
    logits: np.ndarray = model.get_submodule("head")(torch.from_numpy(features).to(device)).float().cpu().numpy()
    return logits


def _image_logits(model: nn.Module, studies: CtStudies) -> np.ndarray:
    assert isinstance(model, Classifier)
    device, logits = next(model.parameters()).device, []
    for index in range(len(studies)):
        image = studies[index]["image"]
        assert isinstance(image, Tensor)
        logits.append(model.classify(image[None].to(device)).float().cpu().numpy())
    return np.concatenate(logits)


def _build(trial: Trial) -> nn.Module:
    """The model that is trained, with the encoder's weights where it has them."""
    if trial.train_features is not None:
        probe = FeatureClassifier(trial.model)
        probe.head.fit_features(torch.from_numpy(trial.train_features))
        return probe
    model = Classifier(trial.model)
    load_strictly(model.backbone, trial.start.weights, trial.start.name)
    return model


def _run_seed(trial: Trial, seed: int) -> dict[str, Any]:
    """One training and what it is worth."""
    config, out, side = trial.config, trial.config.out / f"seed-{seed}", trial.sides["train"]
    per_epoch = steps_per_epoch(len(side.studies), config.loop)
    loop = replace(config.loop, seed=seed, validate_every=per_epoch * config.validate_epochs)
    torch.manual_seed(seed)
    reads = "feature" if trial.train_features is not None else "image"
    stage = Stage(requires=(reads, "label_class" if config.exclusive else "label"))
    watch = Watch(measure=lambda accelerator, model: _validate(accelerator, model, trial))
    trained = train(_build(trial), side.studies, loop, out, stage, watch).cpu()
    results = _measure(trained, trial, out)
    if PartialState(cpu=config.loop.cpu).is_main_process:
        save_task(out / MODEL, _whole(trained, trial), trial.view, _facts(trial, seed))
    return results


@torch.no_grad()
def _validate(accelerator: Accelerator, model: nn.Module, trial: Trial) -> dict[str, float]:
    """What decides when to stop: 1 - macro AUROC, equal ones by the loss; the loss where no label has both kinds."""
    side = trial.sides["val"]
    model.eval()
    with fork_random(accelerator), unsharded(model) as plain:
        logits = torch.from_numpy(side.predict(plain))
    model.train()
    loss = float(label_loss(logits, _labels(side.table, trial.config.exclusive)))
    areas = auroc(logits.numpy(), side.table.labels)
    if np.isnan(areas).all():
        return {"loss": loss, "total": loss}
    area = float(np.nanmean(areas))
    return {"loss": loss, "auroc_macro": area, "total": 1 - area + TIE_BREAK * loss}


def _labels(table: LabelTable, exclusive: bool) -> dict[str, Tensor]:
    labels = torch.from_numpy(table.labels)
    return {"label_class": labels.argmax(dim=1)} if exclusive else {"label": labels.float()}


@torch.no_grad()
def _measure(model: nn.Module, trial: Trial, out: Path) -> dict[str, Any]:
    """Numbers on validation and test; thresholds come from validation. Writes predictions.csv and metrics.json."""
    config, told, chances = trial.config, dict[str, Any](), dict[str, np.ndarray]()
    for name in [side for side in ("val", "test") if side in trial.sides]:
        logits = torch.from_numpy(trial.sides[name].predict(model))
        chances[name] = (logits.softmax(dim=-1) if config.exclusive else logits.sigmoid()).double().numpy()
    thresholds = choose_thresholds(chances["val"], trial.sides["val"].table.labels)
    for side, scores in chances.items():
        table = trial.sides[side].table
        patients = [patient_of(study_id, config.share.patient_rule) for study_id in table.ids]
        told[side] = report_labels(scores, table, patients, thresholds, config.interval, config.exclusive)
    if PartialState(cpu=config.loop.cpu).is_main_process:
        write_atomically(out / METRICS, to_json(told))
        write_atomically(out / PREDICTIONS, _predictions(trial, chances))
    return told


def _predictions(trial: Trial, chances: dict[str, np.ndarray]) -> bytes:
    """One row per study: chance and truth of every label."""
    sink, classes = io.StringIO(), trial.sets.train.classes
    rows = csv.writer(sink)
    rows.writerow(["side", "study_id", "patient", *(f"p/{c}" for c in classes), *(f"true/{c}" for c in classes)])
    for name, scores in chances.items():
        table = trial.sides[name].table
        for study_id, score, truth in zip(table.ids, scores, table.labels, strict=True):
            patient = patient_of(study_id, trial.config.share.patient_rule)
            rows.writerow([name, study_id, patient, *(f"{value:.6f}" for value in score), *truth.tolist()])
    return sink.getvalue().encode()


def _whole(trained: nn.Module, trial: Trial) -> Classifier:
    """The classifier with its encoder, also where only the head was trained."""
    if isinstance(trained, Classifier):
        return trained
    model = Classifier(trial.model)
    load_strictly(model.backbone, trial.start.weights, trial.start.name)
    model.head.load_state_dict(trained.get_submodule("head").state_dict())
    return model


def _facts(trial: Trial, seed: int) -> dict[str, str]:
    config = trial.config
    return {
        "encoder": trial.start.name,
        "data": f"{len(trial.sets.train.ids)} studies of {config.train.name}",
        "mode": config.mode,
        "seed": str(seed),
    }


def _conclude(trial: Trial, results: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The printed document, and the first seed's model as the run's."""
    config = trial.config
    told: dict[str, Any] = {
        "task": "classification",
        "encoder": trial.start.name,
        "encoder_sha256": trial.start.sha256,
        "mode": config.mode,
        "fraction": config.share.fraction,
        "classes": list(trial.sets.train.classes),
        "studies": {name: len(side.table.ids) for name, side in trial.sides.items()},
        "skipped": len(trial.sets.skipped),
        "notes": [*trial.start.notes, *trial.sets.notes],
        "seeds": {str(seed): result for seed, result in results.items()},
        "over_seeds": summarise_seeds(list(results.values())),
        "model": str(config.out / MODEL),
    }
    if PartialState(cpu=config.loop.cpu).is_main_process:
        write_atomically(config.out / METRICS, to_json(told))
        copy_model(config.out / f"seed-{config.seeds[0]}" / MODEL, config.out / MODEL)
    return told
