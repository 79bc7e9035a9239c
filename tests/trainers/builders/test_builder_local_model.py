import json
import sys
from pathlib import Path

import pytest
import torch

from core.errors import EngineError, ReportError
from core.organ_map import ORGAN_MAPS
from trainers.builders.__main__ import main
from trainers.builders.files import read_distilled
from trainers.builders.local_model import LocalModel
from trainers.builders.prompts import ask_distilled, ask_mentioned

WORDS = "<pad> </s> <unk> : . | 1 yes no There is may be nodule effusion report lung heart aorta the".split()
REPORTS = "study_id,findings,impression\na,A nodule in the lung.,\nb,The heart and the aorta are normal and old.,\n"


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("transformers", reason="requirements-llm.txt is not installed")


def write_model(library, folder: Path, chain: str = "", room: int = 4096) -> Path:
    """A one-layer Llama over `WORDS`: random, or one in which each word of `chain` is followed by the next."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: number for number, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = library.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    config = library.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=len(WORDS),
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=room,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    model = library.LlamaForCausalLM(config)
    if chain:
        wire(model, [vocabulary[word] for word in [":", *chain.split(), "</s>"]])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def wire(model, numbers: list[int]) -> None:
    """Attention and MLP add nothing, so that the next word depends on the last alone."""
    model.model.layers[0].self_attn.o_proj.weight.zero_()
    model.model.layers[0].mlp.down_proj.weight.zero_()
    model.model.embed_tokens.weight.copy_(torch.eye(len(WORDS)))
    model.lm_head.weight.zero_()
    for last, following in zip(numbers, numbers[1:], strict=False):
        model.lm_head.weight[following, last] = 1.0


def test_answers_are_what_the_model_says_after_the_question(library, tmp_path):
    model = LocalModel(write_model(library, tmp_path / "m", "yes"), "cpu", batch_size=2)
    organs = ORGAN_MAPS["fvlm4"]
    asked = [
        ask_mentioned(name, "The lung " + "and the heart " * length, organs) for length, name in enumerate(organs.names)
    ]
    answers = model.answers(asked)  # of different lengths in one batch
    assert answers == ["yes"] * 4
    assert all(question.read(answer) is True for question, answer in zip(asked, answers, strict=True))


def test_answers_without_an_end_are_not_taken(library, tmp_path):
    model = LocalModel(write_model(library, tmp_path / "m", "yes yes"), "cpu")  # yes is followed by yes or the end
    with torch.no_grad():
        model._model.lm_head.weight[1].zero_()
    assert model.answers([ask_mentioned("lung", "The lung.", ORGAN_MAPS["fvlm4"])]) == [""]


def test_from_the_command_line(library, tmp_path, capsys):
    (tmp_path / "r.csv").write_text(REPORTS)
    write_model(library, tmp_path / "m", "There is nodule .")
    files = ["--reports", str(tmp_path / "r.csv"), "--out", str(tmp_path / "d.csv"), "--model", str(tmp_path / "m")]
    assert main(["distill", *files, "--backend", "transformers", "--device", "cpu"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["model"].startswith("m@")
    assert summary["problems"] == []
    assert read_distilled(tmp_path / "d.csv") == {"a": "There is nodule .", "b": "There is nodule ."}


def test_a_random_model_says_nothing_usable_and_is_listed(library, tmp_path, capsys):
    (tmp_path / "r.csv").write_text(REPORTS)
    write_model(library, tmp_path / "m")
    files = ["--reports", str(tmp_path / "r.csv"), "--out", str(tmp_path / "t.csv"), "--model", str(tmp_path / "m")]
    code = main(["organ-text", *files, "--backend", "transformers", "--device", "cpu", "--attempts", "1"])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert len(json.loads(said.out)["problems"]) == 8  # four organs in two reports


def test_longer_than_the_model_reads_fails_the_report_alone(library, tmp_path):
    model = LocalModel(write_model(library, tmp_path / "m", "yes", room=700), "cpu")
    with pytest.raises(ReportError, match="has room for 700"):
        model.answers([ask_distilled("A nodule. " * 300)])


def test_other_weights_in_the_same_folder_are_another_model(library, tmp_path):
    first = LocalModel(write_model(library, tmp_path / "m", "yes"), "cpu").name
    assert LocalModel(tmp_path / "m", "cpu").name == first
    assert LocalModel(write_model(library, tmp_path / "m", "yes", room=300), "cpu").name != first


def test_folders_without_a_usable_model_are_refused(library, tmp_path):
    with pytest.raises(EngineError, match=r"no folder of a language model.*config\.json"):
        LocalModel(tmp_path / "none", "cpu")
    folder = write_model(library, tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EngineError, match=r"no causal language model.*\*\.safetensors"):
        LocalModel(folder, "cpu")
    (folder / "config.json").write_text("{}")
    with pytest.raises(EngineError, match="no causal language model"):
        LocalModel(folder, "cpu")


def test_missing_library_names_its_requirements(tmp_path, monkeypatch, capsys):
    (tmp_path / "r.csv").write_text(REPORTS)
    monkeypatch.setitem(sys.modules, "transformers", None)
    arguments = ["distill", "--reports", str(tmp_path / "r.csv"), "--backend", "transformers", "--model", "m"]
    assert main(arguments) == 2
    assert "pip install -r requirements-llm.txt" in capsys.readouterr().err


def test_rules_need_no_library(tmp_path, monkeypatch):
    (tmp_path / "r.csv").write_text(REPORTS)
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["distill", "--reports", str(tmp_path / "r.csv"), "--out", str(tmp_path / "d.csv")]) == 0
