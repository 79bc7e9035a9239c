"""The importer on small models: what fits where, what is refused, and that files run nothing."""

import os
from dataclasses import replace

import pytest
import torch
from published_files import FVLM_NAMES, VISD_NAMES, as_published, write_lavis, write_mae
from safetensors.torch import save_file

from core.errors import CheckpointError
from core.models import asap_config, asg_config, ecamp_config, fvlm_config, visd_config
from core.models.asap import ASAP
from core.models.asg import ASG
from core.models.checkpoint import ENCODER_PARTS, read_published
from core.models.ecamp import ECAMP
from core.models.fvlm import FVLM
from core.models.import_sources import SOURCES, find_source, recognise
from core.models.imports import find_places, fit_weights, put_weights, read_source, start_from
from core.models.model_file import ModelFacts, save_model
from core.models.text import TextEncoder
from core.models.tokens import train_wordpiece
from core.models.visd import VISD

WORDS = train_wordpiece(["heart lung aorta normal nodule effusion"], 90)
SIZE = WORDS.vocab_size
CODE = "left by the file"


class Trap:
    """What a malicious file holds: reading it must not run it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def without_types(config):
    """The config as the published one is: no token types are added."""
    return replace(config, text=replace(config.text, token_types=False))


def a_model(kind: str, seed: int = 0):
    torch.manual_seed(seed)
    build = {
        "asap": lambda: ASAP(asap_config.tiny(SIZE)),
        "fvlm": lambda: FVLM(without_types(fvlm_config.tiny(SIZE))),
        "visd": lambda: VISD(without_types(visd_config.tiny(SIZE))),
        "visd_vit": lambda: VISD(without_types(visd_config.tiny_vit(SIZE))),
        "asg": lambda: ASG(asg_config.tiny(SIZE)),
        "ecamp": lambda: ECAMP(ecamp_config.ecamp_tiny(SIZE)),
    }
    return build[kind]().eval()


def flat_vit(model) -> dict[str, torch.Tensor]:
    """A ViT of flat pictures in MAE's layout, of the width and depth of a model of ours."""
    torch.manual_seed(3)
    core = {n: torch.rand_like(v) for n, v in model.state_dict().items() if n.startswith(("blocks.", "norm."))}
    width = core["norm.weight"].shape[0]
    rest = {"patch_embed.proj.weight": (width, 3, 16, 16), "cls_token": (1, 1, width), "mask_token": (1, 1, width)}
    rest |= {"pos_embed": (1, 1 + 9, width), "decoder_embed.weight": (8, width), "decoder_blocks.0.norm1.weight": (8,)}
    return core | {name: torch.rand(shape) for name, shape in rest.items()}


# ---------------------------------------------------------------------- whole models


@pytest.mark.parametrize(("kind", "names"), [("fvlm", FVLM_NAMES), ("visd", VISD_NAMES)])
def test_published_names_load_to_the_last_number(tmp_path, kind, names):
    trained, fresh = a_model(kind, 1), a_model(kind, 2)
    state = as_published(trained.state_dict(), names) | {"text_encoder.embeddings.position_ids": torch.arange(5)}
    found = read_source([write_lavis(tmp_path / "checkpoint.pth", state)])
    assert found.source is SOURCES[kind]
    fitted = fit_weights(found, fresh, kind, ())
    put_weights(fresh, fitted)
    for name, value in trained.state_dict().items():
        if not name.endswith(".counter"):
            torch.testing.assert_close(fresh.state_dict()[name], value, msg=name)
    assert fitted.skipped == {"text_encoder.embeddings.position_ids": "not used here"}
    assert all(name.endswith(".counter") for name in fitted.missing)


def test_a_model_with_token_types_gets_none_from_fvlm(tmp_path):
    file = write_lavis(tmp_path / "c.pth", as_published(a_model("fvlm", 1).state_dict(), FVLM_NAMES))
    fresh = FVLM(fvlm_config.tiny(SIZE))
    start_from(fresh, "fvlm", file, ())
    assert not fresh.text_encoder.bert.embeddings.token_type_embeddings.weight.any()


