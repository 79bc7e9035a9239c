"""A chest made of ellipsoids, whose landmarks are known in millimetres, for tests without real CT."""

from dataclasses import dataclass

import numpy as np

from core.volume import Volume

SHAPES = (  # name, label, HU, centre mm (RAS), half axes mm; later ones are painted over earlier ones
    ("body", 0, 0, (0, 0, 0), (160, 105, 400)),
    ("liver", 5, 60, (60, 10, -115), (75, 70, 45)),
    ("spleen", 1, 50, (-85, -35, -105), (35, 35, 35)),
    ("stomach", 6, 40, (-50, 40, -115), (30, 30, 30)),
    ("lung_lower_lobe_right", 14, -850, (75, -5, 10), (55, 75, 100)),
    ("lung_lower_lobe_left", 11, -850, (-78, -5, 10), (50, 75, 100)),
    ("lung_upper_lobe_right", 12, -850, None, None),
    ("lung_middle_lobe_right", 13, -850, None, None),
    ("lung_upper_lobe_left", 10, -850, None, None),
    ("heart", 51, 45, (-20, 15, -25), (48, 42, 50)),
    ("aorta", 52, 45, (-14, -45, 0), (13, 13, 110)),
    ("esophagus", 15, 30, (4, -45, 0), (8, 8, 130)),
    ("trachea", 16, -1000, (4, -20, 95), (9, 9, 55)),
    ("spine", 40, 250, (0, -75, 0), (20, 20, 400)),
    ("spinal_cord", 79, 30, (0, -78, 0), (7, 7, 400)),
    ("sternum", 116, 250, (0, 88, 20), (22, 7, 60)),
)
TOP_MM, BOTTOM_MM = 150.0, -150.0


@dataclass(frozen=True)
class Chest:
    """A synthetic patient."""

    volume: Volume
    labels: np.ndarray  # on the volume's RAS grid


def build_chest(affine, shape, scale=1.0, shift_mm=(0.0, 0.0, 0.0)):
    """The ellipsoid chest, `scale` times as large and shifted, sampled on a source grid."""
    index = np.indices(shape).reshape(3, -1)
    mm = (affine[:3, :3] @ index + affine[:3, 3:4]).reshape(3, *shape)
    at = (mm - np.array(shift_mm)[:, None, None, None]) / scale
    hu = np.full(shape, -1000.0)
    labels = np.zeros(shape, np.uint8)
    for _, label, value, centre, half in SHAPES:
        if centre is None:
            where = _lobe(label, labels, at[2])
        else:
            where = sum(((at[a] - centre[a]) / half[a]) ** 2 for a in range(3)) < 1
        hu[where], labels[where] = value, label
    hu += np.random.default_rng(0).normal(0, 15, shape)
    volume = Volume.from_source(np.clip(hu, -1024, 3071).astype(np.int16), affine)
    return Chest(volume, volume.from_source_array(labels))


def _lobe(label, labels, z):
    """Lobes are slabs of a lung, so that their borders are known."""
    lung, low, high = {12: (14, 40, 999), 13: (14, 0, 40), 10: (11, 20, 999)}[label]
    return (labels == lung) & (z > low) & (z <= high)


def axis_grid(edge_mm, z_mm=(BOTTOM_MM, TOP_MM)):
    """RAS affine and shape of cubes around the chest."""
    low = np.array([-190.0, -130.0, z_mm[0]])
    shape = tuple(int(n) for n in np.ceil((np.array([190.0, 130.0, z_mm[1]]) - low) / edge_mm))
    affine = np.diag([edge_mm, edge_mm, edge_mm, 1.0])
    affine[:3, 3] = low
    return affine, shape
