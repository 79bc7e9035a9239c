"""The atlas as it is laid onto a patient, and its mirror image for mirrored patients."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from core.anatomy.atlas import Atlas
from core.anatomy.comparison import compare_by
from core.anatomy.lungs import Lungs
from core.anatomy.registration import COARSE_MM, FINE_MM, Channels
from core.structures import BY_NAME, LOBES_LEFT, LOBES_RIGHT
from core.volume import Grid


class Pattern(NamedTuple):
    """What is compared with a patient and what is carried over."""

    channels: Sequence[Channels]
    """Coarse, then fine."""
    labels: np.ndarray
    """(X, Y, Z) uint8, numbers of `core.structures`."""
    grid: Grid
    """Where the labels lie; no rotation."""


def pattern_of(atlas: Atlas) -> Pattern:
    """The atlas as it is."""
    lungs = Lungs(atlas.mask("lung_left"), atlas.mask("lung_right"))
    channels = [compare_by(atlas.frame, atlas.body, lungs, edge) for edge in (COARSE_MM, FINE_MM)]
    return Pattern(channels, atlas.frame_labels, atlas.frame.grid)


def mirrored(pattern: Pattern) -> Pattern:
    """Left and right exchanged about the plane x = 0 mm; each lung is one piece, named by where it now lies."""
    channels = [_mirror_channels(one) for one in pattern.channels]
    table = np.arange(256, dtype=np.uint8)
    table[[BY_NAME[name].number for name in LOBES_LEFT]] = BY_NAME["lung_right"].number
    table[[BY_NAME[name].number for name in LOBES_RIGHT]] = BY_NAME["lung_left"].number
    return Pattern(channels, table[pattern.labels[::-1]], _mirror_grid(pattern.grid))


def _mirror_channels(channels: Channels) -> Channels:
    sides, soft = channels.values[:, ::-1]
    return Channels(np.stack([-sides, soft]), channels.weight[::-1].copy(), _mirror_grid(channels.grid))


def _mirror_grid(grid: Grid) -> Grid:
    """The grid of an array that was reversed along x, at the mirrored place."""
    affine = grid.affine.copy()
    affine[0, 3] = -grid.to_mm((grid.shape[0] - 1, 0, 0))[0]
    return Grid(grid.shape, affine)
