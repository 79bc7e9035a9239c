"""ASG over flat pictures with boxes, as published: the same losses, regions cut out by RoIAlign."""

import torch
from torch import Tensor
from torch.nn import functional as F

from core.models.asg import ASG, TensorMap
from core.models.words import Words


class FlatASG(ASG):
    """Reads pictures as volumes one voxel deep, `vision.image_size` (rows, columns, 1) with learned positions.

    In place of `organ_mask`, `report_sent` and `sent_organ` its batch holds `boxes` (B, R, 4) float32, left, top,
    right, bottom in patches, and `box_words` (B, R, N) int64, the words of the sentences about each box, counted from
    0 without [CLS], -1 = padding. A box without words is none.
    """

    def pool_regions(self, batch: TensorMap, patches: Tensor) -> Tensor:
        """RoIAlign of patch vectors (B, L, E): (B, R, E)."""
        rows, columns, _ = self.config.vision.grid
        return box_shares(batch["boxes"], rows, columns) @ patches.float()

    def find_words(self, batch: TensorMap, words: Words) -> Tensor:
        """How often each word is listed for each box: (B, R, W) int64."""
        slots = words.vectors.shape[1]
        counts = F.one_hot(batch["box_words"].clamp(min=-1) + 1, slots + 1).sum(dim=2)
        return counts[..., 1:]


def box_shares(boxes: Tensor, rows: int, columns: int) -> Tensor:
    """What each patch counts in RoIAlign with one bin per box: boxes (B, R, 4) -> (B, R, rows * columns).

    RoIAlign (Mask R-CNN, arXiv 1703.06870) with adaptive sampling, corners taken as they are (no half-pixel shift) and
    sides of at least 1 patch: the mean of bilinear samples on a regular lattice, so that a patch's weight is the
    product of a weight per row and one per column.
    """
    left, top, right, bottom = boxes.unbind(dim=-1)
    down, across = _axis_shares(top, bottom, rows), _axis_shares(left, right, columns)
    return (down[..., :, None] * across[..., None, :]).flatten(-2)


def _axis_shares(start: Tensor, end: Tensor, size: int) -> Tensor:
    """Mean weight of the `size` positions of an axis over the samples of each interval: (...) -> (..., size)."""
    length = (end - start).clamp(min=1)
    samples = length.ceil()
    steps = torch.arange(int(samples.max()), device=start.device)
    places = start[..., None] + (steps + 0.5) * (length / samples)[..., None]  # (..., N)
    counted = (steps < samples[..., None]) & (places >= -1) & (places <= size)
    places = places.clamp(0, size - 1)  # beyond the border by at most 1 patch: the border itself
    positions = torch.arange(size, device=start.device)
    tent = (1 - (places[..., None] - positions).abs()).clamp(min=0)  # linear interpolation, as weights of both sides
    return (tent * counted[..., None]).sum(dim=-2) / samples[..., None]
