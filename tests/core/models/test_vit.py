import math

import pytest
import torch
from einops import rearrange

from core.errors import ConfigError
from core.models.mae import class_fractions, mask_patches, patchify, take_tokens, unpatchify
from core.models.vit import PatchEmbed, VisionConfig, VisionTransformer3d, position_code


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