def test_two_files_are_read_in_their_published_order_and_strangers_are_told(tmp_path):
    model = a_model("visd", 1)
    state = as_published(model.state_dict(), VISD_NAMES)
    inner = ("encoder.", "decoder.", "id_projs.")
    main = {name: value for name, value in state.items() if not name.startswith(inner)}
    vqvae = {name: value for name, value in state.items() if name.startswith((*inner, "vq_layer."))}
    stale = {"visual_encoder.res_model.bn1.running_mean": state["visual_encoder.res_model.bn1.running_mean"] + 9}
    files = [
        write_lavis(tmp_path / "checkpoint.pth", main),
        write_lavis(tmp_path / "checkpoint_vqvae.pth", vqvae | stale | {"pos_table": torch.zeros(5, 2)}),
    ]
    for order in (files, files[::-1]):
        fresh = a_model("visd", 2)
        fitted = fit_weights(read_source(order, SOURCES["visd"]), fresh, "visd", ())
        put_weights(fresh, fitted)
        torch.testing.assert_close(fresh.visual_encoder.res_model.bn1.running_mean, main[next(iter(stale))])
        assert fitted.skipped == {"pos_table": "unknown"}
    with pytest.raises(CheckpointError, match=r"Largest misfits: normality\.(en|de)coder.*not in the file"):
        fit_weights(read_source(files[:1]), a_model("visd"), "visd", ())


def test_a_whole_asap_and_an_encoder_alone(tmp_path):
    trained = a_model("asap", 1)
    whole = {f"module.{name}": value for name, value in trained.state_dict().items()}
    fresh = a_model("asap", 2)
    source, fitted = start_from(fresh, "asap", write_mae(tmp_path / "ASAP.pth", whole), ENCODER_PARTS)
    assert (source.name, fitted.skipped, fitted.missing) == ("asap", {}, [])
    assert torch.equal(fresh.align_text_mlp.dense_to_output.weight, trained.align_text_mlp.dense_to_output.weight)
    alone = {f"vit.{name}": v for name, v in trained.state_dict().items() if name.startswith(ENCODER_PARTS)}
    fresh = a_model("asap", 2)
    _, fitted = start_from(fresh, "asap", write_mae(tmp_path / "encoder.pth", alone), ENCODER_PARTS)
    assert torch.equal(fresh.blocks[1].mlp.fc2.bias, trained.blocks[1].mlp.fc2.bias)
    assert "align_text_mlp.dense_to_output.weight" in fitted.missing
    del alone["vit.blocks.1.attn.qkv.weight"]
    with pytest.raises(CheckpointError, match=r"Largest misfits: blocks.1.attn.qkv.weight \(not in the file\)"):
        start_from(fresh, "asap", write_mae(tmp_path / "partial.pth", alone), ENCODER_PARTS)


def test_an_untied_word_matrix_counts_for_nothing(tmp_path):
    config = replace(asap_config.tiny(SIZE), fixes=asap_config.released().fixes)
    weights = {name: value.clone() for name, value in ASAP(config).state_dict().items()}
    words = weights["bert_encoder.bert.embeddings.word_embeddings.weight"].clone()
    weights["bert_encoder.cls.predictions.decoder.weight"] += 5
    fresh = ASAP(config)
    start_from(fresh, "asap", write_mae(tmp_path / "ASAP.pth", weights), ENCODER_PARTS)
    assert torch.equal(fresh.bert_encoder.bert.embeddings.word_embeddings.weight, words)


# ---------------------------------------------------------------------- encoders


@pytest.mark.parametrize(
    ("kind", "at"),
    [("asap", ""), ("ecamp", ""), ("asg", "img_encoder_q.model."), ("fvlm", "visual_encoder.")],
)
def test_a_flat_vit_starts_the_vit_of_any_recipe(tmp_path, kind, at):
    flat = flat_vit(a_model("asap"))
    fresh, before = a_model(kind, 2), a_model(kind, 2).state_dict()
    source, fitted = start_from(fresh, kind, write_mae(tmp_path / "mae_pretrain_vit_base.pth", flat), ENCODER_PARTS)
    core = {name for name in flat if name.startswith(("blocks.", "norm."))}
    table = {at + "pos_embed"} if kind == "fvlm" else set()
    assert source.name == "mae-vit-b"
    assert set(fitted.weights) == {at + name for name in core} | table
    left_out = {"patch_embed.proj.weight", "cls_token", "mask_token", "decoder_embed.weight"}
    left_out |= {"decoder_blocks.0.norm1.weight"} | ({"pos_embed"} if not table else set())
    assert left_out <= set(fitted.skipped)
    for name, value in fresh.state_dict().items():
        expected = flat[name.removeprefix(at)] if name.removeprefix(at) in core and name.startswith(at) else None
        if expected is not None:
            assert torch.equal(value, expected)
        elif name not in table:
            assert torch.equal(value, before[name]), name


