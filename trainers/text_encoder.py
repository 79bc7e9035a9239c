"""Train the small text encoder on sentences whose meaning is known: `python -m trainers.text_encoder --out DIR`.

Two cores, about ten minutes. Writes text.safetensors, whose metadata hold the config and the vocabulary, and
text_metrics.json. Sentences of one claim are drawn together, denials and other sides apart, and linear heads (not
kept) must read finding, existence, organs, side and size from the mean of a sentence's tokens.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F

from core.models.bert import BertConfig
from core.models.checkpoint import config_to_json, save_weights
from core.models.selection import pool_sentences
from core.models.text import TextEncoder
from core.models.tokens import MASK, UNK, ReportTokenizer, train_wordpiece
from core.synthesis.claims import KINDS, Claim, mirror_claim, negate_claim
from core.synthesis.reports import NORMALITY, draw_claim, generate_reports, write_normality
from core.synthesis.sentences import STYLES, Statement, write_sentence
from trainers.optim import OptimConfig, build_adamw, lr_scale

TARGETS = (*KINDS, *(f"normal {name}" for name in NORMALITY))
"""What a sentence can be about."""
EXISTENCES = ("present", "absent", "uncertain")
SIDES = ("", "left", "right", "bilateral")
ORGANS = tuple(sorted({organ for kind in KINDS.values() for organ in kind.organs} | set(NORMALITY)))
SIZE_EDGES_MM = (0.5, 10.0, 20.0, 30.0)
"""Size classes: none stated, up to 10, up to 20, up to 30, larger."""
GENERAL_WORDS = (
    "chest thorax thoracic scan study examination comparison technique contrast intravenous without with axial coronal "
    "sagittal slice series patient supine inspiration motion artifact limited quality prior previous current interval "
    "change unchanged stable increased decreased larger smaller new resolved progression regression follow up "
    "recommended clinical correlation biopsy months suggests suggestive consistent compatible likely probably unlikely "
    "differential infection infectious inflammatory neoplasm malignancy malignant benign metastasis metastatic tumour "
    "tumor cancer carcinoma tuberculosis pneumonia edema oedema congestion hemorrhage infarct embolism embolus "
    "thrombus thrombosis aneurysm dilatation dissection stenosis plaque valve ventricle atrium septum pericardium "
    "pleura pleural fissure lingula segment segmental subsegmental apical apex basal base basilar hilum hilar "
    "peripheral central subpleural perihilar paratracheal subcarinal axillary supraclavicular prevascular diffuse "
    "focal patchy multifocal scattered several multiple few single numerous bilateral unilateral anterior posterior "
    "medial lateral superior inferior upper middle lower left right side both dependent vertebra vertebral body "
    "compression fracture sclerotic lytic lesion degenerative osteophyte kyphosis scoliosis sternum clavicle scapula "
    "humerus rib muscle fat skin breast thyroid goitre goiter esophagus oesophagus stomach spleen liver hepatic "
    "steatosis gallbladder stone kidney renal cyst adrenal pancreas bowel lymph node lymphadenopathy tube catheter "
    "stent clip wire pacemaker port line device prosthesis surgical postoperative sequela scar fibrosis fibrotic "
    "honeycombing reticular reticulation crazy paving tree bud halo cavity cavitation necrotic calcified noncalcified "
    "air bronchogram trapping bulla bullae bleb cystic bronchus bronchi bronchial bronchiole trachea tracheal mucus "
    "plug secretion thickened thickening wall enlarged enlargement normal unremarkable clear intact patent preserved "
    "size diameter thickness measuring measures approximately about up to cm mm centimetres millimetres"
).split()
"""Words of reports that the generator does not use, so that the vocabulary can spell them in few pieces."""


@dataclass(frozen=True)
class TextTrainConfig:
    """One run of the text encoder."""

    out: Path
    """Folder to write."""
    vocab_size: int = 3000
    """Entries of the word-piece vocabulary."""
    width: int = 128
    """Features per token."""
    depth: int = 3
    """Layers."""
    heads: int = 4
    """Attention heads."""
    claims: int = 10
    """Claims per step; each gives two wordings, a denial or assertion of it, and its other side."""
    temperature: float = 0.1
    """Of the contrast between sentences."""
    drop_words: float = 0.06
    """Share of tokens replaced by [MASK] or [UNK], so that no single word decides."""
    seed: int = 0
    """Of weights and sentences."""
    threads: int = 2
    """CPU threads."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(steps=2000, warmup_steps=100, peak_lr=2e-3, weight_decay=0.01)
    )
    """Optimiser and schedule."""


