"""Weights that a published layout holds and no computation reads: zeros of which memory holds nothing until they load.

A system hands out memory that was never written as one shared page of zeros, and counts none of it.
"""

import numpy as np
import torch
from torch import nn

_MATRIX = 2
"""Axes from which on a weight is large."""


def leave_untouched(module: nn.Module) -> None:
    """Make all matrices of a module zeros, on a CPU in float32 of pages that were never written."""
    for parameter in module.parameters():
        if parameter.ndim < _MATRIX:
            continue
        if parameter.device.type == "cpu" and parameter.dtype == torch.float32:
            parameter.data = torch.from_numpy(np.zeros(parameter.shape, np.float32))
        else:
            parameter.data = torch.zeros_like(parameter)