def test_flat_positions_are_spread_over_fvlms_planes(tmp_path):
    flat, fresh = flat_vit(a_model("asap")), a_model("fvlm")
    flat["pos_embed"][:] = 0.5
    start_from(fresh, "fvlm", write_mae(tmp_path / "m.pth", flat), ())
    torch.testing.assert_close(fresh.visual_encoder.pos_embed, torch.full_like(fresh.visual_encoder.pos_embed, 0.5))


def test_a_vit_has_no_place_in_a_resnet_but_in_its_sibling(tmp_path):
    flat = flat_vit(a_model("asap"))
    file = write_mae(tmp_path / "m.pth", flat)
    with pytest.raises(CheckpointError, match="no encoder of their kind"):
        start_from(a_model("visd"), "visd", file, ())
    with pytest.raises(CheckpointError, match=r"vit.blocks.0.attn.qkv.weight \(\(144, 48\) in the file, \(96, 32\) in"):
        start_from(a_model("visd_vit"), "visd", file, ())


@pytest.mark.parametrize("form", ["bin", "safetensors", "bare"])
@pytest.mark.parametrize("kind", ["asap", "fvlm", "asg"])
def test_cxr_bert_starts_every_text_encoder(tmp_path, kind, form):
    sizes = asap_config.tiny(SIZE).text
    torch.manual_seed(5)
    bert = {name: value.clone() for name, value in TextEncoder(sizes, 16).state_dict().items()}
    bert |= {"bert.embeddings.position_ids": torch.arange(4), "bert.pooler.dense.weight": torch.zeros(2, 2)}
    if form == "bare":
        bert = {name.removeprefix("bert."): value for name, value in bert.items() if name.startswith("bert.")}
    path = tmp_path / ("model.safetensors" if form == "safetensors" else "pytorch_model.bin")
    if form == "safetensors":
        save_file(bert, path)
    else:
        torch.save(bert, path)
    fresh = a_model(kind)
    source, fitted = start_from(fresh, kind, path, ())
    at = find_places(fresh).text[0]
    word = "embeddings.word_embeddings.weight"
    assert source.name == "cxr-bert"
    assert torch.equal(fresh.state_dict()[at + word], bert[word if form == "bare" else f"bert.{word}"])
    has_types = any("token_type" in name for name in fitted.weights)
    assert has_types == (kind != "fvlm")  # fVLM adds none, which is as if they were zero
    assert any("pooler" in name for name in fitted.skipped)


def test_ecamps_flat_weights_give_what_depends_on_no_voxel(tmp_path):
    model = a_model("ecamp", 1)
    text = {"text_embeddings.": "embeddings.", "bert_decoder.bert.fusion_layer.": "cross_attn_layer.",
            "bert_decoder.bert.encoder.": "encoder."}  # fmt: skip
    flat = {}
    for name, value in model.state_dict().items():
        for ours, theirs in text.items():
            if name.startswith(ours):
                name = f"bert_encoder.model.bert.{theirs}{name.removeprefix(ours)}"
        flat[name.replace("bert_decoder.cls.", "bert_encoder.model.cls.")] = value.clone()
    flat["patch_embed.proj.weight"] = torch.zeros(48, 3, 16, 16)
    flat["bert_encoder.model.bert.embeddings.word_embeddings.weight"] = torch.zeros(7, 48)
    file = write_mae(tmp_path / "ecamp.pth", flat)
    fresh = a_model("ecamp", 2)
    source, fitted = start_from(fresh, "ecamp", file, ENCODER_PARTS)
    assert source.name == "ecamp"
    assert torch.equal(
        fresh.bert_decoder.bert.fusion_layer.gap_mlp.bias, model.bert_decoder.bert.fusion_layer.gap_mlp.bias
    )
    taken = ("blocks.", "norm.", "bert_mlp.", "bert_encoder.model.bert.cross_attn_layer.",
             "bert_encoder.model.bert.encoder.", "bert_encoder.model.cls.predictions.transform.")  # fmt: skip
    assert set(fitted.skipped) == {name for name in flat if not name.startswith(taken)}
    _, into_asap = start_from(a_model("asap"), "asap", file, ENCODER_PARTS)
    assert {"bert_mlp.weight", "bert_decoder.bert.fusion_layer.gap_mlp.bias"} <= set(into_asap.weights)


