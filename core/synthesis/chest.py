"""The phantom's anatomy: which tissue is at a point of the body, and how dense it is."""

from dataclasses import dataclass

import numpy as np

from core.structures import BY_NAME

SOFTNESS_MM = 1.0
"""Least width of a painted edge."""
AIR_HU, LUNG_HU, FAT_HU, MUSCLE_HU = -1000.0, -850.0, -100.0, 50.0
ORGANS_HU = {
    "heart": 45.0,
    "aorta": 45.0,
    "esophagus": 30.0,
    "liver": 60.0,
    "spleen": 50.0,
    "stomach": 20.0,
    "spinal_cord": 35.0,
    "trachea": AIR_HU,
    "airway": AIR_HU,
    "sternum": 350.0,
    "spine": 320.0,
    "ribs": 400.0,
}
"""Density of each painted organ in HU."""
VESSEL_WAVES = 7
"""Plane waves summed per random field; two fields' common zeros are the vessels."""


@dataclass(eq=False)
class Tissue:
    """What is being painted; arrays are changed in place."""

    hu: np.ndarray
    """(X, Y, Z) float32 HU."""
    labels: np.ndarray
    """(X, Y, Z) uint8 numbers of `core.structures`."""

    def paint(self, name: str, where: np.ndarray) -> None:
        """Make `where` (X, Y, Z) bool the organ `name`."""
        self.hu[where] = ORGANS_HU[name]
        self.labels[where] = BY_NAME[name].number


def paint_chest(points: np.ndarray) -> Tissue:
    """Every organ of the chest at `points`, (3, X, Y, Z) body mm."""
    tissue = paint_empty_body(points)
    lung = {"left": _lung(points, -1), "right": _lung(points, 1)}
    _paint_abdomen(tissue, points)
    for side, where in lung.items():
        _paint_lobes(tissue, points, where, side)
    _paint_vessels(tissue, points, lung["left"] | lung["right"])
    _paint_mediastinum(tissue, points)
    _paint_bones(tissue, points, lung["left"] | lung["right"])
    return tissue


def paint_empty_body(points: np.ndarray) -> Tissue:
    """Skin, fat and muscle without organs."""
    radius = _body_radius(points)
    hu = np.full(radius.shape, AIR_HU, np.float32)
    labels = np.zeros(radius.shape, np.uint8)
    for name, limit, density in (("subcutaneous_fat", 1.0, FAT_HU), ("skeletal_muscle", 0.9, MUSCLE_HU)):
        hu[radius < limit] = density
        labels[radius < limit] = BY_NAME[name].number
    inner = radius < 0.8
    hu[inner], labels[inner] = 30.0, BY_NAME["body"].number
    return Tissue(hu, labels)


def _body_radius(points: np.ndarray) -> np.ndarray:
    """0 in the middle, 1 on the skin of an elliptic trunk that narrows towards the neck."""
    x, y, z = points
    narrowing = 1.0 - 0.35 * np.clip((z - 100.0) / 60.0, 0.0, 1.0)
    return np.sqrt((x / (165.0 * narrowing)) ** 2 + (y / (112.0 * narrowing)) ** 2)


