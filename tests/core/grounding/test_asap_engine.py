"""A tiny, randomly initialised ASAP in a model folder: loading, places in millimetres, and refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_engine import TINY_VIEW as VIEW

from core.anatomy.masks import OrganMasks
from core.errors import CheckpointError, EngineError
from core.grounding.model_folder import open_folder
from core.grounding.registry import list_engines, load_engine, runnable_engines
from core.grounding.view import box_grid, middle_of_chest, patch_grid, read_box
from core.models.asap import ASAP
from core.models.asap_config import tiny
from core.models.checkpoint import config_to_json, save_weights
from core.structures import BY_NAME
from core.volume import Volume


def chest(flip: bool = False) -> tuple[Volume, OrganMasks]:
    """Soft tissue with a lung box whose middle is at (20, -30, 100) mm; stored as RAS or, flipped, as LPS."""
    hu = np.full((80, 60, 50), 40, np.int16)
    hu[10:60, 10:50, 5:45] = -850
    affine = np.diag([4.0, 4.0, 6.0, 1.0])
    affine[:3, 3] = np.array([20, -30, 100]) - affine[:3, :3] @ [34.5, 29.5, 24.5]
    if flip:
        last = affine @ [79, 59, 0, 1]
        affine = affine @ np.diag([-1.0, -1.0, 1.0, 1.0])
        affine[:3, 3] = last[:3]
        hu = hu[::-1, ::-1]
    volume = Volume.from_source(hu, affine)
    labels = np.where(volume.hu < -500, BY_NAME["lung_left"].number, 0).astype(np.uint8)
    return volume, OrganMasks(labels, "test")


def test_the_view_lies_on_the_middle_of_the_lungs():
    np.testing.assert_allclose(middle_of_chest(*chest()), [20, -30, 100], atol=0.1)
    np.testing.assert_allclose(middle_of_chest(*chest(flip=True)), [20, -30, 100], atol=0.1)


def patch_means(volume: Volume, masks: OrganMasks) -> np.ndarray:
    """(8, 8, 8) mean input of every patch of every reading, interleaved as the engine does."""
    box = box_grid(middle_of_chest(volume, masks), VIEW)
    means = np.zeros(patch_grid(box, VIEW).shape)
    for reading in read_box(volume, box, VIEW):
        x, y, z = reading.offset
        means[x::2, y::2, z::2] = reading.image.reshape(4, 8, 4, 8, 4, 4).mean(axis=(1, 3, 5))
    return means


def test_interleaved_readings_see_a_bright_spot_where_their_grid_says():
    volume, masks = chest()
    before = patch_means(volume, masks)
    spot = volume.grid.nearest_voxel((60.0, -60.0, 130.0))
    volume.hu[tuple(slice(at - 2, at + 3) for at in spot)] = 1000
    brighter = patch_means(volume, masks) - before
    patches = patch_grid(box_grid(middle_of_chest(volume, masks), VIEW), VIEW)
    weights = brighter / brighter.sum()
    centre = sum(w * patches.to_mm(np.array(at)) for at, w in np.ndenumerate(weights))
    np.testing.assert_allclose(centre, volume.grid.to_mm(spot), atol=18)  # half a step of 36 mm


def test_an_engine_from_a_folder_gives_the_same_vectors_for_every_storage_order(tiny_assets):
    engine = load_engine("bundled", tiny_assets, tiny_assets / "none", "cpu")
    first, second = (engine.embed_volume(*chest(flip)) for flip in (False, True))
    assert first.vectors.shape == (8, 8, 8, 48)
    np.testing.assert_allclose(np.linalg.norm(first.vectors, axis=-1), 1, atol=1e-4)
    np.testing.assert_allclose(first.grid.affine, second.grid.affine, atol=1e-6)
    np.testing.assert_allclose(first.vectors, second.vectors, atol=2e-2)
    assert first.study_vector.shape == (48,)


def test_sentences_become_unit_vectors_even_without_words(tiny_assets):
    engine = open_folder(tiny_assets / "models" / "bundled")
    vectors = engine.embed_sentences(["a nodule", "", "no effusion"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1], atol=1e-5)
    assert np.isfinite(engine.embed_report(["a nodule", "no effusion"])).all()


def test_reading_a_query_leaves_torchs_threads_and_earlier_answers_as_they_were(tiny_assets):
    engine = open_folder(tiny_assets / "models" / "bundled")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first = engine.embed_sentences(["A nodule.", "No effusion."])
        assert torch.get_num_threads() == 2
        kept = first.copy()
        other = engine.embed_sentences(["No effusion."])
        np.testing.assert_allclose(other[0], first[1], atol=1e-5)
        np.testing.assert_allclose(engine.embed_sentences(["A nodule.", "No effusion."]), kept, atol=1e-6)
        np.testing.assert_array_equal(first, kept)
    finally:
        torch.set_num_threads(before)


def test_what_cannot_run_says_what_is_missing(tiny_assets, tmp_path):
    assert runnable_engines(tiny_assets, tmp_path) == ["bundled"]
    states = {state.name: state for state in list_engines(tiny_assets, tmp_path)}
    assert "ASAP.pth" in states["asap"].lacks
    with pytest.raises(EngineError, match="ASAP.pth"):
        load_engine("asap", tiny_assets, tmp_path)
    with pytest.raises(EngineError, match="Expected one of"):
        load_engine("nonsense", tiny_assets, tmp_path)


def test_a_model_of_ones_own_is_found_in_the_models_folder(tiny_assets, tmp_path):
    (tmp_path / "mine").symlink_to(tiny_assets / "models" / "bundled")
    assert "mine" in runnable_engines(tiny_assets, tmp_path)
    assert load_engine("mine", tiny_assets, tmp_path, "cpu").embed_sentences(["a nodule"]).shape == (1, 48)


def test_weights_that_do_not_fit_are_refused(tiny_assets, tmp_path):
    source = tiny_assets / "models" / "bundled"
    for name in ("tokenizer.json", "engine.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    config = tiny(100)
    smaller = replace(config, vision=replace(config.vision, depth=1))
    save_weights(tmp_path / "model.safetensors", ASAP(smaller), {"config": config_to_json(config)})
    with pytest.raises(CheckpointError, match="Missing"):
        open_folder(tmp_path)
    (tmp_path / "engine.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="EngineSpec"):
        open_folder(tmp_path)
