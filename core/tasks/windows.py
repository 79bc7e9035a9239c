"""A network's answer to a whole volume, window by window."""

from collections.abc import Callable, Sequence
from itertools import product
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError


def place_windows(size: int, window: int, overlap: float) -> list[int]:
    """Starts of windows along one axis; the last is moved back to end with the axis, size >= window.

    Steps are floor(window * (1 - overlap)) voxels, at least 1, as in MONAI's sliding-window inference.
    """
    step = window if size == window else max(int(window * (1 - overlap)), 1)
    return [min(number * step, size - window) for number in range(ceil((size - window) / step) + 1)]


@torch.no_grad()
def slide_network(
    network: Callable[[Tensor], Tensor],
    volume: Tensor,
    window: Sequence[int],
    overlap: float = 0.75,
    at_once: int = 1,
    fill: float = 0.0,
) -> Tensor:
    """Mean of the answers of all windows at each voxel: volume (1, C, X, Y, Z) -> (1, K, X, Y, Z).

    network: (B, C, *window) -> (B, K, *window). An axis thinner than the window is filled up with `fill` on both sides
    (the odd voxel at the far one), and cut back. at_once: windows in one call. Raises ConfigError on an overlap
    outside [0, 1).
    """
    if not 0 <= overlap < 1 or volume.shape[0] != 1:
        raise ConfigError(f"Expected one volume and 0 <= overlap < 1, got {volume.shape[0]} and {overlap}.")
    thin = [max(w - n, 0) for n, w in zip(volume.shape[2:], window, strict=True)]
    padded = F.pad(volume, [part for gap in reversed(thin) for part in (gap // 2, gap - gap // 2)], value=fill)
    places = product(*(place_windows(n, w, overlap) for n, w in zip(padded.shape[2:], window, strict=True)))
    boxes = [tuple(slice(at, at + w) for at, w in zip(place, window, strict=True)) for place in places]
    total, count = torch.zeros(0), torch.zeros_like(padded[:1, :1])
    for first in range(0, len(boxes), at_once):
        group = boxes[first : first + at_once]
        answers = network(torch.cat([padded[:, :, *box] for box in group]))
        if not total.numel():
            total = answers.new_zeros((1, answers.shape[1], *padded.shape[2:]))
        for box, answer in zip(group, answers, strict=True):
            total[0][(slice(None), *box)] += answer
            count[0][(slice(None), *box)] += 1
    inside = tuple(slice(gap // 2, gap // 2 + n) for gap, n in zip(thin, volume.shape[2:], strict=True))
    return (total / count)[:, :, *inside]