def _ellipsoid(points: np.ndarray, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    scaled = [(axis - c) / r for axis, c, r in zip(points, centre, radii, strict=True)]
    return scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2 < 1.0


def _tube(
    points: np.ndarray, start: tuple[float, float, float], end: tuple[float, float, float], radius: float
) -> np.ndarray:
    """Points within `radius` of the segment from `start` to `end`."""
    first, along = np.array(start, np.float32), np.subtract(end, start).astype(np.float32)
    offset = points - first[:, None, None, None]
    share = np.clip(np.einsum("i,ixyz->xyz", along, offset) / (along @ along), 0.0, 1.0)
    return ((offset - share * along[:, None, None, None]) ** 2).sum(axis=0) < radius**2


def _lung(points: np.ndarray, sign: int) -> np.ndarray:
    """One lung: elliptic, rounded at the apex, hollowed by the diaphragm. `sign` +1 = right."""
    x, y, z = points
    centre_x = 76.0 * sign
    rounding = np.sqrt(np.clip(1.0 - (np.clip(z - 10.0, 0.0, None) / 118.0) ** 2, 0.0, 1.0))
    inside = ((x - centre_x) / 60.0) ** 2 + ((y + 2.0) / 86.0) ** 2 < rounding**2
    dome = -110.0 + 50.0 * np.exp(-(((x - centre_x) / 45.0) ** 2) - ((y - 8.0) / 60.0) ** 2)
    return inside & (z > dome) & (z < 128.0)


def _paint_lobes(tissue: Tissue, points: np.ndarray, lung: np.ndarray, side: str) -> None:
    """Divide a lung by its oblique fissure, and the right one by the horizontal fissure too."""
    _, y, z = points
    tissue.hu[lung] = LUNG_HU
    is_upper = z > -15.0 - 1.1 * y
    tissue.labels[lung & is_upper] = BY_NAME[f"lung_upper_lobe_{side}"].number
    tissue.labels[lung & ~is_upper] = BY_NAME[f"lung_lower_lobe_{side}"].number
    if side == "right":
        tissue.labels[lung & is_upper & (z < 5.0)] = BY_NAME["lung_middle_lobe_right"].number


def _paint_vessels(tissue: Tissue, points: np.ndarray, lung: np.ndarray) -> None:
    """Tubes where two smooth random fields vanish together; the same in every scan of the phantom."""
    rng = np.random.default_rng(20)
    places = points[:, lung]
    squares = np.zeros(places.shape[1], np.float32)
    for _ in range(2):
        waves = rng.normal(0.0, 0.085, (VESSEL_WAVES, 3)).astype(np.float32)
        phases = rng.uniform(0.0, 2 * np.pi, (VESSEL_WAVES, 1)).astype(np.float32)
        squares += np.cos(waves @ places + phases).sum(axis=0) ** 2
    tissue.hu[lung] += 700.0 * np.exp(-squares / 0.12)


def _paint_mediastinum(tissue: Tissue, points: np.ndarray) -> None:
    x, _, z = points
    tissue.paint("heart", _ellipsoid(points, (-22.0, 28.0, -45.0), (58.0, 46.0, 52.0)))
    tissue.paint("esophagus", _tube(points, (-4.0, -36.0, -160.0), (0.0, -28.0, 150.0), 7.0))
    arch = ((14.0, 18.0, -10.0), (14.0, 14.0, 48.0), (-2.0, -8.0, 66.0), (-24.0, -36.0, 48.0), (-24.0, -42.0, -160.0))
    for start, end in zip(arch, arch[1:], strict=False):
        tissue.paint("aorta", _tube(points, start, end, 13.0))
    tissue.paint("trachea", _tube(points, (0.0, -12.0, 28.0), (0.0, -6.0, 175.0), 8.5))
    for sign in (-1.0, 1.0):
        tissue.paint("airway", _tube(points, (0.0, -12.0, 30.0), (sign * 42.0, -18.0, 2.0), 6.5))
        tissue.paint("airway", _tube(points, (sign * 42.0, -18.0, 2.0), (sign * 62.0, -30.0, -35.0), 3.5))
    is_behind = (np.abs(x) < 12.0) & (z > -90.0) & (z < 100.0)
    tissue.paint("sternum", is_behind & _ellipsoid(points, (0.0, 96.0, 5.0), (14.0, 7.0, 95.0)))


def _paint_bones(tissue: Tissue, points: np.ndarray, lung: np.ndarray) -> None:
    x, y, z = points
    vertebra = (x / 20.0) ** 2 + ((y + 72.0) / 16.0) ** 2 < 1.0
    is_disc = np.mod(z, 26.0) < 4.0
    tissue.paint("spine", vertebra & ~is_disc)
    tissue.paint("spinal_cord", x**2 + (y + 93.0) ** 2 < 49.0)
    radius = _body_radius(points)
    slanted = z + 0.35 * y  # ribs fall towards the front
    is_level = (np.mod(slanted, 24.0) < 8.0) & (slanted > -125.0) & (slanted < 130.0) & (y < 82.0)
    wall = (radius > 0.83) & (radius < 0.89) & ~lung
    tissue.paint("ribs", wall & is_level & (np.abs(x) > 16.0))


def _paint_abdomen(tissue: Tissue, points: np.ndarray) -> None:
    z = points[2]
    below = z < -55.0
    tissue.paint("liver", below & _ellipsoid(points, (55.0, 12.0, -112.0), (85.0, 78.0, 62.0)))
    tissue.paint("stomach", below & _ellipsoid(points, (-55.0, 25.0, -118.0), (45.0, 45.0, 40.0)))
    tissue.paint("spleen", below & _ellipsoid(points, (-92.0, -38.0, -120.0), (32.0, 38.0, 42.0)))
