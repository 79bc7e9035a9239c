"""How often a paraphrase is nearer than a near opposite: `python -m trainers.evaluate_text --model PATH --out FILE`.

PATH is a text encoder (text.safetensors) or a model folder of an engine, whose sentence vectors are then those that
grounding compares with patches. Sentences are generated (with a seed that trained nothing), written by hand in other
words than the generator's (trainers/text_triples.json), and, where a table of reports is given, real: with a denial
and another side made by rules, and a paraphrase by rules. Real reports are evaluated with and never trained on.
"""

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import tyro

from core.errors import AsapError, ConfigError
from core.grounding.model_folder import open_folder
from core.models.bert import BertConfig
from core.models.checkpoint import config_from_json, load_strictly, read_weights, write_atomically
from core.models.text import TextEncoder
from core.models.tokens import ReportTokenizer
from core.report.paraphrase import paraphrase_sentence
from core.report.parse import parse_report
from core.report.rephrase import negate_sentence, swap_side
from core.structures import LOBES
from core.synthesis.claims import KINDS, Claim, mirror_claim, negate_claim, side_of_organs
from core.synthesis.reports import draw_claim
from core.synthesis.sentences import STYLES, write_sentence
from trainers.metrics.intervals import IntervalConfig, bootstrap_many
from trainers.text_encoder import embed

TRIPLES = Path(__file__).with_name("text_triples.json")
"""Sentences written by hand, each with a paraphrase and its near opposites; they train nothing."""
RIVALS = ("denial", "other_side", "other_lobe", "other_size")
"""What must be farther from a sentence than its paraphrase."""
OTHER_SIZE_FACTORS = (0.33, 3.0)
Embedder = Callable[[Sequence[str]], np.ndarray]
"""Sentences -> unit vectors (S, D)."""


class Item(NamedTuple):
    """A sentence with what should be near and what should be far."""

    sentence: str
    paraphrase: str
    rivals: dict[str, str]  # rival of RIVALS -> sentence
    group: str  # items of one group (a report) are drawn together by the bootstrap


@dataclass(frozen=True)
class EvaluateTextConfig:
    """What is measured on what."""

    model: Path
    """text.safetensors, or a model folder."""
    out: Path | None = None
    """JSON to write; without it the figures go to standard output."""
    reports: Path | None = None
    """csv with study_id and report_text."""
    half: Literal["even", "odd", "all"] = "odd"
    """Which reports, sorted by study_id: rules of the parser were developed on the even ones."""
    generated: int = 600
    """Generated sentences."""
    seed: int = 90_001
    """Of generated sentences and of the choice among rules."""
    interval: IntervalConfig = field(default_factory=IntervalConfig)
    """Bootstrap."""


def read_embedder(path: Path) -> Embedder:
    """What makes vectors of sentences; raises CheckpointError or EngineError for anything else."""
    if path.is_dir() and not (path / "text.safetensors").is_file():
        return open_folder(path).embed_sentences
    tensors, metadata = read_weights(path / "text.safetensors" if path.is_dir() else path)
    if not {"config", "tokenizer"} <= set(metadata):
        raise ConfigError(f"{path.name} holds no config or vocabulary; expected a file of trainers.text_encoder.")
    encoder = TextEncoder(config_from_json(BertConfig, metadata["config"])).eval()
    load_strictly(encoder, {name: value.float() for name, value in tensors.items()}, path.name)
    tokenizer = ReportTokenizer.from_json(metadata["tokenizer"])

    def read(sentences: Sequence[str]) -> np.ndarray:
        with torch.inference_mode():
            vectors, _ = embed(encoder, tokenizer, [[sentence] for sentence in sentences])
        return torch.nn.functional.normalize(vectors, dim=-1).numpy()

    return read


def generate_items(count: int, seed: int) -> list[Item]:
    """Claims of the data engine in two styles, and what differs from them in one respect."""
    rng = np.random.default_rng(seed)
    items = []
    for number in range(count):
        claim = draw_claim(str(rng.choice(list(KINDS))), rng, "absent" if rng.random() < 0.2 else "present")
        first, second, third = (STYLES[at] for at in rng.permutation(len(STYLES))[:3])
        same = [write_sentence(claim, style, rng, is_vague=False).text for style in (first, second)]
        rivals = {
            name: write_sentence(rival, third, rng, is_vague=False).text for name, rival in _rivals(claim, rng).items()
        }
        items.append(Item(same[0], same[1], rivals, str(number)))
    return items


