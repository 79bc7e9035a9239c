"""Reading a volume window by window and averaging where windows overlap."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from core.preprocess import Size3
from core.progress import Progress, silent


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """First voxels of the windows along an axis of `length` >= `window`; the last ends with the axis."""
    if not 0 <= overlap < 1:
        raise ConfigError(f"overlap is {overlap}; expected [0, 1).")
    step = max(1, int(window * (1 - overlap)))
    return [min(start, length - window) for start in range(0, length - window + step, step)]


def slide(
    image: Tensor,
    predict: Callable[[Tensor], Tensor],
    window: Size3,
    overlap: float = 0.5,
    fill: float = 0.0,
    progress: Progress = silent,
) -> Tensor:
    """Mean over windows of `predict`: image (1, 1, X, Y, Z) -> (C, X, Y, Z) float32 on the CPU.

    predict: (1, 1, *window) -> (1, C, *window). A shorter image is padded with `fill` on both sides and cut back.
    """
    missing = [max(0, n - length) for n, length in zip(window, image.shape[2:], strict=True)]
    pads = [(gap // 2, gap - gap // 2) for gap in missing]
    image = F.pad(image, [end for pair in reversed(pads) for end in pair], value=fill)
    axes = [window_starts(n, w, overlap) for n, w in zip(image.shape[2:], window, strict=True)]
    places = list(product(*axes))
    total, visits = torch.zeros(0), torch.zeros(image.shape[2:])
    for done, (x, y, z) in enumerate(places):
        progress(done / len(places), f"Window {done + 1} of {len(places)}")
        box = (slice(x, x + window[0]), slice(y, y + window[1]), slice(z, z + window[2]))
        found = predict(image[(..., *box)])[0].float().cpu()
        if not done:
            total = torch.zeros(len(found), *image.shape[2:])
        total[(slice(None), *box)] += found
        visits[box] += 1
    inside = tuple(slice(before, n - after) for (before, after), n in zip(pads, image.shape[2:], strict=True))
    return (total / visits)[(slice(None), *inside)]
