import math

import pytest
import torch
from einops import rearrange

from core.errors import ConfigError
from core.models.mae import class_fractions, mask_patches, patchify, unpatchify
from core.models.vit import PatchEmbed, VisionConfig, VisionTransformer3d, position_code, take_tokens


def a_config() -> VisionConfig:
    return VisionConfig((32, 24, 16), (8, 8, 4), width=26, depth=1, heads=2, mlp_ratio=2)


def test_position_code_is_the_formula_at_one_place():
    """Width 12: two frequencies per axis, 1 and 1/100; patch (1, 2, 3) of a 2x3x4 grid is number 23."""
    code = position_code((2, 3, 4), 12)[0]
    by_hand = [f(p * w) for p in (1, 2, 3) for f in (math.sin, math.cos) for w in (1.0, 0.01)]
    torch.testing.assert_close(code[1 + 23], torch.tensor(by_hand))
    assert code[0].abs().max() == 0


def test_width_that_six_does_not_divide_ends_in_zeros():
    code = position_code((2, 2, 2), 26)
    assert code.shape == (1, 9, 26)
    assert code[..., 24:].abs().max() == 0
    torch.testing.assert_close(code[..., :24], position_code((2, 2, 2), 24))


def test_every_patch_has_its_own_code():
    code = position_code((5, 4, 3), 24)[0]
    assert torch.cdist(code, code).fill_diagonal_(1).min() > 0.1


def test_flat_pictures_code_their_second_axis_first():
    """Width 8, patch (1, 2) of a 2x3 picture: y = 2 then x = 1, frequencies 1 and 1/100; slow: 1 and 10000^(-1/8)."""
    for slow, second in ((False, 0.01), (True, 10000 ** (-1 / 8))):
        code = position_code((2, 3, 1), 8, axes=(1, 0), slow=slow)[0]
        by_hand = [f(p * w) for p in (2, 1) for f in (math.sin, math.cos) for w in (1.0, second)]
        torch.testing.assert_close(code[1 + 5], torch.tensor(by_hand))


def test_channels_of_a_voxel_stay_together():
    """Patch 1 of a 4x2 picture of two colours cut into 2x2 patches: values (x, y, colour), colour innermost."""
    picture = torch.arange(16.0).reshape(1, 2, 4, 2, 1)
    patches = patchify(picture, (2, 2, 1))
    assert patches[0, 1].tolist() == [4, 12, 5, 13, 6, 14, 7, 15]
    assert torch.equal(unpatchify(patches, (2, 2, 1), (2, 1, 1)), picture)


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"coded_axes": (0, 3)}, {"coded_axes": ()}, {"width": 4}])
def test_impossible_codes_are_refused(wrong):
    with pytest.raises(ConfigError):
        VisionConfig(**({"heads": 1, "width": 8} | wrong))


def test_strided_embedding_is_the_patchwise_one():
    torch.manual_seed(0)
    embed, images = PatchEmbed((8, 8, 4), 10), torch.randn(2, 1, 16, 24, 8)
    patches = patchify(images, (8, 8, 4))
    by_patch = patches @ embed.proj.weight.flatten(1).T + embed.proj.bias
    torch.testing.assert_close(rearrange(embed(images), "b d x y z -> b (x y z) d"), by_patch, atol=1e-5, rtol=1e-5)


def test_a_bright_voxel_lands_in_its_patch_and_comes_back():
    """Voxel (17, 9, 13) lies in patch (2, 1, 3) of the 4x3x4 grid, number 2*12 + 1*4 + 3 = 31."""
    images = torch.zeros(1, 1, 32, 24, 16)
    images[0, 0, 17, 9, 13] = 7
    patches = patchify(images, (8, 8, 4))
    assert patches.amax(dim=-1).argmax().item() == 31
    assert torch.equal(unpatchify(patches, (8, 8, 4), (4, 3, 4)), images)


def test_unequal_grid_keeps_its_axes():
    torch.manual_seed(0)
    model = VisionTransformer3d(a_config()).eval()
    tokens = model.encode_patches(torch.randn(1, 1, 32, 24, 16))
    assert tokens.shape == (1, 4, 3, 4, 26)


def test_a_crop_of_another_size_uses_the_same_formula():
    torch.manual_seed(0)
    model = VisionTransformer3d(a_config()).eval()
    images = torch.randn(1, 1, 40, 24, 8)
    expected = position_code((5, 3, 2), 26)[:, 1:]
    plain = rearrange(model.patch_embed(images), "b d x y z -> b (x y z) d")
    torch.testing.assert_close(model.embed_patches(images) - plain, expected, atol=1e-5, rtol=1e-5)


def test_published_share_of_patches_stays_visible():
    assert mask_patches(torch.rand(1, 2744), 0.75).keep.shape == (1, 686)


def test_masking_keeps_the_smallest_noise_and_can_be_undone():
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.3]])
    masking = mask_patches(noise, 0.5)
    assert masking.keep.tolist() == [[1, 3]]
    assert masking.hidden.tolist() == [[True, False, True, False]]
    tokens = torch.arange(4.0)[None, :, None]
    assert torch.equal(take_tokens(take_tokens(tokens, masking.order), masking.restore), tokens)


def test_class_fractions_are_the_counted_ones():
    labels = torch.randint(0, 9, (2, 16, 16, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    fractions = class_fractions(labels, 9, (8, 8, 4))
    counted = torch.nn.functional.one_hot(patchify(labels[:, None].long(), (8, 8, 4)), 9).float().mean(dim=2)
    torch.testing.assert_close(fractions, counted)
    torch.testing.assert_close(fractions.sum(dim=-1), torch.ones(2, 8))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"image_size": (30, 24, 16)}, r"patch_size \(8, 8, 4\) must divide"),
        ({"width": 25}, "not a multiple of 2 attention heads"),
        ({"width": 4}, "at least 6"),
    ],
)
def test_impossible_sizes_are_refused(sizes, words):
    with pytest.raises(ConfigError, match=words):
        VisionConfig(**{**vars(a_config()), **sizes})
