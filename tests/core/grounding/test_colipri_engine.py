"""COLIPRI's wrapper: its places in the patient; with the package where it is installed, small and random inside."""

import importlib.util

import numpy as np
import pytest

from core.grounding.colipri_engine import BERT, ColipriEngine, in_ras, open_colipri
from core.models.tokens import train_wordpiece
from core.volume import Volume

needs_package = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("colipri", "torchio")),
    reason="the optional package colipri is not installed (requirements-colipri.txt)",
)


@pytest.mark.parametrize("axes", ["RAS", "SAR", "LPI"])
def test_patches_lie_where_their_voxels_do_whatever_the_images_axes(axes):
    """A bright voxel's patch, found in vectors on axes RAS, has its centre within half a patch of the voxel."""
    import nibabel.orientations as nio

    ras, shape = np.diag([2.0, 2.0, 2.0, 1.0]), (16, 24, 32)
    ras[:3, 3] = (-10, 20, 300)
    turn = nio.ornt_transform(nio.axcodes2ornt("RAS"), nio.axcodes2ornt(tuple(axes)))
    image = np.zeros(shape)
    image[3, 17, 30] = 1
    stored = nio.apply_orientation(image, turn)
    affine = ras @ nio.inv_ornt_aff(turn, shape)
    cells = stored.reshape(*(x for n in stored.shape for x in (n // 8, 8))).max(axis=(1, 3, 5))[..., None]
    vectors, grid = in_ras(cells, affine, (8, 8, 8))
    assert vectors.shape == (2, 3, 4, 1)
    np.testing.assert_allclose(grid.affine[:3, :3], np.diag([16.0, 16.0, 16.0]), atol=1e-9)
    place = np.argwhere(vectors[..., 0] > 0)[0]
    true = ras[:3, :3] @ [3, 17, 30] + ras[:3, 3]
    assert np.abs(grid.to_mm(place) - true).max() <= 8


@pytest.fixture(scope="module")
def small():
    """COLIPRI's own code at 48 voxels, width 48 and depth 1, with its own transform."""
    from core.anatomy.torchvision_shim import make_torchvision_importable

    make_torchvision_importable()
    import torch
    from colipri import get_model, get_processor
    from colipri.checkpoint import load_model_config, load_processor_config

    torch.manual_seed(0)
    config = load_model_config(overrides=["input_size=48", "image_embed_dim=48", "projection_dim=48"])
    config.image_encoder.backbone.eva_depth = 1
    config.image_encoder.backbone.eva_numheads = 4
    for encoder in (config.image_encoder, config.text_encoder):
        encoder.pooler.num_heads = 4
    sizes = {"vocab_size": 200, "hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config.text_encoder.backbone = BERT | {"config": BERT["config"] | sizes | {"intermediate_size": 96}}
    processor = get_processor(config=load_processor_config(overrides=["input_size=48", "spacing=8"]), image_only=True)
    tokenizer = train_wordpiece(["a nodule in the left lung, no effusion"], 200)
    return ColipriEngine(get_model(config=config, pretrained=False), processor, tokenizer)


def a_chest(axes: str) -> Volume:
    """Soft tissue with a dense ball at (40, -30, 60) mm, stored along other axes."""
    import nibabel.orientations as nio

    ras = np.diag([6.0, 6.0, 8.0, 1.0])
    ras[:3, 3] = (-170, -160, -150)
    points = (
        np.stack(np.meshgrid(*[np.arange(n) for n in (60, 56, 44)], indexing="ij"), axis=-1) * (6, 6, 8) + ras[:3, 3]
    )
    near = np.linalg.norm(points - (40, -30, 60), axis=-1) < 30
    hu = np.where(near, 900, -700).astype(np.int16)
    turn = nio.ornt_transform(nio.axcodes2ornt("RAS"), nio.axcodes2ornt(tuple(axes)))
    return Volume.from_source(nio.apply_orientation(hu, turn), ras @ nio.inv_ornt_aff(turn, hu.shape))


@needs_package
def test_the_patch_with_the_ball_stands_out_at_its_place_in_every_orientation(small):
    for axes in ("RAS", "LPS", "PIR"):
        volume = a_chest(axes)
        features = small.embed_volume(volume)
        assert features.vectors.shape == (6, 6, 6, 48)
        np.testing.assert_allclose(np.linalg.norm(features.vectors, axis=-1), 1, atol=1e-4)
        plain = Volume(np.full_like(volume.hu, -700), volume.grid, volume.source)
        moved = np.linalg.norm(features.vectors - small.embed_volume(plain).vectors, axis=-1)
        place = np.unravel_index(moved.argmax(), moved.shape)
        assert np.abs(features.grid.to_mm(place) - (40, -30, 60)).max() <= 64  # one patch


@needs_package
def test_texts_and_studies_share_a_space(small):
    vectors = small.embed_sentences(["a nodule", "no effusion in the left lung"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(small.embed_sentences(["a nodule"])[0], vectors[0], atol=1e-4)  # padding says nothing
    report, study = small.embed_report(["a nodule"]), small.embed_volume(a_chest("RAS")).study_vector
    assert report.shape == study.shape == (48,)
    assert 0 < small.presence_probability(0.2, 0.1) < 1


@needs_package
def test_a_file_that_lacks_weights_is_refused(tmp_path):
    import torch
    from safetensors.torch import save_file

    from core.errors import CheckpointError

    save_file({"softmax_temperature": torch.tensor(1.0)}, tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").write_text(train_wordpiece(["a nodule"], 100).to_json())
    with pytest.raises(CheckpointError, match="lacks .* of COLIPRI's weights"):
        open_colipri(tmp_path)
