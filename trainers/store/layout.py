"""How a store lies on disk, and the settings that all of its studies share.

    ROOT/zarr.json                  settings (attribute "settings")
    ROOT/studies/ID/zarr.json       place in the patient, origin, organs (attributes)
    ROOT/studies/ID/hu              (X, Y, Z) int16 Hounsfield units, axes towards R, A, S
    ROOT/studies/ID/structures      (X, Y, Z) uint8 numbers of core.structures; absent without a mask
    ROOT/studies/ID/patch_counts    (S, gx, gy, gz) uint16 voxels of structure s in each patch; absent without a mask

Each array is one shard (one file) of chunks that can be read alone. A study's folder appears whole or not at all.
"""

import json
import os
import shutil
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from core.errors import ConfigError, StorageError
from core.models.checkpoint import config_from_json

FORMAT = "chest-ct-store-1"
STUDIES, SETTINGS = "studies", "settings"
HU, STRUCTURES, PATCH_COUNTS = "hu", "structures", "patch_counts"
PART = ".part-"
"""Beginning of the name of a study's folder until it is complete."""
FORGOTTEN_S = 24 * 3600
"""Age at which an unfinished folder of another machine is taken for abandoned."""


@dataclass(frozen=True)
class StoreSettings:
    """What all studies of a store have in common; changing anything takes a new store."""

    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 3.0)
    """Voxel size (x, y, z). fVLM and ViSD-Boost: 1 1 3."""
    window_hu: tuple[float, float] = (-1000.0, 1000.0)
    """Clipped to this before resampling, as ASAP does; -32768 32767 clips nothing, for recipes that clip later."""
    resample: Literal["smooth", "as_released"] = "smooth"
    """Average before thinning out, or interpolate and cut fractions off as the published code does."""
    chunk: tuple[int, int, int] = (64, 64, 32)
    """Voxels that are compressed, and read, together."""
    patch: tuple[int, int, int] = (16, 16, 8)
    """Voxels of a patch of `patch_counts`."""

    def __post_init__(self) -> None:
        if min(self.spacing_mm) <= 0 or min(*self.chunk, *self.patch) < 1:
            raise ConfigError("spacing_mm must be above 0, chunk and patch at least one voxel along each axis.")
        low, high = self.window_hu
        if not -32768 <= low < high <= 32767:
            raise ConfigError(f"window_hu is {self.window_hu}; expected two ascending values of int16.")
        if self.patch[0] * self.patch[1] * self.patch[2] > 65535:
            raise ConfigError(f"A patch of {self.patch} has more voxels than uint16 counts; expected at most 65535.")


def make_store(root: Path, settings: StoreSettings) -> None:
    """Begin a store, or go on with one of the same settings; ConfigError for another's."""
    import zarr

    is_begun = (root / "zarr.json").is_file()
    if is_begun:
        _require_same(root, settings)
    elif root.is_dir() and any(root.iterdir()):
        raise ConfigError(f"{root} holds other files and no store. Choose a new or empty folder.")
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not is_begun:
            zarr.create_group(root, attributes={"format": FORMAT, SETTINGS: asdict(settings)})
        if not (root / STUDIES / "zarr.json").is_file():
            zarr.create_group(root / STUDIES)
    except OSError as error:
        raise StorageError(f"{root} cannot be written ({error.strerror}). Choose another folder.") from error


def _require_same(root: Path, settings: StoreSettings) -> None:
    """Refuse to mix studies that were prepared differently."""
    found, wanted = asdict(read_settings(root)), asdict(settings)
    differing = {name: value for name, value in found.items() if value != wanted[name]}
    if differing:
        raise ConfigError(
            f"{root} was begun with other settings. Choose another folder, or give the same: {json.dumps(differing)}."
        )


def is_store(root: Path) -> bool:
    """Whether a folder holds a store."""
    return (root / "zarr.json").is_file() and (root / STUDIES).is_dir()


def read_settings(root: Path) -> StoreSettings:
    """The settings of the store at `root`; ConfigError where there is none that this version reads."""
    try:
        attributes = json.loads((root / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        found, settings = attributes.get("format"), attributes.get(SETTINGS)
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise ConfigError(f"No store at {root}; make one with `python -m trainers.prepare`.") from error
    if found != FORMAT:
        raise ConfigError(f"{root} has format {found!r}; this version reads {FORMAT!r}. Prepare the studies again.")
    return config_from_json(StoreSettings, json.dumps(settings))


def study_folder(root: Path, study_id: str) -> Path:
    """Where a complete study lies."""
    return root / STUDIES / study_id


def list_studies(root: Path) -> tuple[str, ...]:
    """Ids of the complete studies, sorted."""
    with os.scandir(root / STUDIES) as entries:
        return tuple(sorted(one.name for one in entries if one.is_dir() and not one.name.startswith(".")))


def part_folder(root: Path, study_id: str) -> Path:
    """Where this process writes a study until it is complete; the name says who is at it."""
    return root / STUDIES / f"{PART}{study_id}.{socket.gethostname()}.{os.getpid()}"


def clear_abandoned(root: Path) -> int:
    """Remove what killed processes left half-written; returns how many folders that were."""
    abandoned = [folder for folder in (root / STUDIES).glob(f"{PART}*") if _is_abandoned(folder)]
    for folder in abandoned:
        shutil.rmtree(folder, ignore_errors=True)
    return len(abandoned)


def _is_abandoned(folder: Path) -> bool:
    """Whether nobody writes to it any more: its process is gone, or, on another machine, a day has passed."""
    name, _, pid = folder.name.rpartition(".")
    if name.endswith(f".{socket.gethostname()}") and pid.isdigit():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
    return time.time() - folder.stat().st_mtime > FORGOTTEN_S
