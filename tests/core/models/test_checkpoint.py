import argparse
from dataclasses import replace

import pytest
import torch
from torch import nn

from core.errors import CheckpointError
from core.models.asap import ASAP
from core.models.asap_config import ASAPConfig, released, tiny
from core.models.asap_file import load_asap, save_asap
from core.models.checkpoint import (
    config_from_json,
    config_to_json,
    import_weights,
    load_strictly,
    read_published,
    read_weights,
    save_weights,
    write_atomically,
    write_tensors,
)
from core.models.tokens import train_wordpiece


class Trap:
    """What a malicious file would hold: reading it must not run it."""

    def __reduce__(self):
        return (print, ("run by the file",))


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(["Heart is normal."], 100)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return ASAP(tiny(tokenizer.vocab_size)).eval()


def test_one_file_is_the_whole_model(model, tokenizer, tmp_path):
    save_asap(tmp_path / "m.safetensors", model, tokenizer, {"spacing_mm": "[3, 3, 3]"})
    draws = torch.get_rng_state()
    loaded = load_asap(tmp_path / "m.safetensors")
    assert torch.equal(torch.get_rng_state(), draws)
    assert loaded.facts == {"spacing_mm": "[3, 3, 3]"}
    assert loaded.model.config == model.config
    image = torch.randn(1, 1, 32, 32, 16)
    assert torch.equal(loaded.model.encode_patches(image), model.encode_patches(image))
    assert list(tmp_path.iterdir()) == [tmp_path / "m.safetensors"]


def test_half_precision_halves_the_file_and_opens_as_float32(model, tokenizer, tmp_path):
    save_asap(tmp_path / "full.safetensors", model, tokenizer, {})
    save_asap(tmp_path / "half.safetensors", model, tokenizer, {}, torch.float16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = load_asap(tmp_path / "half.safetensors").model
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.norm.weight, model.norm.weight, atol=1e-3, rtol=1e-3)


def test_tied_weights_survive_the_round_trip(tokenizer, tmp_path):
    config = tiny(tokenizer.vocab_size)
    model = ASAP(replace(config, fixes=replace(released().fixes)))
    save_weights(tmp_path / "w.safetensors", model, {})
    again = ASAP(model.config)
    load_strictly(again, read_weights(tmp_path / "w.safetensors")[0], "w")
    words = again.bert_encoder.bert.embeddings.word_embeddings.weight
    assert again.bert_encoder.cls.predictions.decoder.weight is words
    assert torch.equal(words, model.bert_encoder.bert.embeddings.word_embeddings.weight)


