"""Real anatomy made many: one CT with organ masks, seen mirrored, bent, re-contrasted and re-scanned."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy import ndimage

from core.errors import ConfigError
from core.resample import sample_at, target_grid
from core.structures import BY_NAME, STRUCTURES, parts_of
from core.synthesis.claims import swap_side_name
from core.synthesis.contrast import recontrast
from core.synthesis.scanner import ScanConfig
from core.synthesis.scene import RIM_HU, Scene, bounding_box, smooth_noise
from core.synthesis.surroundings import SurroundingsConfig, surround
from core.volume import Grid

PADDING_HU = -1024.0


def _mirror_table() -> np.ndarray:
    """(256,) uint8: label number -> number of the same structure on the other side."""
    numbers = {structure.name: structure.number for structure in STRUCTURES}
    table = np.arange(256, dtype=np.uint8)
    for name, number in numbers.items():
        table[number] = numbers.get(swap_side_name(name), number)  # the left atrial appendage has no twin
    return table


MIRROR = _mirror_table()


@dataclass(frozen=True, eq=False)
class Patient:
    """A CT to build studies from; its own lesions have been erased."""

    name: str
    hu: np.ndarray
    """(X, Y, Z) int16 HU, axes RAS."""
    labels: np.ndarray
    """(X, Y, Z) uint8 numbers of `core.structures`."""
    grid: Grid
    never_denied: tuple[str, ...] = ()
    """Kinds of finding the patient really has, or may have: no sentence denies them."""

    @cached_property
    def full_labels(self) -> np.ndarray:
        """`labels` (X, Y, Z) uint8 with every voxel inside the skin labelled, half-aerated rims as lung."""
        labels = self.labels.copy()
        labels[(labels == 0) & find_body(self.hu)] = BY_NAME["body"].number
        lungs = np.where(_lung_of(labels), labels, 0)
        is_rim = (labels == BY_NAME["body"].number) & (self.hu < RIM_HU) & (lungs == 0)
        grown = ndimage.maximum_filter(lungs, 3)
        return np.where(is_rim & (grown > 0), grown, labels)

    @cached_property
    def lungs_centre_mm(self) -> np.ndarray:
        """Patient mm (3,) of the middle of the lungs' bounding box: the middle of the model's field of view."""
        box = bounding_box(_lung_of(self.labels))
        if box is None:
            raise ConfigError(f"Patient {self.name} has no lung in its masks; expected a chest CT with organ masks.")
        return self.grid.to_mm([(part.start + part.stop - 1) / 2 for part in box])


@dataclass(frozen=True)
class ViewConfig:
    """The grid studies are drawn on and how far a patient may be varied; all zero = the patient as scanned."""

    shape: tuple[int, int, int] = (88, 72, 88)
    """Voxels along Right, Anterior, Superior."""
    spacing_mm: float = 3.75
    """Voxel edge."""
    shift_mm: float = 18.0
    """Largest shift of the field of view along each axis."""
    turn_deg: float = 8.0
    """Largest rotation about each axis."""
    stretch: float = 0.12
    """Largest relative change of size, per axis and overall."""
    bend_mm: float = 5.0
    """Deviation of a smooth random displacement."""
    mirror_chance: float = 0.35
    """How often the patient is mirrored, left labels becoming right ones."""
    noise_hu: float = 25.0
    """Largest deviation of the added noise."""
    offset_hu: float = 15.0
    """Largest shift of all HU."""
    blur_voxels: float = 0.8
    """Largest softening (kernel)."""
    recontrast: bool = True
    """Draw a contrast phase and how much each group of vessels and organs takes up, see `contrast`."""
    fine_bend_mm: float = 1.2
    """Deviation of a second displacement, with bumps of 20 mm instead of 60."""
    breath_hu: float = 40.0
    """Largest shift of the density of lung tissue: deep or shallow breath."""
    around: SurroundingsConfig = field(default_factory=SurroundingsConfig)
    """Table, arms, field of view."""
    scan: ScanConfig = field(default_factory=ScanConfig)
    """Kernel, slices, noise and streaks."""


def vary_patient(patient: Patient, view: ViewConfig, rng: np.random.Generator) -> Scene:
    """One view of a patient, before findings are painted and before `scanner.degrade`."""
    centre = patient.lungs_centre_mm + rng.uniform(-1, 1, 3) * view.shift_mm
    grid = target_grid(centre, view.shape, np.full(3, view.spacing_mm))
    is_mirrored = bool(rng.random() < view.mirror_chance)
    places = _source_places(patient, grid, view, is_mirrored, rng)
    hu = sample_at(patient.hu, places, "linear", PADDING_HU)
    labels = sample_at(patient.full_labels, places, "nearest", 0)
    if is_mirrored:
        labels = MIRROR[labels]
    scene = Scene(hu, labels, grid)
    if view.recontrast:
        recontrast(scene, rng)
    _breathe(scene, view, rng)
    return surround(scene, view.around, rng)


def _breathe(scene: Scene, view: ViewConfig, rng: np.random.Generator) -> None:
    """Make aerated lung lighter or denser, more so at the back when it is denser."""
    shift = float(rng.uniform(-0.6, 1.0)) * view.breath_hu
    lung = scene.mask("lung")
    where = lung & (scene.hu < -500)
    depth = np.linspace(1.3, 0.7, scene.hu.shape[1], dtype=np.float32)[None, :, None] if shift > 0 else np.float32(1)
    np.putmask(scene.hu, where, np.maximum(scene.hu + shift * depth, -1000))


def _source_places(
    patient: Patient, grid: Grid, view: ViewConfig, is_mirrored: bool, rng: np.random.Generator
) -> np.ndarray:
    """Where in the patient's array each voxel of the view comes from: (3, X, Y, Z) float32 voxels."""
    linear = _random_linear(view, is_mirrored, rng)
    pivot = patient.lungs_centre_mm
    to_voxel = np.linalg.inv(patient.grid.affine)
    step = to_voxel[:3, :3] @ linear @ grid.affine[:3, :3]
    start = to_voxel[:3, :3] @ (linear @ (grid.affine[:3, 3] - pivot) + pivot) + to_voxel[:3, 3]
    axes = [np.arange(n, dtype=np.float32) for n in grid.shape]
    places = np.empty((3, *grid.shape), np.float32)
    for row in range(3):
        x, y, z = (step[row, column] * axes[column] for column in range(3))
        places[row] = start[row] + x[:, None, None] + y[None, :, None] + z[None, None, :]
        if view.bend_mm > 0:
            bend = view.bend_mm * rng.uniform(0, 1) / patient.grid.spacing_mm[row]
            places[row] += bend * smooth_noise(grid.shape, 60.0 / view.spacing_mm, rng)
        if view.fine_bend_mm > 0:
            bend = view.fine_bend_mm * rng.uniform(0, 1) / patient.grid.spacing_mm[row]
            places[row] += bend * smooth_noise(grid.shape, 20.0 / view.spacing_mm, rng)
    return places


