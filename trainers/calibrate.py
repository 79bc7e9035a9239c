"""When may an engine say "no support"? `python -m trainers.calibrate --model models/x --patients-dir data/patients`.

Asks the engine for findings that are and are not in synthetic studies of patients that it was not trained on, fits how
its scores become chances, sets two thresholds that keep the error rates asked for, measures them on patients (or on
studies of a single one) left out in turn, and writes all of it into engine.json. Prints one JSON document.
"""

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from core.errors import AsapError, ConfigError
from core.grounding.asap_engine import EngineSpec
from core.grounding.calibration import Calibration
from core.grounding.engine import GroundingEngine
from core.grounding.model_folder import SPEC, hash_weights, open_folder
from core.grounding.presence import explain_calibration
from core.models.checkpoint import config_to_json, write_atomically
from core.synthesis.patients import Patient
from core.synthesis.studies import StudyConfig, make_study
from trainers.patients import read_patients
from trainers.presence_answers import AnswerFile, ask_study
from trainers.presence_fit import (
    Answer,
    FitConfig,
    balanced_weights,
    fit_calibration,
    is_split_by_patient,
    unseen_chances,
)
from trainers.spread import Lost, SpreadConfig, report_progress, spread

TABLE = '| finding | AUROC | there, called "no support" | not there, called "supported" |'
BINS = 10
"""Rows of the table that holds chances against what was true."""


