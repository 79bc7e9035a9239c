"""What reports say of each organ, as fields of the batch; read from the files of the builders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.models.contrast import hash_text
from core.models.tokens import ReportTokenizer
from core.organ_map import OrganMap
from core.report.organ_statement import Statement, assemble_statement
from core.report.rephrase import swap_side
from trainers.builders.files import (
    COMMANDS,
    ORGAN_STATE,
    ORGAN_TEXT,
    OrganStates,
    OrganText,
    OrganTexts,
    entry_of,
    read_organ_state,
    read_organ_text,
    require_organs,
    require_studies,
)
from trainers.crops import Crop

UNKNOWN = -1


class OrganWords(NamedTuple):
    """How texts become tokens."""

    tokenizer: ReportTokenizer
    max_tokens: int  # longest text of an organ, [CLS] and [SEP] included


class OrganTextFields:
    """A `trainers.sources.FieldSource` over organ_text.json and, for whether an organ is abnormal, organ_state.json."""

    fields = ("organ_ids", "organ_attn", "organ_text_id", "organ_abnormal")

    def __init__(self, root: Path, organs: OrganMap, words: OrganWords, with_states: bool = False) -> None:
        """with_states: organs are abnormal as organ_state.json says, not where the impression mentions them."""
        self.root, self.organs, self.words = root, organs, words
        self._texts: OrganTexts = read_organ_text(root / ORGAN_TEXT)
        require_organs(self._texts, organs, root / ORGAN_TEXT, COMMANDS[ORGAN_TEXT])
        self._states: OrganStates | None = None
        if with_states:
            self._states = read_organ_state(root / ORGAN_STATE)
            require_organs(self._states, organs, root / ORGAN_STATE, COMMANDS[ORGAN_STATE])

    def check(self, study_ids: Sequence[str]) -> None:
        """Refuse studies that the files do not hold."""
        require_studies(self._texts, study_ids, self.root / ORGAN_TEXT, COMMANDS[ORGAN_TEXT])
        if self._states is not None:
            require_studies(self._states, study_ids, self.root / ORGAN_STATE, COMMANDS[ORGAN_STATE])

    def make(self, crop: Crop, _rng: np.random.Generator) -> Mapping[str, Tensor]:
        """Texts of the crop's study, with sides changed where it is mirrored."""
        statements = self.statements(crop.study_id, crop.is_mirrored)
        ids, attn = self.words.tokenizer.encode_closed([s.spoken for s in statements], self.words.max_tokens)
        return {
            "organ_ids": ids,
            "organ_attn": attn,
            "organ_text_id": torch.tensor([hash_text(s.full) for s in statements]),
            "organ_abnormal": self._abnormal(crop.study_id, statements),
        }

    def statements(self, study_id: str, is_mirrored: bool = False) -> list[Statement]:
        """What is said of each organ of the map, in its order."""
        told = entry_of(self._texts, study_id) or {}
        texts = [told.get(organ, OrganText("", "")) for organ in self.organs.names]
        if is_mirrored:
            texts = [OrganText(swap_side(text.desc), swap_side(text.conc)) for text in texts]
        named = zip(self.organs.names, texts, strict=True)
        return [assemble_statement(organ, text.desc, text.conc) for organ, text in named]

    def _abnormal(self, study_id: str, statements: Sequence[Statement]) -> Tensor:
        if self._states is None:
            return torch.tensor([s.is_abnormal for s in statements]).to(torch.int8)
        told: Mapping[str, bool] = entry_of(self._states, study_id) or {}
        return torch.tensor([int(told.get(organ, UNKNOWN)) for organ in self.organs.names]).to(torch.int8)
