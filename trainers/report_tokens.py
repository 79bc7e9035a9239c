"""Reports as tokens: findings, the whole report and its masked copy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError, ReportError
from core.models.tokens import Encoding, ReportTokenizer, mask_released, mask_tokens
from core.report.rephrase import swap_side
from core.report.sentences import split_sentences
from core.retrieval.table import ReportRow, ReportTable, read_table
from trainers.crops import Crop

REPORTS = "reports.csv"


@dataclass(frozen=True)
class ReportConfig:
    """How reports become tokens."""

    max_tokens: int = 512
    """Longest text in tokens."""
    text_mask_ratio: float = 0.75
    """Share of report tokens to be guessed."""
    as_released: bool = False
    """Split, pad and mask texts as ASAP's published code does, defects included."""

    def __post_init__(self) -> None:
        if not 0 <= self.text_mask_ratio <= 1 or self.max_tokens < 4:
            raise ConfigError("text_mask_ratio must lie in [0, 1], max_tokens above 3.")


class Texts(NamedTuple):
    """Findings and whole report of one study as tokens."""

    findings: Encoding
    report: Encoding


class ReportTokens:
    """A `trainers.sources.FieldSource` over the rows of a report table."""

    fields = (
        "findings_ids",
        "findings_attn",
        "findings_sent",
        "report_ids",
        "report_attn",
        "report_sent",
        "mlm_in",
        "mlm_labels",
    )

    def __init__(self, rows: Mapping[str, ReportRow], tokenizer: ReportTokenizer, config: ReportConfig) -> None:
        self.rows, self.tokenizer, self.config = rows, tokenizer, config

    def check(self, study_ids: Sequence[str]) -> None:
        """Refuse studies without a report."""
        absent = [study_id for study_id in study_ids if study_id not in self.rows]
        if absent:
            raise ConfigError(
                f"{len(absent)} studies have no row in {REPORTS} (first: {absent[0]}); add their reports."
            )

    def make(self, crop: Crop, rng: np.random.Generator) -> dict[str, Tensor]:
        texts = self._texts(self.rows[crop.study_id], crop.is_mirrored)
        ids, draws = texts.report.ids, torch.from_numpy(rng.random(len(texts.report.ids)))
        masked, labels = mask_tokens(ids, draws, self.config.text_mask_ratio)
        if self.config.as_released:
            masked = mask_released(ids, draws, self.config.text_mask_ratio)
        return {
            "findings_ids": texts.findings.ids,
            "findings_attn": texts.findings.attn,
            "findings_sent": texts.findings.sentence_map,
            "report_ids": ids,
            "report_attn": texts.report.attn,
            "report_sent": texts.report.sentence_map,
            "mlm_in": masked,
            "mlm_labels": labels,
        }

    def _texts(self, row: ReportRow, is_mirrored: bool) -> Texts:
        longest = self.config.max_tokens
        if self.config.as_released:
            whole = row.findings + row.impression
            whole = row.findings if whole.endswith(("Not given.", "Not given")) else whole
            read = self.tokenizer.encode_released
            return Texts(read(row.findings, longest), read(whole, longest))
        findings, impression = (read_sentences(text, is_mirrored) for text in (row.findings, row.impression))
        read_split = self.tokenizer.encode_sentences
        return Texts(read_split(findings, longest), read_split(findings + impression, longest))


def read_reports(root: Path) -> list[ReportRow]:
    """Usable rows of the folder's report table; refuses a folder without one or without a usable row."""
    return list(read_report_table(root).rows)


def read_report_table(root: Path) -> ReportTable:
    """The folder's report table with the rows that cannot be used; refuses as `read_reports`."""
    if not (root / REPORTS).is_file():
        raise ConfigError(f"No {REPORTS} in {root}; expected columns study_id,findings[,impression].")
    table = read_table(root / REPORTS)
    if not table.rows:
        raise ReportError(f"{root / REPORTS} has no row with a study_id and findings.")
    return table


def read_sentences(text: str, is_mirrored: bool) -> list[str]:
    """Sentences of a text; of a mirrored study with left and right swapped."""
    spans = split_sentences(text)
    return [swap_side(span.text) if is_mirrored else span.text for span in spans]
