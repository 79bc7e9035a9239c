"""Tags and sentence-organ pairs from <region, finding, existence> triplets, as ASG reads them (ASG spec 8.2, 8.3)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError
from core.organ_map import OrganMap
from core.report.regions import organs_named, organs_of_path
from core.report.sentences import split_sentences
from core.report.tags import fold_finding
from core.retrieval.table import ReportRow
from trainers.builders.files import COMMANDS, TRIPLETS, UNCERTAIN, Triplet, entry_of, read_triplets
from trainers.crops import Crop


def keep_deepest(triplets: Sequence[Triplet]) -> list[Triplet]:
    """Without rows that say again of a larger region what another one says of a region inside it.

    Two rows say the same when finding, existence and sentence agree (a number that is not known agrees with all).
    """
    kept = []
    for index, one in enumerate(triplets):
        others = (other for place, other in enumerate(triplets) if place != index)
        is_repeated = any(_says(one) == _says(other) and _holds(one, other) for other in others)
        if not is_repeated and one not in kept:
            kept.append(one)
    return kept


def tag_row(triplets: Sequence[Triplet], tags: Sequence[str]) -> np.ndarray:
    """int8 (K,): 1 where a triplet says a tag is present, else -1 where one denies it, else 0.

    Uncertain statements count as not mentioned. Findings are folded to tags with the region they were seen in.
    """
    number = {tag: index for index, tag in enumerate(tags)}
    row = np.zeros(len(tags), np.int8)
    for triplet in triplets:
        for tag in fold_finding(triplet.finding, _deepest(triplet.region_path)):
            if tag in number and triplet.existence != UNCERTAIN and row[number[tag]] != 1:
                row[number[tag]] = 1 if triplet.existence else -1
    return row


def sentence_organs(sentences: Sequence[str], triplets: Sequence[Triplet], organs: OrganMap) -> np.ndarray:
    """Which organs each sentence is about: bool (S, O), True = named by it or by a triplet of it.

    A sentence may be about several organs, or about none: then it is read with the whole report only.
    """
    about = np.zeros((len(sentences), len(organs)), bool)
    for row, sentence in zip(about, sentences, strict=True):
        row[[organ - 1 for organ in organs_named(sentence, organs)]] = True
    for triplet in triplets:
        if 1 <= triplet.sentence_idx <= len(sentences):
            about[triplet.sentence_idx - 1, [organ - 1 for organ in organs_of_path(triplet.region_path, organs)]] = True
    return about


class TripletFields:
    """A `trainers.sources.FieldSource`: tags and sent_organ of the reports that `ReportTokens` gives as tokens."""

    fields = ("tags", "sent_organ")

    def __init__(self, root: Path, rows: Mapping[str, ReportRow], tags: Sequence[str], organs: OrganMap) -> None:
        self.rows, self.tags, self.organs = rows, tuple(tags), organs
        self.triplets = read_triplets(root / TRIPLETS)
        self._made: dict[str, tuple[Tensor, np.ndarray]] = {}

    def check(self, study_ids: Sequence[str]) -> None:
        """Refuse a table that speaks of other studies; one without findings may lack a row."""
        if not self.triplets:
            raise ConfigError(
                f"{TRIPLETS} has no row: no finding was read from any report it was made of, and ASG learns from them. "
                f"Give reports that name some, or read them with a language model: {COMMANDS[TRIPLETS]} --help."
            )
        if study_ids and all(entry_of(self.triplets, study_id) is None for study_id in study_ids):
            raise ConfigError(
                f"{TRIPLETS} holds none of the {len(study_ids)} studies (first: {study_ids[0]}; in the table: "
                f"{next(iter(self.triplets))}). Make it from the same reports: {COMMANDS[TRIPLETS]}."
            )

    def make(self, crop: Crop, rng: np.random.Generator) -> dict[str, Tensor]:  # noqa: ARG002  (nothing is drawn)
        if crop.study_id not in self._made:
            self._made[crop.study_id] = self._read(crop.study_id)
        tags, about = self._made[crop.study_id]
        if crop.is_mirrored:
            about = mirror_organs(about, self.organs.mirror())
        return {"tags": tags, "sent_organ": torch.from_numpy(about)}

    def _read(self, study_id: str) -> tuple[Tensor, np.ndarray]:
        row, triplets = self.rows[study_id], keep_deepest(entry_of(self.triplets, study_id) or [])
        sentences = [span.text for text in (row.findings, row.impression) for span in split_sentences(text)]
        return torch.from_numpy(tag_row(triplets, self.tags)), sentence_organs(sentences, triplets, self.organs)


def mirror_organs(about: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """bool (S, O) of a study whose left and right changed places; mirror uint8 (256,) as `OrganMap.mirror` gives."""
    swapped = np.zeros_like(about)
    for organ in range(1, about.shape[1] + 1):
        if mirror[organ]:
            swapped[:, mirror[organ] - 1] |= about[:, organ - 1]
    return swapped


def _deepest(path: str) -> str:
    return path.rsplit("/", 1)[-1].strip()


def _says(triplet: Triplet) -> tuple[str, int]:
    return triplet.finding.lower(), triplet.existence


def _holds(outer: Triplet, inner: Triplet) -> bool:
    """Whether the first row's region contains the second's, in the same sentence."""
    same_sentence = not outer.sentence_idx or not inner.sentence_idx or outer.sentence_idx == inner.sentence_idx
    parts, deeper = (tuple(filter(None, one.region_path.split("/"))) for one in (outer, inner))
    return same_sentence and len(parts) < len(deeper) and deeper[: len(parts)] == parts
