import csv
import json

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from core.models.bert import BertConfig
from core.models.checkpoint import config_to_json, save_weights
from core.models.text import TextEncoder
from core.models.tokens import train_wordpiece
from core.report.mentions import read_sentence
from trainers.evaluate_text import (
    RIVALS,
    EvaluateTextConfig,
    Item,
    evaluate,
    generate_items,
    rank,
    read_embedder,
    read_report_items,
    read_triples,
    summarise,
)
from trainers.metrics.intervals import IntervalConfig

QUICK = IntervalConfig(draws=50)
VECTORS = {"a": (1.0, 0.0), "same": (0.8, 0.6), "far": (0.0, 1.0), "near": (1.0, 0.0)}


def embed_by_table(sentences):
    return np.array([VECTORS[sentence] for sentence in sentences], np.float32)


def test_a_paraphrase_that_is_nearer_counts_and_one_that_is_not_does_not():
    items = [
        Item("a", "same", {"denial": "far", "other_side": "near"}, "1"),
        Item("a", "same", {"denial": "near"}, "2"),
    ]
    margins = rank(items, embed_by_table)
    assert margins["denial"] == pytest.approx([0.8, -0.2])
    assert margins["other_side"][0] == pytest.approx(-0.2)
    assert np.isnan(margins["other_side"][1])
    told = summarise(items, margins, QUICK)
    assert told["denial"]["paraphrase_nearer"] == 0.5
    assert told["denial"]["pairs"] == 2
    assert told["other_side"]["pairs"] == 1
    assert set(told) == {"denial", "other_side"}


def test_generated_rivals_differ_in_what_they_are_named_after():
    items = generate_items(120, 4)
    assert items == generate_items(120, 4)
    assert {name for item in items for name in item.rivals} == set(RIVALS)
    for item in items:
        own = {m.existence for m in read_sentence(item.sentence).mentions}
        assert {m.existence for m in read_sentence(item.paraphrase).mentions} == own
        assert {m.existence for m in read_sentence(item.rivals["denial"]).mentions} != own
        if "other_side" in item.rivals:
            assert (
                "left" in item.sentence.lower()
                or "right" in item.sentence.lower()
                or "lobe" in item.sentence
                or (item.sentence != item.rivals["other_side"])
            )


def test_the_hand_written_sentences_are_many_and_whole():
    items = read_triples()
    assert len(items) >= 120
    assert sum("other_side" in item.rivals for item in items) >= 60
    texts = [text for item in items for text in (item.sentence, item.paraphrase, *item.rivals.values())]
    assert all(text.strip() == text and text[-1] in ".?" for text in texts)
    assert all(len({item.sentence, item.paraphrase, *item.rivals.values()}) == 2 + len(item.rivals) for item in items)


def write_table(path):
    rows = [
        ("b", "There is a nodule in the left upper lobe. The weather is fine."),
        ("a", "No pleural effusion was seen."),
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("study_id", "report_text"), *rows])
    return path


def test_sentences_of_reports_get_rivals_by_rules(tmp_path):
    table = write_table(tmp_path / "reports.csv")
    (item,) = read_report_items(table, "odd", 0)  # sorted by study_id: "b" is the second
    assert item.group == "b"
    assert item.rivals["other_side"] == "There is a nodule in the right upper lobe."
    assert {m.existence for m in read_sentence(item.rivals["denial"]).mentions} == {"absent"}
    assert item.paraphrase != item.sentence
    assert len(read_report_items(table, "all", 0)) == 2


def test_figures_of_a_file(tmp_path):
    torch.manual_seed(0)
    tokenizer = train_wordpiece(["no nodule in the left lung"] * 3, 80)
    encoder = TextEncoder(BertConfig(tokenizer.vocab_size, 8, 1, 2, 8, 64))
    metadata = {"config": config_to_json(encoder.config), "tokenizer": tokenizer.to_json()}
    save_weights(tmp_path / "text.safetensors", encoder, metadata, torch.float16)
    table = write_table(tmp_path / "reports.csv")
    figures = evaluate(EvaluateTextConfig(tmp_path, reports=table, half="all", generated=20, interval=QUICK))
    assert list(figures) == ["generated", "by hand", "reports, all half"]
    assert figures["by hand"]["denial"]["pairs"] >= 120
    assert json.dumps(figures)
    unit = read_embedder(tmp_path / "text.safetensors")(["No nodule.", "Left lung."])
    assert np.linalg.norm(unit, axis=1) == pytest.approx([1.0, 1.0], abs=1e-5)


def test_weights_that_are_no_text_encoder_are_refused(tmp_path):
    save_weights(tmp_path / "text.safetensors", torch.nn.Linear(2, 2), {})
    with pytest.raises(ConfigError, match=r"trainers\.text_encoder"):
        read_embedder(tmp_path)
