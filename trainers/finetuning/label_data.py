"""The lists of a fine-tuning to classification: read, checked, cut to what can be used."""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import ConfigError
from core.models.checkpoint import write_atomically
from trainers.finetuning.label_config import ClassificationConfig
from trainers.finetuning.lists import (
    LabelTable,
    constant_columns,
    read_classes,
    read_labels,
    require_distinct_columns,
    require_same_classes,
)
from trainers.finetuning.shares import require_apart, share_rows, write_shares
from trainers.finetuning.volumes import CtFiles

SKIPPED = "skipped.csv"
REMEDY = "Leave --val away, then training patients validate; or repeat a published protocol with --allow-val-is-test."


class LabelSets(NamedTuple):
    """Who trains, validates and tests."""

    train: LabelTable
    val: LabelTable
    test: LabelTable | None
    skipped: dict[str, str]  # study id -> why it is left out
    notes: tuple[str, ...]  # what a reader of the results must know

    def without(self, unreadable: dict[str, str]) -> "LabelSets":
        """The sets without studies that turned out to be unusable; refuses an empty one."""
        return self._replace(
            train=_keep(self.train, unreadable, "train"),
            val=_keep(self.val, unreadable, "validate"),
            test=None if self.test is None else _keep(self.test, unreadable, "test"),
            skipped=self.skipped | unreadable,
        )


def open_label_sets(config: ClassificationConfig, files: CtFiles) -> LabelSets:
    """Read and check the lists. Studies without a CT are left out and told; nothing else is."""
    whole = _read(config, config.train)
    if not config.allow_equal_columns and not config.exclusive:
        require_distinct_columns(whole, config.train)
    rows = share_rows(whole.ids, config.share, carve=config.val is None)
    train = whole.take(rows.train)
    val = whole.take(rows.val) if config.val is None else _read(config, config.val, whole)
    test = None if config.test is None else _read(config, config.test, whole)
    sides = {"train": train.ids, "val": val.ids, "test": test.ids if test else ()}
    notes = require_apart(sides, config.share.patient_rule, config.allow_val_is_test, REMEDY)
    found = LabelSets(train, val, test, {}, tuple(notes))
    missing = {name: reason for ids in sides.values() for name, reason in files.split(ids)[1].items()}
    return _drop_constant(found.without(missing), config)


def write_label_sets(out: Path, sets: LabelSets, config: ClassificationConfig) -> None:
    """Keep who was on which side, and who was left out and why."""
    sides: dict[str, Sequence[str]] = {"train": sets.train.ids, "val": sets.val.ids}
    sides |= {"test": sets.test.ids if sets.test else ()}
    write_shares(out, config.share, sides, {"classes": list(sets.train.classes)})
    write_skipped(out, sets.skipped)


def write_skipped(out: Path, skipped: dict[str, str]) -> None:
    """The studies that were left out, with the reason; told in one line too."""
    sink = io.StringIO()
    csv.writer(sink).writerows([("study_id", "reason"), *sorted(skipped.items())])
    write_atomically(out / SKIPPED, sink.getvalue().encode())
    if skipped:
        first = next(iter(skipped.items()))
        sys.stderr.write(f"{len(skipped)} studies are left out, see {SKIPPED}. The first: {first[0]}: {first[1]}\n")


def _read(config: ClassificationConfig, path: Path, like: LabelTable | None = None) -> LabelTable:
    """A list; with `like` one whose labels are those of another, in its order."""
    if config.exclusive:
        return read_classes(path, next(iter(config.columns), ""), like.classes if like else ())
    table = read_labels(path, config.columns)
    if like is None:
        return table
    require_same_classes(like, table, path)
    return table.choose(like.classes)


def _keep(table: LabelTable, unreadable: dict[str, str], verb: str) -> LabelTable:
    rows = [row for row, name in enumerate(table.ids) if name not in unreadable]
    if not rows:
        first = next(((name, reason) for name, reason in unreadable.items() if name in table.ids), ("none", "empty"))
        raise ConfigError(
            f"None of the {len(table.ids)} studies that should {verb} has a usable CT. The first: {first[0]}: "
            f"{first[1]}. Check --volumes."
        )
    return table.take(rows)


def _drop_constant(sets: LabelSets, config: ClassificationConfig) -> LabelSets:
    """Leave labels out that all studies of the training side have, or none: nothing can be learned from them."""
    constant = constant_columns(sets.train)
    if config.exclusive or not constant:
        told = [f"Classes that all studies that train have, or none: {', '.join(constant)}."] if constant else []
        return sets._replace(notes=(*sets.notes, *told))
    kept = [name for name in sets.train.classes if name not in constant]
    if not kept:
        raise ConfigError(
            f"Every label is the same in all {len(sets.train.ids)} studies that train ({', '.join(constant)}): nothing "
            "can be learned. Use a larger --share.fraction, another --share.seed, or mend the list."
        )
    note = f"Labels that do not vary among the studies that train were left out: {', '.join(constant)}."
    sys.stderr.write(f"{note}\n")
    return LabelSets(
        sets.train.choose(kept),
        sets.val.choose(kept),
        sets.test.choose(kept) if sets.test else None,
        sets.skipped,
        (*sets.notes, note),
    )
