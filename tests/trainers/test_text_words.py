from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from core.errors import ConfigError
from core.synthesis.statement import Statement
from trainers.text_free import FreeClaim, draw_free_family
from trainers.text_likeness import liken
from trainers.text_words import Lexicon, read_lexicon

LICENCE = "  1 A line of the licence.\n"
NOUNS = (
    "00001740 03 n 02 windpipe 0 trachea 0 001 @ 00001930 n 0000 | a tube\n"
    "00001930 03 n 03 pipe 0 tube 0 organ_pipe 0 000 | hollow\n"
    "00002000 03 n 01 alone 0 000 | nothing like it\n"
)
ADJECTIVES = (
    "00003000 00 a 02 wide 0 broad 0 001 ! 00004000 a 0101 | of great width\n"
    "00004000 00 a 01 narrow(p) 0 001 ! 00003000 a 0101 | of small width\n"
)


class WordTeacher:
    """Knows every word whole; vectors say that pipe and tube are alike, and pipe and organ pipe are not."""

    def __init__(self) -> None:
        words = "[UNK] windpipe trachea pipe tube organ wide broad narrow alone".split()
        self.tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
        self.tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        self.tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def embed(self, texts):
        return torch.tensor([[0.0, 1.0] if "organ" in text else [1.0, 0.0] for text in texts])


@pytest.fixture
def wordnet(tmp_path) -> Path:
    (tmp_path / "data.noun").write_text(LICENCE + NOUNS)
    (tmp_path / "data.adj").write_text(LICENCE + ADJECTIVES)
    (tmp_path / "data.verb").write_text(LICENCE)
    return tmp_path


def test_synonyms_that_the_source_finds_alike_and_opposites(wordnet):
    lexicon = read_lexicon(wordnet, WordTeacher())
    assert lexicon.synonyms["noun"] == {
        "windpipe": ("trachea",), "trachea": ("windpipe",), "pipe": ("tube",), "tube": ("pipe",),
    }  # fmt: skip
    assert lexicon.words("adj") == ("broad", "wide")
    assert lexicon.opposites == (("wide", "narrow"), ("narrow", "wide"))


def test_a_folder_without_wordnet_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.noun"):
        read_lexicon(tmp_path, WordTeacher())


@pytest.fixture
def families() -> list[list[Statement]]:
    synonyms = {
        "noun": {"pipe": ("tube",), "tube": ("pipe",)},
        "adj": {"wide": ("broad",), "broad": ("wide",)},
        "verb": {"carry": ("bear",)},
    }
    lexicon = Lexicon(synonyms, (("wide", "narrow"), ("narrow", "wide")))
    rng = np.random.default_rng(0)
    return [draw_free_family(lexicon, ["zebra"], rng) for _ in range(150)]


def test_free_families_hold_what_is_the_same_and_what_is_not(families):
    like = [liken(family)[0, 1:] for family in families]
    assert all(one[0] > 0.9 for one in like)  # a size may be left out
    assert all(one.min() < 0.75 for one in like)
    assert len({family[0].kind for family in families}) == len(families)


def test_sides_sizes_and_slots_of_free_sentences_are_in_their_words(families):
    for told in (told for family in families for told in family):
        text = told.text.lower()
        assert "{" not in text
        assert text.endswith((".", "?"))
        if told.laterality in ("left", "right") and "middle lobe" not in text and "lingula" not in text:
            letter = "l" if told.laterality == "left" else "r"
            assert told.laterality in text or f"{letter}ul" in text or f"{letter}ll" in text or "rml" in text, told
            other = {"left": "right", "right": "left"}[told.laterality]
            assert other not in text.split(), told
        if told.size_mm is not None:
            assert " mm" in text or " cm" in text


def test_the_opposite_of_a_property_is_its_denial(families):
    rivals = [told for family in families for told in family[1:] if told.existence != family[0].existence]
    assert any("narrow" in told.text.lower() or "wide" in told.text.lower() for told in rivals)
    assert FreeClaim("thing", "present", "pipe", "wide", "upper", "left", None, "carry").existence == "present"