class Reading(nn.Module):
    """Linear heads that read a sentence vector (S, D); thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.target = nn.Linear(width, len(TARGETS))
        self.existence = nn.Linear(width, len(EXISTENCES))
        self.side = nn.Linear(width, len(SIDES))
        self.organs = nn.Linear(width, len(ORGANS))
        self.size = nn.Linear(width, len(SIZE_EDGES_MM) + 1)

    def loss(self, vectors: Tensor, truth: dict[str, Tensor]) -> Tensor:
        """Sum of the five cross-entropies."""
        single = ("target", "existence", "side", "size")
        losses = [F.cross_entropy(getattr(self, name)(vectors), truth[name]) for name in single]
        return sum(losses, 4.0 * F.binary_cross_entropy_with_logits(self.organs(vectors), truth["organs"]))


def truth_of(statements: Sequence[Statement]) -> dict[str, Tensor]:
    """Class numbers of statements; organs as (S, O) float."""
    organs = torch.tensor([[float(name in s.organs) for name in ORGANS] for s in statements])
    sizes = [0.0 if s.size_mm is None else s.size_mm for s in statements]
    return {
        "target": torch.tensor([TARGETS.index(_target_name(s)) for s in statements]),
        "existence": torch.tensor([EXISTENCES.index(s.existence) for s in statements]),
        "side": torch.tensor([SIDES.index(s.laterality) for s in statements]),
        "organs": organs,
        "size": torch.bucketize(torch.tensor(sizes), torch.tensor(SIZE_EDGES_MM)),
    }


def _target_name(statement: Statement) -> str:
    return f"normal {statement.organs[0]}" if statement.kind == "normal" else statement.kind


def draw_statements(claims: int, rng: np.random.Generator) -> list[Statement]:
    """Wordings of random claims: two of each, one of its opposite, one of its mirror image; and normal organs."""
    statements: list[Statement] = []
    kinds = rng.choice(list(KINDS), claims)
    for kind in kinds.tolist():
        existence = str(rng.choice(EXISTENCES, p=[0.6, 0.25, 0.15]))
        claim = draw_claim(kind, rng, existence)
        family = [claim, claim, negate_claim(claim)]
        if claim.laterality in ("left", "right"):
            family.append(mirror_claim(claim))
        statements += [write_sentence(member, STYLES[rng.integers(len(STYLES))], rng) for member in family]
    organs = rng.choice(list(NORMALITY), max(2, claims // 3)).tolist()
    return statements + [write_normality(organ, rng) for organ in organs for _ in range(2)]


def pack(statements: Sequence[Statement], rng: np.random.Generator) -> list[list[int]]:
    """Split statements into texts of one to six sentences: the encoder must serve reports and single sentences."""
    order, texts = rng.permutation(len(statements)).tolist(), []
    while order:
        count = 1 if rng.random() < 0.5 else int(rng.integers(2, 7))
        texts.append(order[:count])
        order = order[count:]
    return texts


def embed(
    encoder: TextEncoder, tokenizer: ReportTokenizer, texts: Sequence[Sequence[str]], drop: Tensor | None
) -> Tensor:
    """Mean token vector of every sentence of every text, in order: (S, D). drop (draws in [0, 1]) hides words."""
    encodings = [tokenizer.encode_sentences(text, encoder.config.positions) for text in texts]
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([e.ids for e in encodings], batch_first=True)
    attn = pad([e.attn for e in encodings], batch_first=True)
    numbers = pad([e.sentence_map for e in encodings], batch_first=True).long()
    if drop is not None:
        hidden = (drop[: ids.shape[0], : ids.shape[1]] < 1) & (ids > MASK)
        ids = torch.where(hidden & (drop[: ids.shape[0], : ids.shape[1]] < 0.5), MASK, torch.where(hidden, UNK, ids))
    pooled, valid = pool_sentences(encoder(ids, attn), numbers, int(numbers.max()))
    return pooled[valid]


def claim_contrast(vectors: Tensor, same: Tensor, temperature: float) -> Tensor:
    """Supervised contrast: vectors (S, D), same (S, S) bool, True = the same claim; each sentence finds its twins."""
    unit = F.normalize(vectors, dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool)
    logits = (unit @ unit.T / temperature).masked_fill(itself, -1e4)
    twins = same & ~itself
    counts = twins.sum(dim=1)
    per_sentence = -(logits.log_softmax(dim=1) * twins).sum(dim=1) / counts.clamp(min=1)
    return per_sentence[counts > 0].mean()


def _key(statement: Statement) -> tuple[object, ...]:
    return (_target_name(statement), statement.existence, statement.organs, statement.laterality)


def same_claims(statements: Sequence[Statement]) -> Tensor:
    """(S, S) bool, True = both say the same, measurements aside."""
    numbers: dict[tuple[object, ...], int] = {}
    keys = torch.tensor([numbers.setdefault(_key(statement), len(numbers)) for statement in statements])
    return keys[:, None] == keys[None, :]


def build_tokenizer(vocab_size: int, seed: int) -> ReportTokenizer:
    """A vocabulary from generated reports and `GENERAL_WORDS`."""
    reports = generate_reports(3000, seed + 1)
    texts = [report.findings for report in reports] + [report.impression for report in reports]
    return train_wordpiece([*texts, *(" ".join(GENERAL_WORDS) for _ in range(40))], vocab_size)


def train_text_encoder(config: TextTrainConfig) -> tuple[TextEncoder, ReportTokenizer]:
    """Train and return the encoder, frozen, with its vocabulary; progress goes to stderr."""
    torch.manual_seed(config.seed)
    tokenizer = build_tokenizer(config.vocab_size, config.seed)
    sizes = BertConfig(tokenizer.vocab_size, config.width, config.depth, config.heads, 3 * config.width, 256, 0.1, 0.1)
    encoder, reading = TextEncoder(sizes), Reading(config.width)
    optimizer = build_adamw(nn.ModuleList([encoder, reading]), config.optim)
    rng, began = np.random.default_rng(config.seed), time.monotonic()
    for step in range(config.optim.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.optim.peak_lr * lr_scale(step, config.optim.warmup_steps, config.optim.steps)
        loss = _step_loss(encoder, reading, tokenizer, config, rng)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), config.optim.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0:
            sys.stderr.write(f"step {step}  loss {loss.item():.3f}  {time.monotonic() - began:.0f} s\n")
    return encoder.eval().freeze(), tokenizer


def _step_loss(
    encoder: TextEncoder,
    reading: Reading,
    tokenizer: ReportTokenizer,
    config: TextTrainConfig,
    rng: np.random.Generator,
) -> Tensor:
    statements = draw_statements(config.claims, rng)
    texts = pack(statements, rng)
    ordered = [statements[place] for text in texts for place in text]
    drop = torch.rand(len(texts), encoder.config.positions) / max(config.drop_words, 1e-6)  # below 1: hidden
    vectors = embed(encoder, tokenizer, [[statements[place].text for place in text] for text in texts], drop)
    if len(vectors) != len(ordered):  # a text was longer than the positions and lost a sentence
        return (vectors * 0).sum()
    contrast = claim_contrast(vectors, same_claims(ordered), config.temperature)
    return reading.loss(vectors, truth_of(ordered)) + contrast


def measure(encoder: TextEncoder, tokenizer: ReportTokenizer, seed: int, claims: int = 400) -> dict[str, float]:
    """How often a sentence is nearer to its paraphrase than to its denial, and than to its other side."""
    rng = np.random.default_rng(seed)
    nearer: dict[str, list[bool]] = {"denial": [], "other side": []}
    for _ in range(claims):
        claim = draw_claim(str(rng.choice(list(KINDS))), rng)
        rivals: dict[str, Claim] = {"denial": negate_claim(claim)}
        if claim.laterality in ("left", "right"):
            rivals["other side"] = mirror_claim(claim)
        styles = [STYLES[place] for place in rng.permutation(len(STYLES))]
        texts = [
            [write_sentence(c, s, rng).text] for c, s in zip([claim, claim, *rivals.values()], styles * 2, strict=False)
        ]
        with torch.inference_mode():
            unit = F.normalize(embed(encoder, tokenizer, texts, None), dim=-1)
        cosine = unit[0] @ unit[1:].T
        for name, value in zip(rivals, cosine[1:].tolist(), strict=True):
            nearer[name].append(float(cosine[0]) > value)
    return {f"paraphrase nearer than {name}": float(np.mean(wins)) for name, wins in nearer.items()}


def main(config: TextTrainConfig) -> None:
    """Train, measure, write."""
    torch.set_num_threads(config.threads)
    encoder, tokenizer = train_text_encoder(config)
    metrics = measure(encoder, tokenizer, config.seed + 10_000)
    metadata = {"config": config_to_json(encoder.config), "tokenizer": tokenizer.to_json()}
    save_weights(config.out / "text.safetensors", encoder, metadata)
    record = {"metrics": metrics, "config": json.loads(json.dumps(asdict(config), default=str))}
    (config.out / "text_metrics.json").write_text(json.dumps(record, indent=1) + "\n")
    sys.stdout.write(json.dumps(metrics) + "\n")


if __name__ == "__main__":
    main(tyro.cli(TextTrainConfig))
