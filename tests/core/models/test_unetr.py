"""The segmenter's shapes on every kind of ViT, and where it reads it."""

import pytest
import torch

from core.errors import ConfigError
from core.models.backbone import Backbone, BackboneConfig, ResNetSizes
from core.models.level_vit import LevelVisionConfig
from core.models.unetr import Segmenter3d, SegmenterConfig
from core.models.vit import VisionConfig

VIT = BackboneConfig(vit=VisionConfig((32, 32, 16), (8, 8, 4), width=24, depth=4, heads=4, mlp_ratio=2))
FLAT = LevelVisionConfig((32, 32, 16), (16, 8, 8), width=24, depth=3, heads=4, mlp_width=48, levels=(1, 2))


@pytest.mark.parametrize(
    "backbone", [VIT, BackboneConfig(level_vit=FLAT), BackboneConfig(vit=VIT.vit, shrink=(2, 2, 2))]
)
def test_logits_lie_on_the_image_s_grid(backbone):
    torch.manual_seed(0)
    model = Segmenter3d(SegmenterConfig(backbone, ("background", "a", "b"), (32, 32, 16), channels=2)).eval()
    with torch.no_grad():
        assert model.segment(torch.zeros(2, 1, 32, 32, 16)).shape == (2, 3, 32, 32, 16)


def test_skips_are_the_published_blocks_and_proportional_elsewhere():
    assert BackboneConfig(vit=VisionConfig()).skips == (4, 7, 10)
    assert BackboneConfig(vit=VisionConfig(depth=6)).skips == (2, 4, 5)


def test_reversed_axes_turn_the_map_back():
    torch.manual_seed(0)
    plain = Backbone(VIT).eval()
    turned = Backbone(BackboneConfig(vit=VIT.vit, reversed_axes=(0, 1))).eval()
    turned.load_state_dict(plain.state_dict())
    images = torch.randn(1, 1, 32, 32, 16)
    with torch.no_grad():
        there = plain.last_tokens(images.flip(2, 3)).patches
        assert torch.equal(turned.last_tokens(images).patches, there.flip(1, 2))


def test_every_weight_learns():
    torch.manual_seed(0)
    model = Segmenter3d(SegmenterConfig(VIT, ("background", "a"), (32, 32, 16), channels=2))
    batch = {"image": torch.randn(1, 1, 32, 32, 16), "voxel_class": torch.randint(0, 2, (1, 32, 32, 16))}
    model(batch)["total"].backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


def test_impossible_sizes_are_refused():
    with pytest.raises(ConfigError, match="multiples of the patch"):
        SegmenterConfig(VIT, ("background", "a"), (30, 32, 16))
    with pytest.raises(ConfigError, match="ViT's blocks"):
        SegmenterConfig(BackboneConfig(resnet=ResNetSizes((64, 64, 32))), ("background", "a"), (64, 64, 32))
    with pytest.raises(ConfigError, match="one encoder"):
        BackboneConfig()
