import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.errors import CheckpointError, ReportError
from core.models.tokens import (
    CLS,
    IGNORE,
    MASK,
    SEP,
    ReportTokenizer,
    clean_released,
    mask_released,
    mask_tokens,
    train_wordpiece,
)

TEXTS = [
    "Trachea is open. A 12.5 mm nodule, 5.3x4 mm, at segment 3. Heart is normal. No effusion",
    "The mass is 12.15 mm wide.",
]


@pytest.fixture(scope="module")
def tokenizer() -> ReportTokenizer:
    return train_wordpiece(TEXTS, 300)


def sentences_of(tokenizer: ReportTokenizer, text: str) -> list[int]:
    return tokenizer.encode_released(text, 64).sentence_map.tolist()


def test_published_texts_token_by_token(fixtures: Path):
    folder = fixtures / "asap_preprocess"
    about = json.loads((folder / "text.json").read_text())
    expected = load_file(folder / about["files"]["expected"])
    reader = ReportTokenizer.from_file(folder / about["tokenizer"])
    for row, told in enumerate(about["rows"]):
        encoding = reader.encode_released(told["text"], about["text_len"])
        assert clean_released(told["text"]) == told["cleaned"]
        assert reader.tokens(encoding.ids.tolist())[: len(told["tokens"])] == told["tokens"]
        assert torch.equal(encoding.ids, expected["text.ids"][row])
        assert torch.equal(encoding.attn.long(), expected["text.attention_mask"][row])
        assert torch.equal(encoding.sentence_map.long(), expected["text.sentence_map"][row])
    draws = torch.nan_to_num(expected["text.mask_draw"], nan=1.0)
    assert torch.equal(mask_released(expected["text.ids"], draws, 0.75), expected["text.masked_ids"])


def test_released_map_merges_splits_and_loses_sentences(tokenizer):
    """Four sentences, of which the published rule finds two; a decimal with two digits makes one sentence two."""
    assert max(sentences_of(tokenizer, TEXTS[0])) == 2
    assert max(sentences_of(tokenizer, TEXTS[1])) == 2


def test_split_sentences_keep_their_number_whatever_their_punctuation(tokenizer):
    encoding = tokenizer.encode_sentences(["A nodule at segment 3.", "The mass is 12.15 mm wide.", "No effusion"], 64)
    assert encoding.ids[0] == CLS
    assert encoding.sentence_map[0] == 0
    assert sorted(set(encoding.sentence_map.tolist())) == [0, 1, 2, 3]
    assert (encoding.sentence_map.diff() >= 0).all()


def test_cut_text_loses_whole_sentences_only_at_its_end(tokenizer):
    encoding = tokenizer.encode_sentences(["Heart is normal.", "No effusion."], 4)
    assert len(encoding.ids) == 4
    assert set(encoding.sentence_map.tolist()) == {0, 1}


def test_prompts_are_padded_and_read_alone(tokenizer):
    ids, attn = tokenizer.encode_prompts(["Heart is normal.", "No effusion"], 64)
    assert ids[:, 0].tolist() == [CLS, CLS]
    assert torch.equal(attn, ids > 0)
    with pytest.raises(ReportError, match="at least one"):
        tokenizer.encode_prompts([], 64)


def test_text_cannot_smuggle_special_tokens_in(tokenizer):
    assert MASK not in tokenizer.encode_sentences(["Heart [MASK] is normal."], 64).ids.tolist()


def test_masking_published_hides_padding_and_ours_only_words():
    ids = torch.tensor([CLS, 30, SEP, 31, 0, 0])
    always = torch.zeros(6)
    assert mask_released(ids, always, 0.75).tolist() == [CLS, MASK, SEP, MASK, MASK, 0]
    masked, labels = mask_tokens(ids, always, 0.75)
    assert masked.tolist() == [CLS, MASK, SEP, MASK, 0, 0]
    assert labels.tolist() == [IGNORE, 30, IGNORE, 31, IGNORE, IGNORE]


def test_vocabulary_survives_its_file_and_foreign_ones_are_refused(tokenizer, tmp_path):
    again = ReportTokenizer.from_json(tokenizer.to_json())
    assert again.encode_sentences(TEXTS, 99).ids.tolist() == tokenizer.encode_sentences(TEXTS, 99).ids.tolist()
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json().replace("[MASK]", "[GAP]"))
    with pytest.raises(CheckpointError, match="expected 0 to 4"):
        ReportTokenizer.from_file(path)
    with pytest.raises(CheckpointError, match="No vocabulary file"):
        ReportTokenizer.from_file(tmp_path / "none.json")
