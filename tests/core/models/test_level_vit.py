"""fVLM's encoder: axes, levels, table and refusals."""

import pytest
import torch
from einops import rearrange

from core.errors import ConfigError
from core.models.level_vit import LevelVisionConfig, LevelVisionTransformer3d, inflate_table, resize_table

SMALL = LevelVisionConfig((16, 12, 8), (8, 4, 2), width=12, depth=3, heads=2, mlp_width=30, levels=(1, 3))


def test_sizes_turn_with_the_axes():
    assert (SMALL.inner_patch, SMALL.inner_grid) == ((2, 4, 8), (4, 3, 2))
    vision = LevelVisionConfig()
    assert (vision.inner_grid, vision.inner_patch) == ((7, 16, 11), (16, 16, 32))
    assert vision.norm_eps == 1e-5  # parity at 1e-6 would pass as well, so look


def test_a_token_answers_to_its_own_patch_on_both_axis_orders():
    """Without position and blocks a bright patch (1, 2, 3) of (x, y, z) lights up one token, at that place."""
    for order, row in (("zyx", (3 * 3 + 2) * 2 + 1), ("xyz", (1 * 3 + 2) * 4 + 3)):
        vision = LevelVisionConfig((16, 12, 8), (8, 4, 2), order, 12, 0, 2, 30, levels=())
        model = LevelVisionTransformer3d(vision).eval()
        torch.nn.init.zeros_(model.pos_embed)
        image = torch.zeros(1, 1, 16, 12, 8)
        image[0, 0, 8:16, 8:12, 6:8] = torch.rand(8, 4, 2)
        assert model.embed_patches(image)[0].sub(model.patch_embed.proj.bias).abs().sum(dim=1).nonzero().item() == row
        lit = model.encode_patches(image)[0]
        dull = model.encode_patches(torch.zeros_like(image))[0]
        assert (lit - dull).abs().sum(dim=-1).gt(1e-6).nonzero().tolist() == [[1, 2, 3]]


def test_levels_are_the_blocks_outputs_and_the_last_norm():
    model = LevelVisionTransformer3d(SMALL).eval()
    image = torch.rand(2, 1, 16, 12, 8)
    first, last, normed = model(image)
    torch.testing.assert_close(first, model.blocks[0](model.embed_patches(image)))
    torch.testing.assert_close(normed, model.norm(last))
    assert model.blocks[0].mlp.fc1.out_features == 30


def test_dropout_acts_in_training_only():
    model, image = LevelVisionTransformer3d(SMALL), torch.rand(1, 1, 16, 12, 8)
    assert not torch.equal(model(image)[-1], model(image)[-1])
    model.eval()
    assert torch.equal(model(image)[-1], model(image)[-1])


def test_tables_of_linear_functions_stay_linear_between_their_middles():
    z, y, x = torch.meshgrid(torch.arange(2.0), torch.arange(4.0), torch.arange(3.0), indexing="ij")
    table = rearrange(torch.stack([z, y, x]), "d z y x -> 1 (z y x) d")
    assert resize_table(table, (2, 4, 3), (2, 4, 3)) is table
    doubled = rearrange(resize_table(table, (2, 4, 3), (2, 8, 3)), "1 (z y x) d -> d z y x", y=8, x=3)
    expected = (torch.arange(8.0) + 0.5) / 2 - 0.5
    torch.testing.assert_close(doubled[1, 0, :, 0], expected.clamp(0, 3))
    torch.testing.assert_close(doubled[0, 1], torch.ones(8, 3))


def test_a_flat_table_is_repeated_plane_by_plane_without_its_cls():
    flat = torch.cat([torch.full((1, 1, 1), 99.0), torch.arange(4.0).reshape(1, 4, 1)], dim=1)
    assert inflate_table(flat, (3, 2, 2)).flatten().tolist() == [0, 1, 2, 3] * 3
    assert inflate_table(flat, (1, 4, 2)).max() < 99


@pytest.mark.parametrize(
    "wrong", [{"patch_size": (5, 4, 2)}, {"levels": (3, 1)}, {"levels": (4,)}, {"heads": 5}, {"dropout": 1.0}]
)
def test_impossible_configs_are_refused(wrong):
    fitting = {"image_size": (16, 12, 8), "patch_size": (8, 4, 2), "width": 12, "depth": 3, "heads": 2, "levels": (1,)}
    with pytest.raises(ConfigError):
        LevelVisionConfig(**(fitting | wrong))


def test_images_of_broken_patches_are_refused():
    with pytest.raises(ConfigError, match="multiples of"):
        LevelVisionTransformer3d(SMALL)(torch.zeros(1, 1, 16, 12, 7))
