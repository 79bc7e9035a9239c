"""Reading a store: whole studies, or boxes of them at the price of the chunks that they touch."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from core.errors import ConfigError, StudyError
from core.preprocess import Size3
from core.reading.scan import DAMAGE
from core.volume import Grid, Volume
from trainers.store.layout import (
    HU,
    PATCH_COUNTS,
    STRUCTURES,
    StoreSettings,
    list_studies,
    read_settings,
    study_folder,
)

Box = tuple[slice, slice, slice]
SHARD_OF = {HU: "c/0/0/0", STRUCTURES: "c/0/0/0", PATCH_COUNTS: "c/0/0/0/0"}
"""Where Zarr keeps the only shard of an array; there is none where every voxel has the fill value."""


class StoredArray:
    """An array of one study on disk."""

    def __init__(self, study_id: str, array: zarr.Array) -> None:
        self.study_id, self.array = study_id, array
        self.shape: tuple[int, ...] = tuple(array.shape)

    def __getitem__(self, box: Any) -> np.ndarray:
        with damage_named(self.study_id):
            return np.asarray(self.array[box])


class StudyStore:
    """The finished studies of a store as they are now; files are opened when asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings: StoreSettings = read_settings(root)
        self.study_ids: tuple[str, ...] = list_studies(root)

    def facts(self, study_id: str) -> dict[str, Any]:
        """What is known about a study: affine, shape, origin, boxes of its structures."""
        with damage_named(study_id):
            return dict(self._open(study_id).attrs)

    def grid(self, study_id: str) -> Grid:
        """Where the study's voxels lie in the patient."""
        facts = self.facts(study_id)
        x, y, z = facts["shape"]
        return Grid((x, y, z), np.array(facts["affine"]))

    def has_structures(self, study_id: str) -> bool:
        """Whether the study has a mask."""
        return (study_folder(self.root, study_id) / STRUCTURES).is_dir()

    def array(self, study_id: str, kind: str = HU) -> "StoredArray":
        """The study's CT (`HU`) or mask (`STRUCTURES`) on disk; slicing it reads the chunks that are touched."""
        with damage_named(study_id):
            group = self._open(study_id)
            found, file = group.get(kind), study_folder(self.root, study_id) / kind / SHARD_OF[kind]
        if not isinstance(found, zarr.Array):
            raise StudyError(f"Study {study_id} of {self.root} has no {kind}. Prepare it again with --masks.")
        if not file.is_file() and (kind == HU or group.attrs.get("numbers")):  # Zarr would read it as all air
            raise StudyError(f"Study {study_id} of the store lacks its {kind}. Delete its folder and prepare it again.")
        return StoredArray(study_id, found)

    def read_box(self, study_id: str, start: Size3, size: Size3, kind: str = HU) -> np.ndarray:
        """`size` voxels from voxel `start`: int16 HU or uint8 structure numbers (X, Y, Z). Must lie inside."""
        array = self.array(study_id, kind)
        if min(start) < 0 or any(s + n > whole for s, n, whole in zip(start, size, array.shape, strict=True)):
            raise ConfigError(f"A box of {size} voxels at {start} does not lie in study {study_id} of {array.shape}.")
        return array[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))]

    def read_volume(self, study_id: str) -> Volume:
        """The whole CT, in its place in the patient; its grid counts as the source's."""
        grid = self.grid(study_id)
        return Volume(self.read_box(study_id, (0, 0, 0), grid.shape), grid, grid)

    def read_structures(self, study_id: str) -> np.ndarray:
        """The whole mask: structure numbers (X, Y, Z) uint8."""
        return self.array(study_id, STRUCTURES)[...]

    def structure_box(self, study_id: str, numbers: Iterable[int]) -> Box | None:
        """Smallest box of voxels around the structures of these numbers; None when there are none. Reads no voxel."""
        boxes = self.facts(study_id).get("boxes", {})
        found = np.array([boxes[str(number)] for number in numbers if str(number) in boxes])
        if not len(found):
            return None
        x, y, z = (slice(int(low), int(high)) for low, high in zip(*_hull(found), strict=True))
        return x, y, z

    def patch_fractions(self, study_id: str, organ_of: np.ndarray) -> np.ndarray:
        """Soft labels of the whole study's patches, counted from voxel 0, without reading a mask.

        organ_of: (256,) structure number -> organ 1..O, 0 = none (`OrganMap.lut`). -> (O, gx, gy, gz) float32, the
        fraction of the patch's voxels inside the volume that belong to organ o.
        """
        grid, patch = self.grid(study_id), self.settings.patch
        numbers = self.facts(study_id).get("numbers", [])
        x, y, z = (np.minimum(p, n - np.arange(0, n, p)) for n, p in zip(grid.shape, patch, strict=True))
        voxels = (x[:, None, None] * y[None, :, None] * z[None, None, :]).astype(np.float32)
        fractions = np.zeros((int(organ_of.max()), *voxels.shape), np.float32)
        if numbers:
            for number, count in zip(numbers, self.array(study_id, PATCH_COUNTS)[...], strict=True):
                if organ_of[number]:
                    fractions[organ_of[number] - 1] += count
        return fractions / voxels

    def _open(self, study_id: str) -> zarr.Group:
        if not study_folder(self.root, study_id).is_dir():
            raise StudyError(f"{self.root} holds no study {study_id}. Prepare it with `python -m trainers.prepare`.")
        return zarr.open_group(study_folder(self.root, study_id), mode="r")


@contextmanager
def damage_named(study_id: str) -> Iterator[None]:
    """Turn what damaged files raise into a StudyError that names the study."""
    try:
        yield
    except StudyError:
        raise
    except DAMAGE as error:
        raise StudyError(
            f"Study {study_id} of the store is damaged ({error}). Delete its folder and run trainers.prepare again."
        ) from error


def _hull(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and behind-last voxel per axis around boxes (N, 3, 2)."""
    return boxes[:, :, 0].min(axis=0), boxes[:, :, 1].max(axis=0)
