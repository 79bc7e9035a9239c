"""CTs of a list, found under one root by their ids and read as they are stored."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from core.errors import ConfigError, StudyError
from core.padding import PADDING_HU
from core.volume import Volume
from trainers.store.layout import is_store
from trainers.store.reading import StudyStore

SUFFIXES = (".nii.gz", ".nii")
HU_LIMITS = (PADDING_HU, 32767)
"""What lies outside is clipped, as it is when the page opens a CT: a fine-tuned model sees there what it learned on."""


class CtFiles:
    """The CTs under a root: a prepared store, or NIfTI files at any depth named by their id.

    An id is a path below the root or a file's name, with or without .nii.gz.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ConfigError(f"There is no folder {root}; expected the root of the CTs, or a store of prepared ones.")
        self.root = root
        self.store = next((StudyStore(at) for at in (root, root / "store") if is_store(at)), None)
        self._by_stem: dict[str, list[Path]] = {}
        if self.store is None:
            for path in sorted(root.rglob("*.nii*")):
                if path.name.endswith(SUFFIXES):
                    self._by_stem.setdefault(stem_of(path.name), []).append(path)

    def find(self, study_id: str) -> str:
        """Why a study cannot be read, "" when it is there."""
        if self.store is not None:
            return "" if stem_of(study_id) in self.store.study_ids else f"not in the store {self.store.root.name}"
        paths = self._paths(study_id)
        if not paths:
            return f"no file under {self.root.name}"
        return "" if len(paths) == 1 else f"{len(paths)} files of that name, {paths[0]} and {paths[1]}"

    def split(self, ids: Sequence[str]) -> tuple[list[int], dict[str, str]]:
        """Places of the ids that are there, and the others with the reason."""
        reasons = [self.find(study_id) for study_id in ids]
        missing = {study_id: reason for study_id, reason in zip(ids, reasons, strict=True) if reason}
        return [place for place, reason in enumerate(reasons) if not reason], missing

    def read(self, study_id: str) -> Volume:
        """The CT; StudyError when it is missing, damaged, or no CT."""
        if self.store is not None:
            return self.store.read_volume(stem_of(study_id))
        reason = self.find(study_id)
        if reason:
            raise StudyError(f"Study {study_id}: {reason}.")
        return read_ct(self._paths(study_id)[0])

    def fingerprint(self, study_id: str) -> str:
        """Changes when the file does; names what is cached of it."""
        at = self.store.root if self.store is not None else self._paths(study_id)[0]
        told = at.stat() if at.is_file() else None
        facts = f"{stem_of(study_id)}:{told.st_size if told else 0}:{told.st_mtime_ns if told else 0}"
        return hashlib.sha256(facts.encode()).hexdigest()[:12]

    def _paths(self, study_id: str) -> list[Path]:
        direct = [self.root / f"{study_id}{suffix}" for suffix in ("", *SUFFIXES)]
        found = [path for path in direct if path.is_file() and path.name.endswith(SUFFIXES)][:1]
        return found or self._by_stem.get(stem_of(Path(study_id).name), [])


def stem_of(name: str) -> str:
    """A file's name without .nii.gz."""
    return name.removesuffix(".gz").removesuffix(".nii")


def read_ct(path: Path) -> Volume:
    """A NIfTI CT in HU towards R, A, S; StudyError when it is damaged, not 3-D, or has voxels that are no numbers."""
    hu, affine = _read(path)
    if not np.isfinite(hu).all():
        raise StudyError(f"{path.name} has voxels that are no numbers; expected a CT in HU. Mend the file.")
    return Volume.from_source(np.clip(np.rint(hu), *HU_LIMITS).astype(np.int16), affine)


def read_labels_beside(path: Path, volume: Volume, classes: int) -> np.ndarray:
    """Class numbers (X, Y, Z) uint8 on the CT's RAS grid from a label map on the CT's own grid."""
    labels, affine = _read(path)
    if labels.shape != volume.source.shape or not np.allclose(affine, volume.source.affine, atol=1e-2):
        raise StudyError(
            f"{path.name} has shape {labels.shape}, or lies elsewhere than its CT of shape {volume.source.shape}. "
            "Resample the labels to the CT."
        )
    numbers = np.unique(labels)
    if not np.isin(numbers, np.arange(classes)).all():
        strange = next(value for value in numbers if value not in range(classes))
        raise StudyError(f"{path.name} holds the label {strange:g}; the list names 0 to {classes - 1}.")
    return volume.from_source_array(labels).astype(np.uint8)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        image = nib.nifti1.load(path)
        values = np.asanyarray(image.dataobj)
    except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError) as error:
        raise StudyError(f"{path.name} cannot be read ({error}). Copy the file again.") from error
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3 or image.affine is None:
        raise StudyError(f"{path.name} has shape {values.shape}; expected one 3-D image.")
    return values, np.asarray(image.affine, np.float64)
