"""A chest with two blocks for lungs and a ball in the left one, stored along any axes; an engine that looks by mm."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import nibabel.orientations as nio
import numpy as np

from core.anatomy.masks import OrganMasks
from core.grounding.engine import PatchFeatures
from core.resample import target_grid
from core.structures import BY_NAME
from core.volume import Volume
from trainers.grounding.cases import Case, OpenedCase, Question, Truth, read_as_page

BALL_MM, RADIUS_MM = np.array([-38.0, -14.0, 22.0]), 14.0
SPACING_MM, SHAPE = (3.0, 4.0, 6.0), (52, 38, 26)
"""Along patient Right, Anterior, Superior."""
SENTENCE = "There is a nodule in the left lung."


def affine_of(axes: str, tilt_deg: float = 0.0, shape=SHAPE) -> tuple[np.ndarray, tuple[int, ...]]:
    """Affine and shape of the chest stored along `axes`, its middle at 0 mm."""
    turn = nio.axcodes2ornt(tuple(axes))
    stored = tuple(shape[int(axis)] for axis in turn[:, 0])
    ras = np.diag([*SPACING_MM, 1.0])
    ras[:3, 3] = -(np.array(shape) - 1) / 2 * SPACING_MM
    back = nio.inv_ornt_aff(nio.ornt_transform(nio.axcodes2ornt(("R", "A", "S")), turn), shape)
    angle = np.radians(tilt_deg)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return tilt @ ras @ back, stored


def points_of(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(I, J, K, 3) patient mm of every voxel."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return nib.affines.apply_affine(affine, index)


def paint(points: np.ndarray) -> dict[str, np.ndarray]:
    """CT, organs and ball at patient mm (..., 3)."""
    x, y, z = np.moveaxis(points, -1, 0)
    body = (np.abs(x) < 70) & (np.abs(y) < 60)
    lung = (np.abs(x) > 8) & (np.abs(x) < 60) & (np.abs(y) < 45) & (np.abs(z) < 60)
    ball = np.linalg.norm(points - BALL_MM, axis=-1) <= RADIUS_MM
    hu = np.where(ball, 40, np.where(lung, -850, np.where(body, 30, -1000))).astype(np.int16)
    labels = np.where(body, BY_NAME["body"].number, 0)
    labels[lung & (x < 0)] = BY_NAME["lung_left"].number
    labels[lung & (x > 0)] = BY_NAME["lung_right"].number
    return {"ct": hu, "organs": labels.astype(np.uint8), "ball": ball.astype(np.uint8)}


def write_chest(folder: Path, axes: str = "LPS") -> Path:
    """ct.nii.gz, organs.nii.gz, ball.nii.gz and ball.txt in a new folder: a case."""
    affine, shape = affine_of(axes)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in paint(points_of(affine, shape)).items():
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
    (folder / "ball.txt").write_text(f"{SENTENCE}\n")
    return folder


def open_chest(axes: str = "LPS", tilt_deg: float = 0.0, is_mirrored: bool = False) -> tuple[Case, OpenedCase]:
    """The chest in memory; mirrored: its header wrongly takes left for right."""
    affine, shape = affine_of(axes, tilt_deg)
    painted = paint(points_of(affine, shape))
    if is_mirrored:
        affine = np.diag([-1.0, 1, 1, 1]) @ affine
    volume = Volume.from_source(painted["ct"], affine)
    labels = volume.from_source_array(painted["organs"])
    sentence = read_as_page(SENTENCE)
    truth = Truth(sentence, "ball", lambda v: v.from_source_array(painted["ball"]) > 0)
    asked = (Question(sentence, True), Question(read_as_page("There is a mass in the right lung."), False))
    opened = OpenedCase(volume, OrganMasks(labels, "test"), (truth,), asked)
    return Case("chest", "someone", "", lambda: opened), opened


@dataclass
class HeatEngine:
    """Scores every place by its patient mm, whatever the words say."""

    score: Callable[[np.ndarray], np.ndarray]
    """(..., 3) mm -> (...) in [0, 1]."""
    cell_mm: float = 6.0
    name: str = "by place"
    needs_masks: bool = False

    def embed_volume(self, volume, masks=None, progress=None):
        shape = tuple(int(np.ceil(200 / self.cell_mm)) for _ in range(3))
        grid = target_grid(np.zeros(3), shape, np.full(3, self.cell_mm))
        cosine = self.score(points_of(grid.affine, shape))
        vectors = np.stack([cosine, np.sqrt(1 - cosine**2)], axis=-1).astype(np.float32)
        return PatchFeatures(vectors, grid, np.ones(shape, bool), np.array([1, 0], np.float32), self.name)

    def embed_sentences(self, sentences):
        return np.array([[0, 1] if " no " in text.lower() else [1, 0] for text in sentences], np.float32)

    def embed_report(self, sentences):
        return self.embed_sentences(sentences).mean(axis=0)

    def presence_probability(self, score, negated_score):
        return 0.5


def perfect(points: np.ndarray) -> np.ndarray:
    """Highest in the middle of the ball, falling with the distance to it."""
    return np.exp(-np.linalg.norm(points - BALL_MM, axis=-1) / 60)


def inverted(points: np.ndarray) -> np.ndarray:
    """Lowest where `perfect` is highest."""
    return 1 - perfect(points)
