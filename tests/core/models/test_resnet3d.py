"""The 3-D ResNet: published numbers, published names, and what its switches change."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from asap_golden import check_gradient_norms, thin_out
from visd_golden import VisdGolden, load_visd

from core.errors import ConfigError
from core.models.resnet3d import LEVEL_STRIDES, ResNetConfig, ResNetTokens, subsample_shortcut

TINY = ResNetConfig((2, 3, 4, 5), (1, 2, 1, 1))
WIDTH = 6
IMAGE = (2, 1, 64, 64, 32)


@pytest.fixture(scope="module")
def golden(fixtures: Path) -> VisdGolden:
    return load_visd(fixtures / "visd")


def test_levels_are_the_published_ones(golden):
    with torch.no_grad():
        levels = golden.resnet()(golden.images)
    for number, tokens in enumerate(levels, start=1):
        whole, strided = f"level{number}_tokens", f"level{number}_tokens_strided"
        if whole in golden.expected:
            golden.check(whole, tokens)
        else:  # every n-th token is stored
            golden.check(strided, thin_out(tokens, golden.expected[strided].shape))


def test_gradients_with_a_detached_shortcut_are_the_published_ones(golden):
    trunk = golden.resnet().res_model
    top = trunk(golden.image[:1])[-1]
    (top * torch.linspace(-1, 1, top.numel()).view_as(top)).sum().backward()
    found = {name: parameter.grad for name, parameter in trunk.named_parameters()}
    for name in (name for name in golden.expected if name.startswith("resnet_grad.")):
        golden.check_gradient(name, found[name.removeprefix("resnet_grad.") + ".weight"])
    norms = golden.about["resnet_gradient"]["norms"]
    assert set(norms) == set(found)
    check_gradient_norms(found, norms, golden.about["tolerance"]["gradients"]["rtol"])


def test_a_detached_shortcut_changes_gradients_but_no_output():
    torch.manual_seed(0)
    attached, detached = ResNetTokens(TINY, WIDTH), ResNetTokens(replace(TINY, detach_shortcut=True), WIDTH)
    detached.load_state_dict(attached.state_dict())
    image, found = torch.randn(IMAGE), []
    for encoder in (attached.eval(), detached.eval()):
        out = encoder(image)[-1]
        out.square().sum().backward()
        found.append((out, encoder.res_model.conv1.weight.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.allclose(found[0][1], found[1][1], rtol=1e-3)


def test_shortcut_keeps_every_second_voxel_and_adds_empty_channels():
    features = torch.arange(64.0).view(1, 1, 4, 4, 4)
    short = subsample_shortcut(features, 2, 3)
    assert short[0, 0].flatten().tolist() == [0, 2, 8, 10, 32, 34, 40, 42]
    assert short.shape == (1, 3, 2, 2, 2)
    assert not short[:, 1:].any()


def test_checkpointing_changes_neither_gradients_nor_running_statistics():
    torch.manual_seed(0)
    plain = ResNetTokens(TINY, WIDTH)
    saving = ResNetTokens(replace(TINY, checkpointing=True), WIDTH)
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(IMAGE)
    for encoder in (plain, saving):
        sum(level.square().mean() for level in encoder(image)).backward()
    gradients = [[p.grad for p in encoder.parameters()] for encoder in (plain, saving)]
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(plain.state_dict(), saving.state_dict())
    assert int(saving.state_dict()["res_model.bn1.num_batches_tracked"]) == 1


def test_fewer_levels_are_the_same_tokens_without_the_others():
    torch.manual_seed(0)
    every = ResNetTokens(TINY, WIDTH).eval()
    few = ResNetTokens(replace(TINY, levels=(3, 4)), WIDTH).eval()
    few.load_state_dict(every.state_dict(), strict=False)
    image = torch.randn(IMAGE)
    torch.testing.assert_close(few(image), every(image)[2:])
    assert few.strides == list(LEVEL_STRIDES[2:])
    assert not any(name.startswith(("proj1", "proj2")) for name in few.state_dict())
    assert few.encode_patches(image).shape == (2, 2, 2, 2, TINY.widths[-1])


def test_tokens_lie_where_their_voxels_are():
    """A bright corner at high x, low y and high z is seen by the tokens of that corner, counted (z, y, x)."""
    torch.manual_seed(0)
    encoder = ResNetTokens(TINY, WIDTH).eval()
    dark = torch.zeros(1, 1, 96, 64, 48)
    bright = dark.clone()
    bright[..., -8:, :8, -4:] = 9.0
    with torch.no_grad():
        gap = (encoder(bright)[0] - encoder(dark)[0]).norm(dim=-1).view(24, 16, 24)
        patches, tokens = encoder.encode_patches(bright), encoder.last_level(bright)
        projected = encoder.proj4(patches.permute(0, 4, 3, 2, 1)).flatten(2).transpose(1, 2)
    assert gap[-3:, :3, -3:].max() == gap.max()
    assert gap[:12].max() < 0.01 * gap.max()
    assert patches.shape[1:4] == (3, 2, 3)
    torch.testing.assert_close(projected, tokens)


def test_names_and_sizes_are_the_published_ones(shared):
    rows = [line.split("\t") for line in (shared / "specs/layouts/visd_main.tsv").read_text().splitlines()]
    prefix = "visual_encoder."
    layout = {row[0].removeprefix(prefix): row[1] for row in rows if row[0].startswith(prefix)}
    with torch.device("meta"):
        encoder = ResNetTokens(ResNetConfig(), 256)
    found = {k: "x".join(map(str, v.shape)) or "scalar" for k, v in encoder.state_dict().items()}
    assert found == layout
    assert sum(p.numel() for p in encoder.parameters()) == 33_232_960


@pytest.mark.parametrize("levels", [(1, 2), (4, 3), (0, 4), ()])
def test_impossible_levels_are_refused(levels):
    with pytest.raises(ConfigError, match="levels is"):
        ResNetConfig(levels=levels)


def test_a_volume_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="multiples of"):
        ResNetTokens(TINY, WIDTH)(torch.zeros(1, 1, 48, 32, 16))
