"""Published files of the true layout and size, random inside: converted by the command, opened, and put to work."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from published_files import draw_weights, read_layout, write_lavis, write_mae

from core.grounding.readout import SentenceQuery, ground_sentences, heat_on_source, make_canvas
from core.grounding.registry import list_engines, load_engine
from core.models.checkpoint import ENCODER_PARTS, read_weights
from core.models.fvlm import FVLM
from core.models.fvlm_config import released as fvlm_released
from core.models.imports import fit_weights, read_source
from core.models.tokens import SPECIAL_TOKENS
from core.synthesis.phantom import PhantomConfig, build_phantom
from trainers.import_weights import main

pytestmark = pytest.mark.training
ORGAN_ENGINES = ("fvlm", "visd")
WORDS = "there is a no nodule in the left lower lobe of lung heart not enlarged aorta normal . ,".split()
SENTENCES = ("There is a nodule in the left lower lobe of the lung.", "The heart is not enlarged.")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with CXR-BERT's vocabulary in size; emptied afterwards, for it holds gigabytes."""
    folder = tmp_path_factory.mktemp("true_size")
    pieces = [*SPECIAL_TOKENS, *WORDS]
    pieces += [f"[unused{number}]" for number in range(30522 - len(pieces))]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def asap_layout(shared):
    shapes = json.loads((shared / "specs/asap_state_dict_shapes.json").read_text())["shapes"]
    return {name: (tuple(shape), torch.float32) for name, shape in shapes.items()}


@pytest.fixture
def convert(place, capsys):
    """Convert files of a source into models/NAME; the JSON document. The published files are deleted."""

    def run(source, *files):
        arguments = ["--source", source, *map(str, files), "--out", str(place / "models" / source)]
        assert main(arguments) == 0, capsys.readouterr().err  # the vocabulary lies beside the files
        for file in files:
            file.unlink()
        return json.loads(capsys.readouterr().out)

    return run


def layout_of(shared, *names):
    return {key: value for name in names for key, value in read_layout(shared / f"specs/layouts/{name}.tsv").items()}


def put_to_work(place, name):
    """Ground two sentences in a phantom: heat in [0, 1] on the file's grid, not everywhere, not random noise only."""
    states = {state.name: state for state in list_engines(place, place / "models")}
    assert states[name].can_run, states[name].lacks
    engine = load_engine(name, place, place / "models", "cpu")
    if name in ORGAN_ENGINES:  # their weights take any box, and a twentieth of the true one costs a twentieth
        assert engine.view.image_size == (352, 256, 112)
        engine.view = replace(engine.view, image_size=(64, 64, 32))
    phantom = build_phantom(PhantomConfig((60, 44, 56), (6.0, 6.0, 6.0), "PIR"))
    features = engine.embed_volume(phantom.volume, phantom.masks)
    queries = [
        SentenceQuery(1, SENTENCES[0], "There is no nodule.", ("lung_lower_lobe_left",)),
        SentenceQuery(2, SENTENCES[1], "The heart is enlarged.", ("heart",)),
    ]
    canvas = make_canvas(phantom.volume, features, phantom.masks)
    for one in ground_sentences(engine, features, canvas, queries):
        heat = heat_on_source(one, phantom.volume)
        assert heat.shape == phantom.volume.source.shape
        assert (heat.min() >= 0, heat.max() <= 1, np.isfinite(heat).all()) == (True,) * 3
        assert 0 < (heat > 0).mean() < 0.5
    return engine, features


def test_fvlm(shared, place, convert):
    weights = draw_weights(layout_of(shared, "fvlm_model"))
    told = convert("fvlm", write_lavis(place / "model.pth", weights))
    assert told["missing"] == []
    assert sorted(told["skipped"]) == [
        "text_encoder.embeddings.position_ids", "text_encoder.embeddings.token_type_embeddings.weight",
    ]  # fmt: skip
    assert (len(told["matched"]), told["vocabulary"]) == (361, "vocab.txt")
    engine, features = put_to_work(place, "fvlm")
    assert features.organs.vectors.shape[0] == 4
    assert features.vectors.shape[3] == 256
    assert engine.view.axes == "LPS"
    shutil.rmtree(place / "models" / "fvlm")


