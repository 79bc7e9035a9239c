"""From report text to token ids, sentence numbers and masked copies (ASAP spec 1.3)."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from core.errors import CheckpointError, ReportError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Their places are their ids: 0 to 4, as in CXR-BERT's vocabulary."""
PAD, UNK, CLS, SEP, MASK = range(5)
VOCABULARIES = ("tokenizer.json", "cxrbert_wordpiece.json", "vocab.txt")
"""Names under which a vocabulary lies beside weights: of this program, of ASAP's repository, of CXR-BERT's."""
IGNORE = -100
"""Label of a token that the masked-language loss leaves out."""


class Encoding(NamedTuple):
    """One text as tokens."""

    ids: Tensor  # (T,) int64, [CLS] first
    attn: Tensor  # (T,) bool, True = real token
    sentence_map: Tensor  # (T,) int16, 1..S, 0 = no sentence


def clean_released(text: str) -> str:
    """The published cleaning, with "[CLS] " in front."""
    text = "[CLS] " + text
    for old, new in (("?", ""), ("(", "( "), (")", " ) "), ("  ", " "), (":", ","), (";", ",")):
        text = text.replace(old, new)
    return text


class ReportTokenizer:
    """A WordPiece vocabulary with ids 0 to 4 for the special tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        found = [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS]
        if found != list(range(5)):
            raise CheckpointError(
                f"The vocabulary gives {', '.join(SPECIAL_TOKENS)} the ids {found}; expected 0 to 4. "
                "Use CXR-BERT's word-piece file or one that was written by this program."
            )
        self._tokenizer = tokenizer

    @classmethod
    def from_file(cls, path: Path) -> "ReportTokenizer":
        """Read a tokeniser JSON as the `tokenizers` library writes it, or BERT's vocab.txt, one word piece a line."""
        if not path.is_file():
            raise CheckpointError(f"No vocabulary file at {path}; expected a tokenizers JSON such as tokenizer.json.")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{path.name} is not text; expected a vocabulary, such as tokenizer.json.") from error
        return cls(read_vocabulary(text)) if path.suffix == ".txt" else cls.from_json(text)

    @classmethod
    def from_json(cls, text: str) -> "ReportTokenizer":
        """Read what `to_json` wrote."""
        try:
            told = json.loads(text)
        except ValueError as error:
            raise CheckpointError(f"The vocabulary is not JSON ({error}); expected a tokenizers file.") from error
        if not isinstance(told, dict) or not isinstance(told.get("model"), dict):
            raise CheckpointError("The vocabulary file has no model; expected a file of the `tokenizers` library.")
        return cls(Tokenizer.from_str(text))

    def to_json(self) -> str:
        """The whole vocabulary with its rules, to keep beside weights."""
        return self._tokenizer.to_str()

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self._tokenizer.get_vocab_size()

    def continuations(self) -> Tensor:
        """Which entries of the vocabulary go on with the word before them ("##ing"): (vocab_size,) bool."""
        return torch.tensor([token.startswith("##") for token in self.tokens(range(self.vocab_size))])

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Word pieces of ids, for people and tests."""
        return [self._tokenizer.id_to_token(index) or "[UNK]" for index in ids]

    def split(self, text: str) -> list[str]:
        """Word pieces of a text, without special tokens."""
        return self._tokenizer.encode(_spaced(text), add_special_tokens=False).tokens

    def encode_released(self, text: str, length: int) -> Encoding:
        """A whole text exactly as the published loader has it: cleaned, cut and padded to `length`, dots counted."""
        ids = self._tokenizer.encode(clean_released(text), add_special_tokens=False).ids[:length]
        padded = torch.tensor(ids + [PAD] * (length - len(ids)))
        return Encoding(padded, torch.arange(length) < len(ids), self.sentence_map_released(padded[None])[0])

    def encode_padded(self, text: str, length: int) -> Encoding:
        """A whole text as it is, "[CLS] " in front, cut and padded to `length`; no token belongs to a sentence."""
        ids = [CLS, *self._tokenizer.encode(_spaced(text), add_special_tokens=False).ids][:length]
        padded = torch.tensor(ids + [PAD] * (length - len(ids)))
        return Encoding(padded, torch.arange(length) < len(ids), torch.zeros(length, dtype=torch.int16))

    def encode_sentences(self, sentences: Sequence[str], max_tokens: int) -> Encoding:
        """Sentences that were split beforehand: [CLS], then each one's tokens under its number; [CLS] has none.

        No sentence is merged, split or lost for its punctuation, as the published map does (spec 1.3). Tokens beyond
        `max_tokens` are cut; a sentence that is cut to nothing has no token and therefore no vector.
        """
        pieces = self._tokenizer.encode_batch([_spaced(text) for text in sentences], add_special_tokens=False)
        ids, numbers = [CLS], [0]
        for number, piece in enumerate(pieces, start=1):
            ids += piece.ids
            numbers += [number] * len(piece.ids)
        tokens = torch.tensor(ids[:max_tokens])
        return Encoding(tokens, torch.ones(len(tokens), dtype=torch.bool), torch.tensor(numbers[:max_tokens]).short())

    def encode_prompts(self, sentences: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """Each sentence as its own text, "[CLS] sentence": ids (S, T) int64 padded with 0, attn (S, T) bool."""
        if not sentences:
            raise ReportError("There is no sentence to read; expected at least one.")
        texts = [self.encode_sentences([sentence], max_tokens).ids for sentence in sentences]
        ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=PAD)
        return ids, torch.arange(ids.shape[1]) < torch.tensor([[len(text)] for text in texts])

    def encode_closed(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """Each text as "[CLS] text [SEP]", as BERT was trained: ids (N, T) int64 padded with 0, attn (N, T) bool.

        A longer text is cut before its [SEP] to `max_tokens` in all.
        """
        if not texts:
            raise ReportError("There is no text to read; expected at least one.")
        pieces = self._tokenizer.encode_batch([_harmless(text) for text in texts], add_special_tokens=False)
        closed = [torch.tensor([CLS, *piece.ids[: max_tokens - 2], SEP]) for piece in pieces]
        ids = torch.nn.utils.rnn.pad_sequence(closed, batch_first=True, padding_value=PAD)
        return ids, torch.arange(ids.shape[1]) < torch.tensor([[len(text)] for text in closed])

    def sentence_map_released(self, ids: Tensor) -> Tensor:
        """The published map of ids (B, T): a "." with no single-digit token beside it closes a sentence.

        Its defects are kept: "segment 3. Heart" is one sentence, "12.15 mm" is two, text after the last dot has none.
        """
        digits = torch.tensor([self._id_of(digit) for digit in "0123456789"])
        is_digit = torch.isin(ids, digits)
        beside = torch.zeros_like(is_digit)
        beside[:, 1:] |= is_digit[:, :-1]
        beside[:, :-1] |= is_digit[:, 1:]
        closes = (ids == self._id_of(".")) & ~beside
        number = closes.cumsum(dim=1) - closes.long() + 1
        return torch.where(number <= closes.sum(dim=1, keepdim=True), number, 0).short()

    def _id_of(self, token: str) -> int:
        """Id of a token, -1 (no token's id) where the vocabulary lacks it."""
        found = self._tokenizer.token_to_id(token)
        return -1 if found is None else found


def find_vocabulary(folder: Path) -> Path | None:
    """The vocabulary that lies in a folder beside weights, or None."""
    return next((folder / name for name in VOCABULARIES if (folder / name).is_file()), None)


def read_vocabulary(text: str) -> Tokenizer:
    """BERT's uncased word-piece tokeniser from its vocab.txt; the number of a line, from 0, is the piece's id."""
    pieces = text.splitlines()
    tokenizer = Tokenizer(models.WordPiece(vocab={piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token in pieces])
    return tokenizer


def mask_released(ids: Tensor, draws: Tensor, ratio: float) -> Tensor:
    """[MASK] where draws (..., T) < ratio, but for the first and last position and [SEP]; padding is masked too."""
    chosen = (draws < ratio) & (ids != SEP)
    chosen[..., 0] = chosen[..., -1] = False
    return torch.where(chosen, MASK, ids)


def mask_tokens(ids: Tensor, draws: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Mask real words only: ids (..., T), draws (..., T) in [0, 1) -> masked ids, labels with -100 elsewhere."""
    chosen = (draws < ratio) & (ids > MASK)
    return torch.where(chosen, MASK, ids), torch.where(chosen, ids, IGNORE)


def train_wordpiece(texts: Iterable[str], vocab_size: int) -> ReportTokenizer:
    """A vocabulary of our own, with the published normaliser and splitting rules; the same texts give the same one.

    It holds every character of the texts alone and inside a word, then the most frequent words, endings and
    beginnings. (The library's own trainer breaks ties at random, which would make runs differ.)
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.NFKD(), normalizers.StripAccents()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=False)]
    )
    words: Counter[str] = Counter()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    vocabulary = [*SPECIAL_TOKENS, *_pieces(words)][:vocab_size]
    tokenizer.model = models.WordPiece(
        vocab={piece: index for index, piece in enumerate(vocabulary)}, unk_token="[UNK]"
    )
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return ReportTokenizer(tokenizer)


def _pieces(words: Counter[str]) -> list[str]:
    """Characters, then words and parts of words by falling frequency, then alphabetically."""
    letters = sorted({letter for word in words for letter in word} | set("0123456789.,"))
    counts = Counter(words)
    for word, count in words.items():
        for cut in range(2, len(word) - 1):
            counts[word[:cut]] += count // 4  # a part is worth less than a whole word
            counts["##" + word[cut:]] += count // 4
    ranked = sorted((piece for piece, count in counts.items() if count > 0), key=lambda p: (-counts[p], p))
    return list(dict.fromkeys([*letters, *("##" + letter for letter in letters), *ranked]))


def _spaced(text: str) -> str:
    """Text whose brackets cannot spell a special token."""
    return text.replace("[", " ( ").replace("]", " ) ")


def _harmless(text: str) -> str:
    """The text, with brackets taken apart only where they spell a special token."""
    return _spaced(text) if any(token in text for token in SPECIAL_TOKENS) else text