def _rivals(claim: Claim, rng: np.random.Generator) -> dict[str, Claim]:
    """The claim with one thing changed, where it has that thing."""
    found = {"denial": negate_claim(claim)}
    if claim.laterality in ("left", "right"):
        found["other_side"] = mirror_claim(claim)
    if len(claim.organs) == 1 and claim.organs[0] in LOBES:
        side = [name for name in LOBES if name.endswith(claim.laterality) and name != claim.organs[0]]
        organs = (side[rng.integers(len(side))],)
        found["other_lobe"] = replace(claim, organs=organs, laterality=side_of_organs(organs), zones=())
    if claim.size_mm is not None:
        factor = OTHER_SIZE_FACTORS[rng.integers(2)]
        second = None if claim.second_mm is None else claim.second_mm * factor
        third = None if claim.third_mm is None else claim.third_mm * factor
        found["other_size"] = replace(claim, size_mm=claim.size_mm * factor, second_mm=second, third_mm=third)
    return found


def read_triples(path: Path = TRIPLES) -> list[Item]:
    """The sentences written by hand."""
    return [
        Item(row["sentence"], row["paraphrase"], {name: row[name] for name in RIVALS if name in row}, str(number))
        for number, row in enumerate(json.loads(path.read_text(encoding="utf-8")))
    ]


def read_report_items(path: Path, half: str, seed: int) -> list[Item]:
    """Sentences of real reports that state a finding, with rivals and paraphrase by rules.

    Sentences that no rule of `core.report.paraphrase` changes are left out.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["study_id"])
    rows = {"even": rows[0::2], "odd": rows[1::2], "all": rows}[half]
    rng, items = np.random.default_rng(seed), []
    for row in rows:
        for sentence in parse_report(row["report_text"]).sentences:
            if sentence.mentions:
                items += _rule_item(sentence.text, row["study_id"], rng)
    return items


def _rule_item(text: str, group: str, rng: np.random.Generator) -> list[Item]:
    paraphrase = paraphrase_sentence(text, rng.random(4).tolist())
    if paraphrase.lower().strip(" .") == text.lower().strip(" ."):
        return []
    rivals = {"denial": negate_sentence(text)}
    if swap_side(text) != text:
        rivals["other_side"] = swap_side(text)
    return [Item(text, paraphrase, rivals, group)]


def rank(items: Sequence[Item], embedder: Embedder) -> dict[str, np.ndarray]:
    """Per rival: how much nearer the paraphrase is, as difference of cosines, NaN where an item has none: (N,)."""
    texts = list(dict.fromkeys(text for i in items for text in (i.sentence, i.paraphrase, *i.rivals.values())))
    vectors = np.concatenate([embedder(texts[at : at + 256]) for at in range(0, len(texts), 256)])
    row = {text: vector for text, vector in zip(texts, vectors, strict=True)}

    def margin(item: Item, name: str) -> float:
        if name not in item.rivals:
            return np.nan
        own = row[item.sentence]
        return float(own @ row[item.paraphrase] - own @ row[item.rivals[name]])

    return {name: np.array([margin(item, name) for item in items]) for name in RIVALS}


def summarise(items: Sequence[Item], margins: Mapping[str, np.ndarray], interval: IntervalConfig) -> dict[str, object]:
    """Per rival: share of sentences whose paraphrase is nearer, with interval, count and mean margin."""

    def shares(rows: np.ndarray) -> dict[str, float]:
        return {name: _share(values[rows]) for name, values in margins.items()}

    ends = bootstrap_many(shares, [item.group for item in items], interval)
    whole = shares(np.arange(len(items)))
    told: dict[str, object] = {}
    for name, values in margins.items():
        asked = values[~np.isnan(values)]
        if len(asked):
            told[name] = {"paraphrase_nearer": round(whole[name], 4), "interval": ends.get(name), "pairs": len(asked),
                          "mean_margin": round(float(asked.mean()), 4)}  # fmt: skip
    return told


def _share(values: np.ndarray) -> float:
    asked = values[~np.isnan(values)]
    return float((asked > 0).mean()) if len(asked) else np.nan


def evaluate(config: EvaluateTextConfig) -> dict[str, object]:
    """All figures."""
    embedder = read_embedder(config.model)
    sources = {"generated": generate_items(config.generated, config.seed), "by hand": read_triples()}
    if config.reports is not None:
        sources[f"reports, {config.half} half"] = read_report_items(config.reports, config.half, config.seed)
    return {name: summarise(items, rank(items, embedder), config.interval) for name, items in sources.items()}


def main(config: EvaluateTextConfig) -> None:
    """Measure and write."""
    try:
        found = evaluate(config)
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    text = json.dumps({"model": config.model.name, "seed": config.seed, "figures": found}, indent=1) + "\n"
    if config.out is None:
        sys.stdout.write(text)
    else:
        write_atomically(config.out, text.encode())


if __name__ == "__main__":
    main(tyro.cli(EvaluateTextConfig))