def test_visd(shared, place, convert):
    main_layout, vqvae = layout_of(shared, "visd_main"), layout_of(shared, "visd_vqvae")
    statistics = {name: value for name, value in main_layout.items() if "running_" in name}
    unknown = {"pos_embed1": ((5001, 768), torch.float32)}
    files = [
        write_lavis(place / "checkpoint_vqvae.pth", draw_weights(vqvae | statistics | unknown, 1)),
        write_lavis(place / "checkpoint.pth", draw_weights(main_layout, 2)),
    ]
    told = convert("visd", *files)
    assert told["skipped"] == {"pos_embed1": "unknown", "text_encoder.embeddings.position_ids": "not used here"}
    assert all(name.endswith(".counter") for name in told["missing"])
    tensors, _ = read_weights(place / "models/visd/model.safetensors")
    assert tensors["normality.vq_layer.ema_dw.counter"] > 0  # averages that are old need no correction
    engine, features = put_to_work(place, "visd")
    assert features.organs.vectors.shape[0] == 4
    assert engine.prompts()["Lung nodule"].positive == "Lung nodule."
    shutil.rmtree(place / "models" / "visd")


def test_asap_whole(place, convert, asap_layout):
    told = convert("asap", write_mae(place / "ASAP.pth", draw_weights(asap_layout)))
    assert (told["skipped"], told["missing"]) == (
        {"bert_encoder.cls.predictions.decoder.weight": "has no place in this model"}, [],
    )  # fmt: skip
    engine, features = put_to_work(place, "asap")
    assert features.vectors.shape == (14, 14, 14, 768)
    assert engine.spec.view.axes == "RAS"
    shutil.rmtree(place / "models" / "asap")


def test_asap_encoder_alone_starts_trainings_and_is_no_engine(place, convert, asap_layout):
    encoder = {name: value for name, value in asap_layout.items() if name.startswith(ENCODER_PARTS)}
    assert len(encoder) == 150
    told = convert("asap", write_mae(place / "ASAP.pth", draw_weights(encoder)))
    assert told["weights"].endswith("weights.safetensors")
    assert len(told["matched"]) == 150
    assert not {state.name: state for state in list_engines(place, place / "models")}["asap"].can_run
    found = read_source([place / "models/asap"])
    with torch.device("meta"):
        other = FVLM(fvlm_released())
    assert len(fit_weights(found, other, "fvlm", ()).weights) == 146
    shutil.rmtree(place / "models" / "asap")


def test_what_only_starts_trainings(shared, place, convert, asap_layout):
    text = {n.removeprefix("bert_encoder."): v for n, v in asap_layout.items() if n.startswith("bert_encoder.")}
    torch.save(draw_weights(text), place / "pytorch_model.bin")
    told = convert("cxr-bert", place / "pytorch_model.bin")
    assert len(told["matched"]) == 196  # of fVLM's BERT, which adds no token types
    assert "tokenizer" in read_weights(place / "models/cxr-bert/text.safetensors")[1]  # so that --text takes it
    flat = {n: v for n, v in layout_of(shared, "ecamp_model").items() if not n.startswith(("bert_", "super_res."))}
    told = convert("mae-vit-b", write_mae(place / "mae_pretrain_vit_base.pth", draw_weights(flat)))
    assert len(told["matched"]) == 147  # 144 of blocks, 2 of the norm, and fVLM's inflated table
    told = convert("ecamp", write_mae(place / "ecamp.pth", draw_weights(layout_of(shared, "ecamp_model"))))
    assert len(told["matched"]) == 276
    for source in ("cxr-bert", "mae-vit-b", "ecamp"):
        assert read_source([place / "models" / source]).source.name == source
