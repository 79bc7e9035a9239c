"""A tiny model that has learned what a ball looks like finds it in patient millimetres, however the file is stored."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_two_scale import tiny_two_scale

from core.errors import EngineError
from core.grounding.asap_engine import EngineSpec
from core.grounding.model_folder import open_folder
from core.grounding.readout import SentenceQuery, ground_sentences, make_canvas
from core.grounding.two_scale_engine import TwoScaleEngine
from core.grounding.view import ViewConfig
from core.models.asap_config import LossWeights
from core.models.asap_file import save_asap
from core.models.checkpoint import config_to_json
from core.models.tokens import train_wordpiece
from core.models.two_scale import build_asap
from core.report.traits import TRAITS, TURNING, sentence_traits
from core.volume import Volume

SENTENCE = "there is a ball"
VIEW = ViewConfig((4.0, 4.0, 4.0), (32, 32, 32), (2, 2, 2))
ORIENTATIONS = {
    "RAS": np.diag([2.0, 3.0, 4.0, 1.0]),
    "LPS": np.diag([-2.0, -3.0, 4.0, 1.0]),
    "SRA": np.array([[0, 2.0, 0, 0], [0, 0, 3.0, 0], [4.0, 0, 0, 0], [0, 0, 0, 1.0]]),
}


def ball(shape: tuple[int, ...], centre: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """True within 9 mm of a voxel."""
    offset = (np.indices(shape).reshape(3, -1).T - centre) * edges
    return (np.linalg.norm(offset, axis=1) <= 9.0).reshape(shape)


def studies(ids: torch.Tensor, attn: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """Two volumes with a ball each, and the sentence that is true of them."""
    rng = np.random.default_rng(seed)
    balls = [ball((32, 32, 32), rng.uniform(5, 27, 3), np.full(3, 4.0)) for _ in range(2)]
    images = [np.where(one, 0.4, -0.1) + 0.03 * rng.standard_normal(one.shape) for one in balls]
    cells = [one.reshape(16, 2, 16, 2, 16, 2).sum(axis=(1, 3, 5)).reshape(1, -1) for one in balls]
    return {
        "image": torch.from_numpy(np.stack(images)[:, None]).float(),
        "asked_ids": ids.expand(2, 1, -1),
        "asked_attn": attn.expand(2, 1, -1),
        "asked_traits": torch.from_numpy(sentence_traits([SENTENCE])).expand(2, 1, -1),
        "asked_valid": torch.ones(2, 1, dtype=torch.bool),
        "asked_region": torch.zeros(2, 1, dtype=torch.int16),
        "region_cells": torch.from_numpy(np.stack(cells).astype(np.uint8)),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    tokenizer = train_wordpiece([SENTENCE, "the heart is normal"], 40)
    plain = tiny_two_scale(tokenizer.vocab_size, (0, 0), len(TRAITS))
    model = build_asap(replace(plain, mask_ratio=0.0, weights=LossWeights(0, 0, 0, 0, place=1.0, extent=1.0)))
    ids, attn = tokenizer.encode_prompts([SENTENCE], 16)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 4e-3)
    for step in range(30):
        model.train()(studies(ids, attn, step))["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
    path = tmp_path_factory.mktemp("models") / "ball"
    path.mkdir()
    save_asap(path / "model.safetensors", model, tokenizer, {}, torch.float16)
    (path / "engine.json").write_text(config_to_json(EngineSpec("ball", VIEW)))
    return path


@pytest.mark.training
@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_a_ball_is_found_where_it_lies(folder, axes):
    engine = open_folder(folder)
    assert isinstance(engine, TwoScaleEngine)
    affine = ORIENTATIONS[axes].copy()
    affine[:3, 3] = [40.0, -20.0, 7.0]
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    shape = tuple(int(128 // edge) for edge in edges)
    at = np.array(shape) * [0.3, 0.6, 0.7]
    found = ball(shape, at, edges)
    volume = Volume.from_source(np.where(found, 400, -100).astype(np.int16), affine)
    features = engine.embed_volume(volume)
    assert features.vectors.shape == (16, 16, 16, 24 + len(TURNING))
    canvas = make_canvas(volume, features, None)
    heat = ground_sentences(engine, features, canvas, [SentenceQuery(1, SENTENCE, "there is no ball")])[0]
    true = (affine @ [*at, 1.0])[:3]
    assert np.linalg.norm(np.array(heat.peak_ras_mm) - true) < 9.0


@pytest.mark.training
def test_what_else_a_report_says_changes_no_heat(folder):
    engine = open_folder(folder)
    hu = np.random.default_rng(0).integers(-200, 400, (32, 32, 32)).astype(np.int16)
    volume = Volume.from_source(hu, np.diag([4.0, 4.0, 4.0, 1.0]))
    features = engine.embed_volume(volume)
    canvas = make_canvas(volume, features, None)
    queries = [SentenceQuery(n, text, f"no {text}") for n, text in enumerate((SENTENCE, "the heart is normal"))]
    alone = ground_sentences(engine, features, canvas, queries[:1])[0]
    among = ground_sentences(engine, features, canvas, queries)[0]
    np.testing.assert_allclose(among.map.anywhere, alone.map.anywhere, atol=1e-5)


@pytest.mark.training
def test_reports_and_ct_have_vectors_of_one_space(folder):
    engine = open_folder(folder)
    volume = Volume.from_source(np.full((32, 32, 32), -100, np.int16), np.diag([4.0, 4.0, 4.0, 1.0]))
    features = engine.embed_volume(volume)
    report = engine.embed_report([SENTENCE, "the heart is normal"])
    assert report.shape == features.study_vector.shape
    assert engine.embed_sentences([SENTENCE])[0].shape == features.vectors.shape[3:]
    assert np.linalg.norm(report) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features.vectors, axis=-1), 1.0, atol=1e-5)


@pytest.mark.training
def test_denial_side_and_size_move_a_sentence_but_not_its_scores(folder):
    engine = open_folder(folder)
    one, again, denied, other = engine.embed_sentences(
        [
            "A 9 mm nodule sits in the left lower lobe.",
            "Left lower lobe: nodule, 0.9 cm.",
            "No nodule of 9 mm sits in the left lower lobe.",
            "A 9 mm nodule sits in the right lower lobe.",
        ]
    )
    assert max(one @ denied, one @ other) < one @ again - 0.1
    assert one @ one == pytest.approx(1.0, abs=1e-5)
    assert not engine.embed_sentences(["  "]).any()
    volume = Volume.from_source(np.full((32, 32, 32), -100, np.int16), np.diag([4.0, 4.0, 4.0, 1.0]))
    assert not engine.embed_volume(volume).vectors[..., -len(TURNING) :].any()


def test_a_model_of_other_traits_is_refused():
    tokenizer = train_wordpiece([SENTENCE], 40)
    model = build_asap(tiny_two_scale(tokenizer.vocab_size, (0, 0), traits=3))
    with pytest.raises(EngineError, match="trained on 3 traits of a sentence; this version reads"):
        TwoScaleEngine(model, tokenizer, EngineSpec("ball", VIEW))
