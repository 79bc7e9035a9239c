import pytest
import torch
from torch.nn import functional as F

from core.models.super_resolution import SuperResolution, enlarge_patch_kernel, shrink_images


def a_head(scale=(2, 2, 2), ends_in_relu=False, channels=1) -> SuperResolution:
    torch.manual_seed(0)
    return SuperResolution(channels, scale, ends_in_relu)


@pytest.mark.parametrize(
    ("start", "size"),
    [
        ((0, 0, 0), (10, 8, 6)),
        ((0, 0, 0), (4, 4, 2)),
        ((3, 2, 2), (4, 3, 2)),
        ((6, 4, 4), (4, 4, 2)),
        ((1, 1, 1), (1, 1, 1)),
    ],
)
def test_a_box_is_cut_from_the_whole_exactly(start, size):
    """In corners, at faces and inside, values and gradients."""
    head, image = a_head(), torch.randn(1, 1, 10, 8, 6, requires_grad=True)
    box = tuple(slice(2 * a, 2 * (a + n)) for a, n in zip(start, size, strict=True))
    whole, part = head(image)[:, :, *box], head.sharpen_box(image, start, size)
    torch.testing.assert_close(part, whole, atol=1e-6, rtol=1e-5)
    weights = torch.randn_like(part)
    of_whole, of_part = (torch.autograd.grad((value * weights).sum(), image)[0] for value in (whole, part))
    torch.testing.assert_close(of_part, of_whole, atol=1e-6, rtol=1e-5)


def test_a_smaller_halo_would_not_do():
    """One voxel is enough for the interpolation or for the convolutions, not for both."""
    head, image = a_head(), torch.randn(1, 1, 12, 6, 6)
    narrow = head(image[:, :, 3:9])[:, :, 2:-2]
    assert (narrow - head(image)[:, :, 8:16]).abs().max() > 1e-3


def test_flat_pictures_are_sharpened_like_pictures():
    head = a_head((2, 2, 1), ends_in_relu=True, channels=3)
    picture = torch.randn(2, 3, 6, 5)
    large = F.interpolate(picture, scale_factor=2, mode="bilinear", align_corners=False)
    first, second = ((conv.weight[..., 0], conv.bias) for conv in (head.conv1, head.conv2))
    sharp = F.relu(F.conv2d(F.relu(F.conv2d(large, *first, padding=1)), *second, padding=1) + large)
    torch.testing.assert_close(head(picture[..., None])[..., 0], sharp, atol=1e-6, rtol=1e-5)


def test_only_the_released_head_cannot_reach_below_zero():
    dark = torch.full((1, 1, 4, 4, 4), -5.0)
    assert a_head(ends_in_relu=True)(dark).min() >= 0
    assert a_head()(dark).mean() < -3


def test_shrinking_by_two_is_trilinear():
    image = torch.randn(1, 1, 8, 6, 4)
    halved = F.interpolate(image, scale_factor=0.5, mode="trilinear", align_corners=False)
    torch.testing.assert_close(shrink_images(image, (2, 2, 2), "mean"), halved, atol=1e-6, rtol=1e-5)


def test_shrinking_keeps_the_mean_and_the_place():
    image = torch.zeros(1, 1, 8, 8, 8)
    image[0, 0, 5, 2, 7] = 8
    small = shrink_images(image, (2, 2, 2), "mean")
    assert small[0, 0, 2, 1, 3].item() == 1
    assert small.sum().item() == 1


def test_an_enlarged_kernel_reads_whole_images():
    """Embedding the shrunken image and the image itself are the same numbers."""
    torch.manual_seed(0)
    kernel, image = torch.randn(5, 1, 4, 4, 2), torch.randn(2, 1, 16, 16, 8)
    small = F.conv3d(shrink_images(image, (2, 2, 2), "mean"), kernel, stride=(4, 4, 2))
    large = F.conv3d(image, enlarge_patch_kernel(kernel, (2, 2, 2)), stride=(8, 8, 4))
    torch.testing.assert_close(large, small, atol=1e-5, rtol=1e-5)
