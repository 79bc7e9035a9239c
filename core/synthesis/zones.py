"""In which part of its lobe a painted finding lies: words of `places.ZONES` that its voxels make true."""

import numpy as np
from scipy import ndimage

from core.structures import side_of
from core.synthesis.scene import Finding, Scene, bounding_box

THIRD = 0.3
"""A finding is apical when the share of its lobe that lies above its middle is below this; other ends likewise."""
SUBPLEURAL_MM = 12.0
PERIPHERAL_MM = 22.0
"""Largest distance of its middle from the surface of the lung."""
SMALL_SHARE = 0.3
"""A finding that fills more of its lobe has no zone."""


def zones_of(scene: Scene, finding: Finding) -> tuple[str, ...]:
    """Zones of a lung finding that lies in one lobe; () for any other, or one that fills much of the lobe."""
    organs = finding.claim.organs
    if len(organs) != 1 or "lobe" not in organs[0] or not finding.mask.any():
        return ()
    lobe = scene.mask(organs[0]) | finding.mask
    if finding.mask.sum() > SMALL_SHARE * lobe.sum():
        return ()
    middle = np.argwhere(finding.mask).mean(axis=0)
    below = [float((np.argwhere(lobe)[:, axis] < middle[axis]).mean()) for axis in range(3)]
    words = _directions(organs[0], below)
    return words if "medial" in words else (*words, *_depth(scene, side_of(organs[0]), middle))


def _directions(lobe: str, below: list[float]) -> tuple[str, ...]:
    """Zones by the share of the lobe that lies to the left of, behind and below the finding's middle."""
    to_side = below[0] if side_of(lobe) == "right" else 1.0 - below[0]  # x grows to the right
    words = []
    if "upper" in lobe and below[2] > 1 - THIRD:
        words.append("apical")
    if lobe == "lung_upper_lobe_left" and below[2] < THIRD and below[1] > 0.5:
        words.append("lingular")
    if "lower" in lobe and below[2] < THIRD:
        words.append("basal")
    words += ["anterior"] if below[1] > 1 - THIRD else ["posterior"] if below[1] < THIRD else []
    words += ["lateral"] if to_side > 1 - THIRD else ["medial"] if to_side < THIRD else []
    return tuple(words)


def _depth(scene: Scene, side: str, middle: np.ndarray) -> tuple[str, ...]:
    """ "subpleural" or "peripheral" by the distance of the middle from the outside of its lung."""
    lung = scene.mask(f"lung_{side}")
    box = bounding_box(lung, margin=1)
    if box is None:
        return ()
    filled = ndimage.binary_closing(lung[box], iterations=2)
    distance = ndimage.distance_transform_edt(filled, sampling=scene.spacing_mm)
    place = np.rint(middle).astype(int) - [part.start for part in box]
    if (place < 0).any() or (place >= filled.shape).any():
        return ()
    depth_mm = float(distance[tuple(place)])
    return ("subpleural",) if depth_mm <= SUBPLEURAL_MM else ("peripheral",) if depth_mm <= PERIPHERAL_MM else ()
