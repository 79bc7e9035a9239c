"""A folder of NIfTI studies as an image source: volumes/ID.nii.gz and, where organs are needed, masks/ID.nii.gz."""

import os
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from core.errors import CheckpointError, ConfigError, StudyError
from core.organ_map import find_organ_map
from core.preprocess import INT16_HU, resample_as_released, resample_smoothly, stretch_nearest
from core.resample import resample
from core.volume import Grid, Volume
from trainers.crops import Crop, DataView, box_of, cut_crop
from trainers.report_tokens import REPORTS

VOLUMES, MASKS, CACHE = "volumes", "masks", "prepared"
SUFFIXES = (".nii.gz", ".nii")


class FolderImages:
    """See `trainers.sources.ImageSource`; prepared volumes are kept in `cache_dir` as memory-mapped arrays."""

    def __init__(
        self, root: Path, study_ids: Sequence[str], view: DataView, cache_dir: Path, with_masks: bool = True
    ) -> None:
        self.root, self.study_ids, self.view, self.cache_dir = root, tuple(study_ids), view, cache_dir
        self.with_masks = with_masks
        _require_files(root, self.study_ids, with_masks)

    def read(self, study_id: str, rng: np.random.Generator) -> Crop:
        """A crop drawn anew, read from the cache."""
        hu, structures = self.prepared(study_id)
        around = None
        if self.view.place == "organs" and structures is not None:
            around = box_of(find_organ_map(self.view.organ_map).lut()[structures] > 0)
        return cut_crop(study_id, (hu, structures), self.view, rng, around)

    def prepared(self, study_id: str) -> tuple[np.ndarray, np.ndarray | None]:
        """CT (X, Y, Z) int16 HU and structure numbers uint8 at the training spacing, made once."""
        kinds = ("hu", "organs") if self.with_masks else ("hu",)
        paths = [self.cache_dir / f"{study_id}.{kind}.npy" for kind in kinds]
        if not all(path.is_file() for path in paths):
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            made = prepare_study(self.root, study_id, self.view, self.with_masks)
            for path, array in zip(paths, (array for array in made if array is not None), strict=True):
                save_array(path, array)
        hu, *rest = (np.load(path, mmap_mode="r") for path in paths)
        return hu, rest[0] if rest else None


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array so that other processes find it whole or not at all."""
    scratch = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    try:
        np.save(scratch, array)
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path} could not be written ({error}). Free some space and run the same command again to continue."
        ) from error


def prepare_study(
    root: Path, study_id: str, view: DataView, with_masks: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read one study and bring CT and organ mask to the training spacing: int16 HU and uint8 structure numbers."""
    volume, structures = _read_study(root, study_id, with_masks)
    if view.resample == "as_released":
        limits = INT16_HU if view.clip_late else view.window_hu
        try:
            hu = resample_as_released(volume.hu, volume.spacing_mm, view.spacing_mm, limits)
        except StudyError as error:  # thinner than one voxel
            raise StudyError(f"Study {study_id} cannot be used. {error}") from error
        return hu, None if structures is None else stretch_nearest(structures, (hu.shape[0], hu.shape[1], hu.shape[2]))
    hu, grid = resample_smoothly(volume.hu, volume.grid, view.spacing_mm, view.window_hu)
    return hu, None if structures is None else resample(structures, volume.grid, grid, "nearest")


def _require_files(root: Path, study_ids: Sequence[str], with_masks: bool) -> None:
    """Refuse at the start a folder in which a study lacks its volume or mask."""
    for kind, builder in (
        (VOLUMES, "copy the CT there"),
        (MASKS, "python -m asap_viewer segment CT --out MASK.nii.gz"),
    )[: 1 + with_masks]:
        absent = [study_id for study_id in study_ids if _find(root / kind, study_id) is None]
        if absent:
            raise ConfigError(
                f"{len(absent)} of {len(study_ids)} studies have no file in {root / kind} (first: {absent[0]}.nii.gz). "
                f"Make it: {builder}; or take the study out of {REPORTS}."
            )


def _find(folder: Path, study_id: str) -> Path | None:
    stem = study_id.removesuffix(".nii.gz").removesuffix(".nii")
    return next((folder / f"{stem}{suffix}" for suffix in SUFFIXES if (folder / f"{stem}{suffix}").is_file()), None)


def _read_study(root: Path, study_id: str, with_masks: bool) -> tuple[Volume, np.ndarray | None]:
    """CT and structure numbers (X, Y, Z) uint8 on its grid."""
    kinds = (VOLUMES, MASKS) if with_masks else (VOLUMES,)
    paths = [_find(root / kind, study_id) for kind in kinds]
    try:
        ct, *masks = (nib.nifti1.load(path) for path in paths if path is not None)
        hu, labels = np.asanyarray(ct.dataobj), [np.asanyarray(mask.dataobj) for mask in masks]
    except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError) as error:
        raise StudyError(f"Study {study_id} cannot be read ({error}). Copy its files again.") from error
    if hu.ndim != 3 or not np.isfinite(hu).all():
        raise StudyError(
            f"Study {study_id} has shape {hu.shape} or voxels that are no numbers; expected a 3-D CT in HU."
        )
    volume = Volume.from_source(np.clip(np.rint(hu), *INT16_HU), ct.affine)
    if not masks:
        return volume, None
    if not Grid(labels[0].shape, masks[0].affine).matches(volume.source):
        raise StudyError(f"The mask of study {study_id} is not on the CT's grid; expected shape {hu.shape}. Redo it.")
    if not np.isin(np.unique(labels[0]), np.arange(256)).all():
        raise StudyError(
            f"The mask of study {study_id} holds {labels[0].min():g} to {labels[0].max():g}, not only whole numbers of "
            "structures, 0 to 255. Redo it."
        )
    return volume, volume.from_source_array(labels[0]).astype(np.uint8)
