"""ECAMP's super-resolution head: a prediction at twice its resolution, computed inside a window only (spec 3, 8.6)."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from core.models.vit import Size3

Shrink = Literal["mean", "bicubic", "bicubic_antialias"]
HALO = 2
"""Voxels around a window that its result depends on: one for the interpolation, one for two convolutions at scale 2."""


def shrink_images(images: Tensor, scale: Size3, how: Shrink) -> Tensor:
    """Images (B, C, X, Y, Z) at 1/scale of their resolution.

    mean averages blocks, which at a factor of 2 is the trilinear interpolation. bicubic is for flat pictures (Z = 1):
    without antialias as ECAMP's pinned torchvision has it, with as newer ones do.
    """
    if how == "mean":
        return F.avg_pool3d(images, scale)
    size = [n // s for n, s in zip(images.shape[2:4], scale[:2], strict=True)]
    antialias = how == "bicubic_antialias"
    return F.interpolate(images[..., 0], size, mode="bicubic", align_corners=False, antialias=antialias)[..., None]


def enlarge_patch_kernel(kernel: Tensor, scale: Size3) -> Tensor:
    """Kernel (D, C, px, py, pz) for shrunken images -> the one that embeds the images themselves alike.

    With `shrink_images(..., "mean")`, embedding the shrunken image with `kernel` and the image with this one are the
    same linear map, so that a model trained on shrunken images reads whole ones.
    """
    for axis, factor in zip((2, 3, 4), scale, strict=True):
        kernel = kernel.repeat_interleave(factor, dim=axis) / factor
    return kernel


class SuperResolution(nn.Module):
    """Linear interpolation, two convolutions, and their sum: (B, C, X, Y, Z) -> (B, C, sX, sY, sZ)."""

    def __init__(self, channels: int, scale: Size3, ends_in_relu: bool) -> None:
        """An axis whose scale is 1 is flat: nothing is mixed along it. ends_in_relu: as released; no value below 0."""
        super().__init__()
        self.scale, self.ends_in_relu = scale, ends_in_relu
        reach = [1 if factor > 1 else 0 for factor in scale]
        kernel = (2 * reach[0] + 1, 2 * reach[1] + 1, 2 * reach[2] + 1)
        padding = (reach[0], reach[1], reach[2])
        self.conv1, self.conv2 = (nn.Conv3d(channels, channels, kernel, padding=padding) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        factors = [float(factor) for factor in self.scale]
        large = F.interpolate(images, scale_factor=factors, mode="trilinear", align_corners=False)
        sharp = self.conv2(F.relu(self.conv1(large))) + large
        return F.relu(sharp) if self.ends_in_relu else sharp

    def sharpen_box(self, image: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
        """What `forward` gives inside one box of one image, without computing the rest.

        image (1, C, X, Y, Z); start and size in its voxels -> (1, C, sx*size_x, sy*size_y, sz*size_z).
        """
        low = [max(0, first - HALO) for first in start]
        high = [min(n, first + length + HALO) for n, first, length in zip(image.shape[2:], start, size, strict=True)]
        sharp = self(image[:, :, low[0] : high[0], low[1] : high[1], low[2] : high[2]])
        for axis, (first, edge, length, factor) in enumerate(zip(start, low, size, self.scale, strict=True)):
            sharp = sharp.narrow(2 + axis, factor * (first - edge), factor * length)
        return sharp
