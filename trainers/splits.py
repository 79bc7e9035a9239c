"""Which studies train and which validate: by patient, the same every time, and kept in a file."""

import csv
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from core.errors import ConfigError
from core.models.checkpoint import write_atomically

SPLITS = "splits.json"


@dataclass(frozen=True)
class SplitConfig:
    """How studies are divided."""

    val_share: float = 0.05
    """Share of the patients that validate; 0 = all train."""
    patient_rule: str = r"([A-Za-z]+_\d+)_[a-z]"
    """Pattern at the beginning of a study id whose first group is the patient (train_1_a_1 -> train_1); a study it
    does not fit is a patient of its own."""
    seed: int = 0
    """Another seed, other patients."""
    file: Path | None = None
    """Split to use instead: JSON {"train": [...], "val": [...]}, or CSV with columns study_id,split."""

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.patient_rule).groups
        except re.error as error:
            raise ConfigError(f"split.patient_rule is not a regular expression ({error}).") from error
        if groups < 1 or not 0 <= self.val_share < 1:
            raise ConfigError("split.patient_rule needs one group in brackets, val_share must lie in [0, 1).")


class Split(NamedTuple):
    """Study ids in the order of the data folder."""

    train: tuple[str, ...]
    val: tuple[str, ...]


def patient_of(study_id: str, rule: str = SplitConfig.patient_rule) -> str:
    """The patient of a study, read off its id."""
    found = re.match(rule, study_id)
    return found.group(1) if found else study_id


def split_studies(study_ids: Sequence[str], config: SplitConfig) -> Split:
    """Divide studies so that a patient is on one side only; a patient's side does not depend on the studies' order."""
    if config.file is not None:
        return read_split(config.file, study_ids)
    patients = {study_id: patient_of(study_id, config.patient_rule) for study_id in study_ids}
    ranked = sorted(set(patients.values()), key=lambda name: hashlib.sha256(f"{config.seed}:{name}".encode()).digest())
    held_out = frozenset(ranked[: round(config.val_share * len(ranked))])
    train = tuple(study_id for study_id in study_ids if patients[study_id] not in held_out)
    if not train:
        raise ConfigError(f"All {len(study_ids)} studies would validate and none train; lower split.val_share.")
    return Split(train, tuple(study_id for study_id in study_ids if patients[study_id] in held_out))


def write_split(path: Path, split: Split, config: SplitConfig) -> None:
    """Keep a split as JSON, with the rule it was made by."""
    told = {"patient_rule": config.patient_rule, "seed": config.seed, "val_share": config.val_share}
    told |= {"train": list(split.train), "val": list(split.val)}
    write_atomically(path, json.dumps(told, indent=1).encode())


def read_split(path: Path, study_ids: Sequence[str]) -> Split:
    """A split that was kept, or made by hand; refuses studies that are not there, or on both sides."""
    if not path.is_file():
        raise ConfigError(f'No split at {path}; expected JSON {{"train": [...], "val": [...]}} or CSV study_id,split.')
    try:
        sides = _read_csv(path) if path.suffix == ".csv" else json.loads(path.read_text())
        split = Split(tuple(map(str, sides["train"])), tuple(map(str, sides.get("val", ()))))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f'{path} is not a split ({error!r}); expected "train" and "val".') from error
    absent = sorted(set(split.train + split.val) - set(study_ids))
    if absent or set(split.train) & set(split.val) or not split.train:
        found = (
            f"{len(absent)} studies that the data does not have, such as {absent[0]}" if absent else "no clear sides"
        )
        raise ConfigError(f"{path} has {found}. Each study must exist and be in train or in val, and some must train.")
    return split


def _read_csv(path: Path) -> dict[str, list[str]]:
    sides: dict[str, list[str]] = {"train": [], "val": []}
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            sides[row["split"].strip().lower()].append(row["study_id"].strip())
    return sides