def test_an_earlier_run_starts_another_recipe_by_its_encoders(tmp_path):
    trained = a_model("asap", 1)
    save_model(tmp_path / "model.safetensors", trained, WORDS, ModelFacts("asap", "tiny", {}))
    for kind, vision in (("asg", "img_encoder_q.model."), ("fvlm", "visual_encoder.")):
        fresh = a_model(kind, 2)
        source, fitted = start_from(fresh, kind, tmp_path, ())  # the folder will do
        assert source.name == "asap"
        assert torch.equal(fresh.state_dict()[f"{vision}norm.weight"], trained.norm.weight)
        assert (f"{vision}patch_embed.proj.weight" in fitted.weights) == (kind == "asg")  # fVLM's patches lie (z, y, x)
        assert any(name.startswith("text_encoder") for name in fitted.weights)
        assert fitted.skipped["align_text_mlp.dense_to_output.weight"] == "has no place in this model"
    again = a_model("asap", 2)
    _, fitted = start_from(again, "asap", tmp_path / "model.safetensors", ENCODER_PARTS)
    assert (fitted.skipped, fitted.missing) == ({}, [])


# ---------------------------------------------------------------------- refusals


def test_files_are_taken_for_what_they_are(tmp_path):
    file = write_mae(tmp_path / "w.pth", flat_vit(a_model("asap")))
    with pytest.raises(CheckpointError, match="holds weights of mae-vit-b, not of fvlm; expected fVLM's checkpoint"):
        read_source([file], SOURCES["fvlm"])
    with pytest.raises(CheckpointError, match="of no model that is known here"):
        recognise({"fc.weight": torch.zeros(2, 2)}, "w.pth")
    with pytest.raises(CheckpointError, match=r"no source 'medclip'; expected one of fvlm, visd, ecamp, asap"):
        find_source("medclip")
    with pytest.raises(CheckpointError, match="expected one of"):
        find_source("asg")  # of which nothing is published


def test_weights_of_another_size_are_refused_and_nothing_is_loaded(tmp_path):
    wide = FVLM(replace(without_types(fvlm_config.tiny(SIZE)), embed=16))
    file = write_lavis(tmp_path / "c.pth", as_published(wide.state_dict(), FVLM_NAMES))
    fresh = a_model("fvlm")
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"pool.vision_projs.\d.weight \(\(16, 48\) in the file, \(32, 48\) in"):
        start_from(fresh, "fvlm", file, ())
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, bad):
    state = as_published(a_model("fvlm").state_dict(), FVLM_NAMES)
    state["text_proj.weight"][3, 4] = bad
    with pytest.raises(CheckpointError, match=r"NaN or infinite weights in text_proj\.weight"):
        start_from(a_model("fvlm"), "fvlm", write_lavis(tmp_path / "c.pth", state), ())


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_file_with_code_is_refused_by_name_and_runs_nothing(tmp_path, is_zip):
    state = as_published(a_model("fvlm").state_dict(), FVLM_NAMES)
    evil = {"model": state, "config": Trap(tmp_path / CODE)}
    torch.save(evil, tmp_path / "c.pth", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(
        CheckpointError, match=r"c\.pth cannot be read as plain weights \(it holds \w+\.mkdir, which is c"
    ):
        read_source([tmp_path / "c.pth"])
    assert not (tmp_path / CODE).exists()


def test_numbers_and_arguments_beside_the_weights_are_harmless(tmp_path):
    import numpy as np

    told = {"model": {"w": torch.ones(2)}, "best": np.float64(0.8), "epochs": np.arange(3), "scaler": None}
    torch.save(told, tmp_path / "c.pth")
    assert torch.equal(read_published(tmp_path / "c.pth")["w"], torch.ones(2))
