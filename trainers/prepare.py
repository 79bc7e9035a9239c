"""Prepare CTs for training: `python -m trainers.prepare --root data/ct_rate --masks data/masks --out data/store`.

Every CT below --root, however deep, becomes a study of a chunked, compressed store: axes turned to R, A, S, resampled,
int16, with its organs. Run the same command again to continue; a file that cannot be used is listed with its reason in
failures.jsonl of the store and never stops the run. Prints one JSON document. See docs/data.md.
"""

import json
import os
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from core.errors import AsapError
from trainers.outcomes import Outcome, collect, summarise
from trainers.preparation.metadata import read_metadata
from trainers.preparation.organs import read_names
from trainers.preparation.study import StudyOptions, prepare_into
from trainers.preparation.tree import IdRule, Job, find_jobs
from trainers.spread import SpreadConfig, spread
from trainers.store.layout import clear_abandoned, list_studies, make_store


@dataclass(frozen=True)
class PrepareConfig:
    """What is prepared, from where, to where."""

    root: Path
    """Folder of CTs (.nii.gz, .nii, .nrrd, .mha, .mhd), nested to any depth."""
    out: Path
    """The store: a new folder, or one that an earlier run began."""
    masks: Path | None = None
    """Folder of label maps with the CTs' paths or names; every study must then have one, unless --segmenter."""
    metadata: Path | None = None
    """CT-RATE's metadata CSV, for volumes whose headers are blank."""
    ids: IdRule = "name"
    """What a study is called: its file's name, or its path."""
    study: StudyOptions = field(default_factory=StudyOptions)
    """How one file becomes a study."""
    spread: SpreadConfig = field(default_factory=lambda: SpreadConfig(workers=os.cpu_count() or 1))
    """Where the work is done."""
    limit: int | None = None
    """Prepare at most so many studies that are not finished yet."""


def prepare(config: PrepareConfig) -> dict[str, Any]:
    """Prepare everything that is not finished; returns the counts, and the files that could not be used with reasons.

    ConfigError before anything is read; StorageError, e.g. on a full disk, ends the run with the store valid.
    """
    jobs = _find(config)
    make_store(config.out, config.study.store)
    abandoned = clear_abandoned(config.out)
    finished = set(list_studies(config.out))
    due = [job for job in jobs if job.study_id not in finished][: config.limit]
    work = partial(prepare_into, config.out, _with_masks(config))
    began = time.monotonic()
    done = spread(work, due, config.spread)
    outcomes = collect(done, len(due), config.out, lambda job: Outcome(job.study_id, job.name))
    return {
        "store": str(config.out),
        "found": len(jobs),
        "finished_before": len([job for job in jobs if job.study_id in finished]),
        "half_written_removed": abandoned,
        "seconds": round(time.monotonic() - began, 1),
        **summarise(outcomes),
    }


def _find(config: PrepareConfig) -> list[Job]:
    """The studies of the tree; everything that concerns all of them is checked here."""
    read_names(config.study.mask_names)
    rows = read_metadata(config.metadata) if config.metadata is not None else None
    return find_jobs(config.root, config.masks, rows, config.ids)


def _with_masks(config: PrepareConfig) -> StudyOptions:
    """A tree of masks is a promise that every study has one."""
    return replace(config.study, needs_mask=config.study.needs_mask or config.masks is not None)


def main(config: PrepareConfig) -> None:
    """Prepare and print one JSON document, or end with one line on what to mend."""
    try:
        told = prepare(config)
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(tyro.conf.OmitArgPrefixes[PrepareConfig]))