@dataclass(frozen=True)
class CalibrateConfig:
    """Which engine, asked about what."""

    model: Path = Path("assets/models/bundled")
    """Model folder; its engine.json is written."""
    patients_dir: Path = Path("data/patients")
    """Folder of patients that `python -m trainers.patients` wrote."""
    without: tuple[str, ...] = ()
    """Patients that the model was trained on: they are not asked about."""
    count: int = 400
    """Synthetic studies; each patient has as many as any other."""
    seed: int = 5000
    """Of the studies and the questions; another one than in training."""
    study: StudyConfig = field(default_factory=lambda: StudyConfig(findings=(2, 5)))
    """What a synthetic study holds."""
    fit: FitConfig = field(default_factory=FitConfig)
    """What is promised, and what a finding must show to be covered."""
    answers: Path | None = None
    """JSON lines that keep the answers: a run that was stopped goes on, and a fit can be tried again in seconds."""
    workers: int = 1
    """Processes; 0 works in this one."""
    card: Path | None = None
    """Where to write the error rates as a table for a model card (Markdown)."""
    write: bool = True
    """False prints what would be written."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"count is {self.count}; expected at least one study.")


def calibrate(config: CalibrateConfig) -> dict[str, Any]:
    """Ask, fit, write; returns what was found."""
    engine = _opened(config.model)
    answers = collect_answers(config)
    patients = sorted({answer.patient for answer in answers})
    studies = len({answer.study for answer in answers})
    left_out = "patient" if is_split_by_patient(answers) else "study"
    measured_on = (
        f"{studies} synthetic studies of {' and '.join(patients)} (seed {config.seed}), each {left_out} judged by the "
        "others"
    )
    found = fit_calibration(answers, config.fit, measured_on)
    found = replace(found, weights_sha256=hash_weights(config.model)) if found.is_measured else found
    if config.write:
        write_calibration(config.model, engine, found)
    if config.card is not None:
        write_atomically(config.card, write_card(found).encode())
    return {
        "model": str(config.model),
        "written": config.write,
        "concludes": found.is_measured,
        "answers": len(answers),
        "calibration": dataclasses.asdict(found),
        "findings": describe_findings(answers, found, config.fit),
        "chances": reliability(answers, found, config.fit),
    }


def collect_answers(config: CalibrateConfig) -> list[Answer]:
    """The answers of all studies, in the order of their numbers."""
    kept = AnswerFile(config.answers, _about(config))
    wanted = [number for number in range(config.count) if number not in kept.done]
    began = time.monotonic()
    lost = 0
    for done, one in enumerate(spread(partial(ask_numbered, config), wanted, SpreadConfig(workers=config.workers)), 1):
        if isinstance(one.result, Lost):
            sys.stderr.write(f"study {one.item}: {one.result.reason}\n")
            lost += 1
            continue
        kept.add(one.item, one.result)
        if done % 20 == 0:
            report_progress(done, lost, len(wanted), began)
    return sorted((one for one in kept.answers if one.study < config.count), key=lambda one: one.study)


def ask_numbered(config: CalibrateConfig, number: int) -> list[Answer]:
    """The answers about study `number`, which depend on nothing but the settings and that number."""
    torch.set_num_threads(1)
    patients = _patients(config.patients_dir, config.without)
    patient = patients[number % len(patients)]
    rng = np.random.default_rng([config.seed, number])
    study = make_study(patient, config.study, rng, f"calibration-{number}")
    return ask_study(_opened(config.model), study, patient, number, rng)


def write_calibration(model: Path, engine: GroundingEngine, calibration: Calibration) -> None:
    """engine.json of a model folder with this calibration; its view stays."""
    spec = getattr(engine, "spec", None)
    if not isinstance(spec, EngineSpec):
        raise ConfigError(f"{model.name} is no model folder of this program; expected one with model.safetensors.")
    told = json.loads(config_to_json(replace(spec, calibration=calibration)))
    write_atomically(model / SPEC, json.dumps(told, indent=1, sort_keys=True).encode() + b"\n")


def write_card(found: Calibration) -> str:
    """The error rates in Markdown: a sentence on each threshold, then one row a finding."""
    lines = [explain_calibration(found), ""]
    if found.is_measured:
        lines += [TABLE, "| --- | --- | --- | --- |"]
    for family in found.families:
        rates = " | ".join(
            f"{rate.words}, {100 * rate.low:.0f} to {100 * rate.high:.0f}" for rate in (family.missed, family.invented)
        )
        lines.append(f"| {family.finding} | {family.auroc:.2f} | {rates} |")
    return "\n".join(lines) + "\n"


def describe_findings(answers: Sequence[Answer], found: Calibration, config: FitConfig) -> dict[str, Any]:
    """Every finding that was asked for: how often it was there, and why it is not covered where it is not."""
    told: dict[str, Any] = {}
    for name in sorted({one.finding for one in answers}):
        there = [one.is_there for one in answers if one.finding == name]
        family = found.family(name)
        few = min(sum(there), len(there) - sum(there)) < config.least_answers
        why = "" if family else "too few answers" if few else "not told apart well enough, or worse than promised"
        told[name] = {
            "there": sum(there),
            "not_there": len(there) - sum(there),
            "covered": family is not None,
            "why": why,
        }
    return told


def reliability(answers: Sequence[Answer], found: Calibration, config: FitConfig) -> list[dict[str, float]]:
    """Chances of covered findings, on answers they were not fitted on, against how often the finding was there.

    Both truths count the same for each finding, as they do for the chances.
    """
    covered = [one for one in answers if found.family(one.finding)]
    if not covered:
        return []
    chances, truth = unseen_chances(covered, config), np.array([one.is_there for one in covered])
    shares = balanced_weights(covered)
    rows = []
    for number in range(BINS):
        inside = (chances >= number / BINS) & ((chances < (number + 1) / BINS) | (number == BINS - 1))
        if inside.any():
            weights = shares[inside]
            means = [round(float(np.average(values[inside], weights=weights)), 3) for values in (chances, truth)]
            rows.append({"chance": means[0], "there": means[1], "n": int(inside.sum())})
    return rows


def _about(config: CalibrateConfig) -> dict[str, object]:
    """What answers depend on."""
    study = hashlib.sha256(config_to_json(config.study).encode()).hexdigest()[:16]
    names = [patient.name for patient in _patients(config.patients_dir, config.without)]
    return {"weights": hash_weights(config.model), "seed": config.seed, "study": study, "patients": names}


@lru_cache(maxsize=1)
def _opened(model: Path) -> GroundingEngine:
    return open_folder(model, "cpu", ignore_calibration=True)


@lru_cache(maxsize=1)
def _patients(root: Path, without: tuple[str, ...]) -> list[Patient]:
    return read_patients(root, without)


def main(config: CalibrateConfig) -> None:
    """Calibrate and print one JSON document, or end with one line on what to mend."""
    try:
        told = calibrate(config)
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(CalibrateConfig))
