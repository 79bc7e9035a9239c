"""The published text pipeline replayed from its own random draws; texts, sizes and tolerances come from the JSON."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from core.models.entity_masking import RELEASED_RULE, EntityMasker, Roles, weigh_tokens
from core.models.entity_words import XRAY_ENTITIES, EntityWords
from core.report.insertion import insert_released


class Replay(NamedTuple):
    about: dict[str, Any]
    stored: dict[str, Tensor]
    tokenizer: Tokenizer
    masker: EntityMasker

    def pieces(self, row: int) -> list[str]:
        """Tokens of one row with its padding."""
        ids = self.stored["ids"][row].tolist()
        return [self.tokenizer.id_to_token(index) for index in ids]

    def roles(self, row: int) -> Roles:
        return self.masker.find_roles(self.pieces(row))


@pytest.fixture(scope="module")
def replay(fixtures: Path) -> Replay:
    folder = fixtures / "ecamp"
    about = json.loads((folder / "masking.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / about["files"]["tokenizer"]))
    words = EntityWords(XRAY_ENTITIES, tuple(about["stock_phrases"]))
    masker = EntityMasker(words, RELEASED_RULE, lambda text: tokenizer.encode(text, add_special_tokens=False).tokens)
    return Replay(about, load_file(folder / about["files"]["tensors"]), tokenizer, masker)


def test_texts_and_tokens(replay: Replay):
    """Insertion between sentences, and the token ids with padding and cutting."""
    length = replay.about["text_len"]
    replay.tokenizer.enable_truncation(length)
    replay.tokenizer.enable_padding(length=length)
    for row, told in enumerate(replay.about["rows"]):
        report = replay.about["reports"][told["report"]]
        text = "[CLS] " + insert_released(report["report"], report["llm_output"], told.get("location"))
        assert text == told["text"]
        encoded = replay.tokenizer.encode(text)
        assert encoded.ids == replay.stored["ids"][row].tolist()
        assert encoded.attention_mask == replay.stored["attention_mask"][row].tolist()
        assert [t for t, seen in zip(encoded.tokens, encoded.attention_mask, strict=True) if seen] == told["tokens"]


def test_roles(replay: Replay):
    for row, told in enumerate(replay.about["rows"]):
        roles = replay.roles(row)
        assert roles.entity.nonzero().flatten().tolist() == told["entities"]
        assert roles.descriptor.nonzero().flatten().tolist() == sorted(set(told["descriptors_in_order"]))
        assert torch.equal(roles.descriptor, replay.stored["descriptor"][row])
        assert torch.equal(roles.stock, replay.stored["stock_phrase"][row])
        assert int(roles.stock.sum()) == told["stock_phrase_tokens"]
        assert int((roles.stock & roles.descriptor).sum()) == told["overlap"]


def test_masked_ids(replay: Replay):
    mask_id = replay.about["special_ids"]["[MASK]"]
    for row in range(len(replay.about["rows"])):
        ids, draws = replay.stored["ids"][row], replay.stored["draw_first"][row]
        hidden = replay.masker.choose(replay.roles(row), draws, replay.stored["draw_entity"][row])
        assert torch.equal(torch.where(hidden, mask_id, ids), replay.stored["masked_ids"][row])


def test_weights(replay: Replay):
    for row, told in enumerate(replay.about["rows"]):
        weights = weigh_tokens(replay.roles(row))
        torch.testing.assert_close(weights, replay.stored["weights"][row], atol=1e-6, rtol=1e-6)
        assert weights.sum().item() == pytest.approx(told["weight_sum"], abs=1e-4)
        assert weights.sum().item() == pytest.approx(replay.about["text_len"], abs=1e-4)