def test_other_files_are_refused_with_a_reason(model, tokenizer, tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(CheckpointError, match="No weights at"):
        load_asap(path)
    path.write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        load_asap(path)
    save_weights(path, model, {})
    with pytest.raises(CheckpointError, match="format None"):
        load_asap(path)
    save_asap(path, model, tokenizer, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="Copy it again"):
        load_asap(path)


def test_nan_weights_are_refused(model, tokenizer, tmp_path):
    model.norm.weight.data[0] = float("nan")
    save_asap(tmp_path / "m.safetensors", model, tokenizer, {})
    with pytest.raises(CheckpointError, match=r"NaN or infinite weights in norm.weight"):
        load_asap(tmp_path / "m.safetensors")


def test_strict_loading_lists_what_differs(model):
    tensors = dict(model.state_dict())
    tensors["norm.weights"] = tensors.pop("norm.weight")
    with pytest.raises(CheckpointError, match=r"1 skipped, 1 missing.*norm.weights, norm.weight"):
        load_strictly(model, tensors, "file")


@pytest.mark.parametrize("wrap", ["bare", "model", "module", "backbone", "args", "safetensors"])
def test_published_wrappers_and_prefixes_are_understood(model, tmp_path, wrap):
    weights = {name: value.clone() + 1 for name, value in model.state_dict().items()}
    weights["bert_encoder.bert.embeddings.position_ids"] = torch.arange(3)
    path = tmp_path / ("w.safetensors" if wrap == "safetensors" else "w.pth")
    if wrap == "safetensors":
        from safetensors.torch import save_file

        save_file({name: value.contiguous() for name, value in weights.items()}, path)
    else:
        prefix = {"module": "module.", "backbone": "backbone."}.get(wrap, "")
        named = {prefix + name: value for name, value in weights.items()}
        extra = {"args": argparse.Namespace(lr=1.0, name="x"), "epoch": 3} if wrap == "args" else {}
        torch.save(named if wrap == "bare" else {"model": named, **extra}, path)
    report = import_weights(model, read_published(path))
    assert (report.skipped, report.missing) == ([], [])
    assert torch.equal(model.norm.weight, weights["norm.weight"])


def test_an_encoder_alone_loads_and_the_rest_is_listed(model, tmp_path):
    encoder = {
        k: v for k, v in model.state_dict().items() if k.startswith(("cls_token", "patch_embed", "blocks", "norm"))
    }
    torch.save({"model": encoder, "unknown.weight": torch.zeros(2)}, tmp_path / "w.pth")
    report = import_weights(model, read_published(tmp_path / "w.pth"))
    assert sorted(report.matched) == sorted(encoder)
    assert "finding_align_img_mlp.dense_to_hidden.weight" in report.missing


@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_a_partial_encoder_fails_loudly_and_changes_nothing(model, tmp_path, damage):
    before = model.norm.weight.clone()
    weights = {name: value + 1 for name, value in model.state_dict().items()}
    if damage == "missing":
        del weights["blocks.1.attn.qkv.weight"]
    else:
        weights["blocks.1.attn.qkv.weight"] = torch.zeros(3, 3)
    with pytest.raises(CheckpointError, match="blocks.1.attn.qkv.weight"):
        import_weights(model, weights)
    assert torch.equal(model.norm.weight, before)


def test_an_untied_word_matrix_does_not_overwrite_the_embedding(tokenizer):
    """Published files may hold the MLM matrix apart from the embedding; ours are one parameter."""
    model = ASAP(replace(tiny(tokenizer.vocab_size), fixes=released().fixes))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    words = weights["bert_encoder.bert.embeddings.word_embeddings.weight"].clone()
    weights["bert_encoder.cls.predictions.decoder.weight"] += 5
    import_weights(model, weights)
    assert torch.equal(model.bert_encoder.bert.embeddings.word_embeddings.weight, words)


def test_a_file_with_code_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"model": {"norm.weight": torch.ones(2)}, "args": Trap()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="nothing was executed"):
        read_published(tmp_path / "w.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"\x00" * 50])
def test_damaged_published_files_are_refused(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as plain weights"):
        read_published(tmp_path / "w.pth")


def test_config_survives_json_and_refuses_what_it_does_not_know():
    config = released()
    assert config_from_json(ASAPConfig, config_to_json(config)) == config
    with pytest.raises(CheckpointError, match="has no colour"):
        config_from_json(ASAPConfig, '{"colour": 1}')
    with pytest.raises(CheckpointError, match="must divide"):
        config_from_json(ASAPConfig, '{"vision": {"image_size": [5, 5, 5]}}')


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w"
    write_atomically(path, b"old")

    def full(*_args):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_state_dict_of_another_module_is_no_asap(model):
    with pytest.raises(CheckpointError, match="0 tensors matched"):
        import_weights(model, nn.Linear(2, 2).state_dict())


def test_the_same_weights_and_words_are_the_same_bytes(tmp_path):
    """Whatever order the library draws for the words; the file stays one that it reads."""
    words = {f"name {number}": f"wört {number}" for number in range(9)}
    weights = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(5, dtype=torch.int64)}
    for number in range(4):
        write_tensors(
            tmp_path / f"{number}.safetensors", weights, dict(reversed(words.items())) if number % 2 else words
        )
    first, *others = [(tmp_path / f"{number}.safetensors").read_bytes() for number in range(4)]
    assert all(other == first for other in others)
    tensors, told = read_weights(tmp_path / "0.safetensors")
    assert told == words
    assert all(torch.equal(tensors[name], value) for name, value in weights.items())
