"""What scanners write outside their circle: raised to one value when a CT is read, and kept for who wants it."""

from typing import NamedTuple

import numpy as np

PADDING_HU = -1024
"""Everything below is padding outside the scanner's circle and is raised to this."""


class Padding(NamedTuple):
    """The voxels of an array that were raised, and what they were."""

    below: np.ndarray  # (ceil(voxels / 8),) uint8, one bit a voxel in C order, 1 = raised
    values: np.ndarray  # (N,) int16 HU of the raised voxels in C order, or (1,) when they are all the same

    @property
    def lowest(self) -> int:
        """HU."""
        return int(self.values.min())

    def put_back(self, hu: np.ndarray) -> np.ndarray:
        """A copy of the array as it was before it was raised: (X, Y, Z) int16."""
        stored = hu.copy()
        is_below = np.unpackbits(self.below, count=hu.size).view(bool).reshape(hu.shape)
        stored[is_below] = self.values
        return stored


def raise_padding(hu: np.ndarray) -> Padding | None:
    """Raise values below `PADDING_HU` in place; what they were, or None if nothing was below. hu: (X, Y, Z) int16."""
    if int(hu.min()) >= PADDING_HU:
        return None
    is_below = hu < PADDING_HU
    values = hu[is_below]
    hu[is_below] = PADDING_HU
    return Padding(np.packbits(is_below), values[:1] if (values == values[0]).all() else values)
