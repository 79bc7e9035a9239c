"""Reports as ECAMP learns them: distilled statements inside, words hidden around entities, tokens weighed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.models.ecamp_config import ReportTask
from core.models.entity_masking import EntityMasker, Roles, weigh_tokens
from core.models.tokens import MASK, Encoding, ReportTokenizer
from core.report.insertion import count_locations, insert_between, insert_released
from core.report.rephrase import swap_side
from core.retrieval.table import ReportRow
from trainers.batch import IGNORE
from trainers.builders.files import COMMANDS, DISTILLED, entry_of, read_distilled, require_studies
from trainers.crops import Crop
from trainers.report_tokens import read_sentences


class EntityReports:
    """A `trainers.sources.FieldSource` over a report table and distilled.csv."""

    fields = ("report_ids", "report_attn", "mlm_in", "mlm_labels", "mlm_weight", "report_entity")

    def __init__(
        self, rows: Mapping[str, ReportRow], tokenizer: ReportTokenizer, task: ReportTask, folder: Path
    ) -> None:
        """folder: where distilled.csv lies; it is read when the task inserts statements."""
        self.rows, self.tokenizer, self.task, self.path = rows, tokenizer, task, folder / DISTILLED
        self.masker = EntityMasker(task.words, task.rule, tokenizer.split)
        self.distilled = read_distilled(self.path) if task.insert_chance > 0 else {}

    def check(self, study_ids: Sequence[str]) -> None:
        """Refuse studies without distilled statements; those whose statements are empty have none to insert."""
        if self.task.insert_chance > 0:
            require_studies(self.distilled, study_ids, self.path, COMMANDS[DISTILLED])

    def make(self, crop: Crop, rng: np.random.Generator) -> dict[str, Tensor]:
        row, statements = self.rows[crop.study_id], entry_of(self.distilled, crop.study_id) or ""
        statements = statements if rng.random() < self.task.insert_chance else ""
        write = self._write_released if self.task.as_released else self._write
        text = write(row, statements, crop.is_mirrored, rng)
        roles = self.masker.find_roles(self.tokenizer.tokens(text.ids.tolist()))
        first, second = (torch.from_numpy(rng.random(len(text.ids))) for _ in range(2))
        return mask_report(text, roles, self.masker.choose(roles, first, second))

    def _write(self, row: ReportRow, statements: str, is_mirrored: bool, rng: np.random.Generator) -> Encoding:
        """Findings and impression with the statements between two of their sentences."""
        sentences = [part for text in (row.findings, row.impression) for part in read_sentences(text, is_mirrored)]
        inserted = read_sentences(statements, is_mirrored)
        place = int(rng.integers(0, len(sentences) + 1))
        return self.tokenizer.encode_sentences(insert_between(sentences, inserted, place), self.task.max_tokens)

    def _write_released(self, row: ReportRow, statements: str, is_mirrored: bool, rng: np.random.Generator) -> Encoding:
        """The published text, padded to its full length."""
        report = " ".join(part for part in (row.findings, row.impression) if part)
        place = int(rng.integers(0, count_locations(report)))
        text = insert_released(report, statements, place if statements else None)
        return self.tokenizer.encode_padded(swap_side(text) if is_mirrored else text, self.task.max_tokens)


def mask_report(text: Encoding, roles: Roles, hidden: Tensor) -> dict[str, Tensor]:
    """The batch fields of one text, whose pieces `hidden` (T,) bool are to be guessed."""
    return {
        "report_ids": text.ids,
        "report_attn": text.attn,
        "mlm_in": torch.where(hidden, MASK, text.ids),
        "mlm_labels": torch.where(hidden & text.attn, text.ids, IGNORE),
        "mlm_weight": weigh_tokens(roles),
        "report_entity": roles.entity,
    }