def _random_linear(view: ViewConfig, is_mirrored: bool, rng: np.random.Generator) -> np.ndarray:
    """(3, 3) that turns, stretches and perhaps mirrors millimetres about a pivot."""
    angles = np.radians(rng.uniform(-1, 1, 3) * view.turn_deg)
    linear = np.diag(1.0 + rng.uniform(-0.5, 0.5, 3) * view.stretch) * (1.0 + rng.uniform(-0.5, 0.5) * view.stretch)
    for axis, angle in enumerate(angles):
        first, second = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        linear = linear @ turn
    return np.diag([-1.0, 1.0, 1.0]) @ linear if is_mirrored else linear


def erase_lesion(patient: Patient, lesion: np.ndarray, margin_mm: float = 10.0) -> Patient:
    """The patient without a lesion: lung copied from nearby covers it, and its voxels get their lobe back.

    lesion: (X, Y, Z) bool on the patient's grid, True = lesion. The piece is taken from the shift whose source is most
    aerated; its edge fades over the margin.
    """
    if not lesion.any():
        return patient
    lung = _lung_of(patient.labels)
    distance = ndimage.distance_transform_edt(~lesion, sampling=patient.grid.spacing_mm)
    weight = np.clip(1.0 - (distance - margin_mm * 0.5) / (margin_mm * 0.5), 0.0, 1.0)
    where = np.argwhere((weight > 0) & (lung | lesion))
    best = _best_source(patient.hu, lung, where, patient.grid)
    at, source = tuple(where.T), tuple((where + best).T)
    hu, labels, share = patient.hu.copy(), patient.labels.copy(), weight[at]
    hu[at] = np.rint(hu[at] * (1 - share) + hu[source] * share).astype(np.int16)
    nearest = ndimage.distance_transform_edt(~lung, return_distances=False, return_indices=True)
    lost = np.argwhere(lesion & ~lung).T
    labels[tuple(lost)] = patient.labels[tuple(nearest[:, *lost])]
    return replace(patient, hu=hu, labels=labels)


def find_body(hu: np.ndarray) -> np.ndarray:
    """What lies inside the skin, air included: (X, Y, Z) bool. Table, clothes and detached arms are not it."""
    thick = ndimage.binary_erosion(hu > -350, iterations=2, border_value=1)  # a body goes on beyond the scan
    dense = ndimage.binary_dilation(thick, iterations=2)
    pieces, count = ndimage.label(dense)
    if count == 0:
        return dense
    sizes = np.bincount(pieces.ravel())
    body = pieces == int(sizes[1:].argmax()) + 1
    for level in range(body.shape[2]):
        body[:, :, level] = ndimage.binary_fill_holes(body[:, :, level])
    return body


def _lung_of(labels: np.ndarray) -> np.ndarray:
    member = np.zeros(256, bool)
    member[list(parts_of("lung"))] = True
    return member[labels]


def _best_source(hu: np.ndarray, lung: np.ndarray, where: np.ndarray, grid: Grid) -> np.ndarray:
    """The shift (3,) in voxels to the nearby piece with most lung and fewest bright voxels."""
    best, best_score = np.zeros(3, int), -np.inf
    for direction in np.argwhere(np.ones((5, 5, 5))) - 2:
        shift = np.rint(direction * 22.0 / np.array(grid.spacing_mm)).astype(int)
        moved = where + shift
        if not shift.any() or (moved < 0).any() or (moved >= np.array(hu.shape)).any():
            continue
        at = tuple(moved.T)
        score = float((lung[at] & (hu[at] < -650)).mean())
        if score > best_score:
            best, best_score = shift, score
    return best
