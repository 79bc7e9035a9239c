"""Which patients train and which validate when only a share of them is used: the same every time, and nested."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import ConfigError
from core.models.checkpoint import write_atomically
from trainers.splits import SPLITS, SplitConfig, patient_of


@dataclass(frozen=True)
class ShareConfig:
    """How the training list is used."""

    fraction: float = 1.0
    """Share of the PATIENTS that are used at all; those of a smaller share are among those of a larger one."""
    val_share: float = 0.2
    """Share of them that validate, where no list for validation is given."""
    patient_rule: str = SplitConfig.patient_rule
    """Pattern at the beginning of an id whose first group is the patient; an id it does not fit is a patient."""
    seed: int = 0
    """Another seed, other patients."""

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1 or not 0 < self.val_share < 1:
            raise ConfigError("fraction must lie in (0, 1], val_share in (0, 1).")
        SplitConfig(patient_rule=self.patient_rule)  # refuses what is no pattern


class Rows(NamedTuple):
    """Row numbers of a list."""

    train: tuple[int, ...]
    val: tuple[int, ...]


def share_rows(ids: Sequence[str], config: ShareConfig, carve: bool) -> Rows:
    """Rows that train, and with `carve` rows that validate instead; a patient is on one side only.

    Patients are ranked by a hash of their name, so that shares are nested and do not depend on the order of the list.
    """
    patients = [patient_of(name, config.patient_rule) for name in ids]
    ranked = sorted(set(patients), key=lambda name: _draw(config.seed, "share", name))
    used = ranked[: max(1, round(config.fraction * len(ranked)))]
    held_out: set[str] = set()
    if carve:
        if len(used) < 2:
            raise ConfigError(
                f"A share of {config.fraction:g} of {len(ranked)} patients is one patient, who cannot train and "
                "validate. Use a larger --share.fraction, or give a list with --val."
            )
        # the first place, not a count, decides: whoever trains in a small share trains in a larger one
        held_out = {name for name in used if _draw(config.seed, "val", name) < config.val_share * 2**64}
        by_draw = sorted(used, key=lambda name: _draw(config.seed, "val", name))
        held_out = held_out or {by_draw[0]}
        held_out = held_out if len(held_out) < len(used) else set(by_draw[:-1])
    kept = set(used) - held_out
    return Rows(
        tuple(row for row, name in enumerate(patients) if name in kept),
        tuple(row for row, name in enumerate(patients) if name in held_out),
    )


def write_shares(out: Path, config: ShareConfig, sides: Mapping[str, Sequence[str]], more: dict[str, Any]) -> None:
    """Keep which studies were on which side, as trainers.splits reads them, with the rule they were chosen by."""
    told: dict[str, Any] = {"patient_rule": config.patient_rule, "seed": config.seed, "fraction": config.fraction}
    told |= {"val_share": config.val_share, **{side: list(ids) for side, ids in sides.items()}, **more}
    write_atomically(out / SPLITS, json.dumps(told, indent=1).encode())


def require_apart(sides: Mapping[str, Sequence[str]], rule: str, allow_val_is_test: bool, remedy: str) -> list[str]:
    """Refuse a patient on two sides; returns what is allowed and must be told nevertheless.

    sides: "train", "val" and "test" -> study ids. Validation on test studies is allowed only when asked for.
    remedy: what else a person can do, as a sentence.
    """
    patients = {side: {patient_of(name, rule) for name in ids} for side, ids in sides.items()}
    notes = []
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        both = sorted(patients.get(first, set()) & patients.get(second, set()))
        if not both:
            continue
        told = f"{len(both)} patients are in {first} and in {second}, such as {both[0]}"
        if (first, second) != ("val", "test"):
            raise ConfigError(f"{told}. A patient may be on one side only: take them out of one list.")
        if not allow_val_is_test:
            raise ConfigError(f"{told}: the best step would be chosen on the test set. {remedy}")
        notes.append(f"{told}; the results are chosen on the test set and too good.")
    return notes


def _draw(seed: int, purpose: str, name: str) -> int:
    """A number in [0, 2^64) that only the seed, the purpose and the name decide."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}:{name}".encode()).digest()[:8], "big")
