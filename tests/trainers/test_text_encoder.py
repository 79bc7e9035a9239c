import numpy as np
import pytest
import torch

from core.models.bert import BertConfig
from core.models.checkpoint import config_from_json, read_weights
from core.models.text import TextEncoder
from core.models.tokens import ReportTokenizer
from core.synthesis.sentences import Statement
from trainers.optim import OptimConfig
from trainers.text_encoder import (
    EXISTENCES,
    ORGANS,
    SIDES,
    TARGETS,
    TextTrainConfig,
    claim_contrast,
    draw_statements,
    embed,
    main,
    pack,
    same_claims,
    truth_of,
)

NODULE = Statement("A nodule.", "Lung nodule", "present", ("lung_lower_lobe_left",), "left", 12.0, "solid nodule")


def test_truth_is_read_off_the_statement():
    truth = truth_of([NODULE, NODULE._replace(existence="absent", size_mm=None, kind="normal", organs=("heart",))])
    assert TARGETS[truth["target"][0]] == "solid nodule"
    assert TARGETS[truth["target"][1]] == "normal heart"
    assert [EXISTENCES[i] for i in truth["existence"]] == ["present", "absent"]
    assert SIDES[truth["side"][0]] == "left"
    assert truth["size"].tolist() == [2, 0]  # 10 to 20 mm; none stated
    assert [ORGANS[i] for i in truth["organs"][0].nonzero()[:, 0]] == ["lung_lower_lobe_left"]


def test_the_same_claim_in_other_words_and_sizes_is_the_same():
    same = same_claims([NODULE, NODULE._replace(text="Nodule.", size_mm=8.0), NODULE._replace(laterality="right")])
    assert same.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_contrast_of_three_sentences_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    same = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    expected = -np.log(np.exp(2.0) / (np.exp(2.0) + np.exp(0.0)))  # cosines 1 and 0 over temperature 0.5
    assert claim_contrast(vectors, same, 0.5).item() == pytest.approx(expected, rel=1e-4)


def test_packing_keeps_every_sentence_once():
    rng = np.random.default_rng(0)
    statements = draw_statements(8, rng)
    assert sorted(place for text in pack(statements, rng) for place in text) == list(range(len(statements)))


def test_a_run_writes_an_encoder_that_reads_sentences_alone_and_in_reports(tmp_path):
    optim = OptimConfig(steps=3, warmup_steps=1, peak_lr=1e-3)
    main(TextTrainConfig(tmp_path, vocab_size=300, width=32, depth=1, heads=2, claims=3, threads=1, optim=optim))
    tensors, metadata = read_weights(tmp_path / "text.safetensors")
    encoder = TextEncoder(config_from_json(BertConfig, metadata["config"])).eval()
    encoder.load_state_dict(tensors)
    tokenizer = ReportTokenizer.from_json(metadata["tokenizer"])
    with torch.inference_mode():
        alone = embed(encoder, tokenizer, [["No effusion."], ["A mass is seen."]], None)
        together = embed(encoder, tokenizer, [["No effusion.", "A mass is seen."]], None)
    assert alone.shape == together.shape == (2, 32)
    assert torch.isfinite(alone).all()
    assert (tmp_path / "text_metrics.json").is_file()
