"""One CT file to one study of a store: the same function on one core, on many, and on a cluster."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import nibabel.orientations as nio
import numpy as np

from core.anatomy.engines import EnginePlaces
from core.anatomy.provided import lies_on
from core.errors import StorageError, StudyError
from core.preprocess import resample_as_released, resample_smoothly, stretch_nearest, stretched_grid
from core.reading.candidates import find_candidates
from core.reading.limits import DEFAULT_LIMITS
from core.reading.scan import Scan
from core.resample import resample
from core.volume import Grid, Volume, ras_axes, ras_grid
from trainers.outcomes import Outcome
from trainers.preparation.headers import mend_scan
from trainers.preparation.organs import Organs, is_prepared, read_names, read_organs, segment_organs
from trainers.preparation.tree import Job
from trainers.store.layout import StoreSettings, study_folder
from trainers.store.writing import PreparedStudy, write_study

Segmenter = Literal["none", "auto", "embedded", "totalsegmentator"]


@dataclass(frozen=True)
class StudyOptions:
    """How one file becomes a study."""

    store: StoreSettings = field(default_factory=StoreSettings)
    """Spacing, window, resampling and chunks."""
    mask_names: Path | None = None
    """JSON {"1": "heart", ...} for masks with numbers of their own; without it TotalSegmentator's are taken."""
    segmenter: Segmenter = "none"
    """Engine that finds the organs of studies without a mask file."""
    organ_net: Path = Path("assets/models/organs/organ_net.safetensors")
    """Weights of the embedded engine."""
    needs_mask: bool = False
    """Refuse a study without a mask."""
    mend_hu: bool = False
    """Shift values that were visibly never rescaled, or rescaled twice; otherwise they are refused."""


def prepare_into(root: Path, options: StudyOptions, job: Job) -> Outcome:
    """Prepare one file and put it into the store at `root`; a file that cannot be used gives a reason.

    StorageError, which concerns every other file too, is raised.
    """
    if study_folder(root, job.study_id).is_dir():
        return Outcome(job.study_id, job.name)
    try:
        study = prepare_study(job, options)
    except StudyError as error:
        return Outcome(job.study_id, job.name, str(error))
    except OSError as error:
        return Outcome(job.study_id, job.name, f"{job.name} cannot be read ({error}). Copy it again.")
    except MemoryError as error:
        raise StorageError(f"{job.name} does not fit into memory. Use fewer --workers.") from error
    write_study(root, study, options.store)
    return Outcome(job.study_id, job.name, "", (*study.facts["mended"], *study.facts["warnings"]))


def prepare_study(job: Job, options: StudyOptions) -> PreparedStudy:
    """Read, mend, resample; StudyError says why a file cannot be used."""
    scan = read_scan(job.volume)
    stored = Grid(_shape_of(scan.values), scan.affine)
    scan = mend_scan(scan, job.row, job.name, options.mend_hu)
    mended = Grid(stored.shape, scan.affine)
    organs = _find_organs(job, options, scan)
    hu, grid = resample_scan(scan, options.store)
    structures = None if organs is None else _place_organs(organs, (stored, mended), grid, options.store)
    facts: dict[str, Any] = {
        "file": job.name,
        "source": {
            "shape": list(mended.shape),
            "spacing_mm": [round(edge, 6) for edge in mended.spacing_mm],
            "orientation": mended.orientation,
        },
        "organs": organs.source if organs is not None else "",
        "mended": tuple(scan.done),
        "warnings": (*scan.warnings, *(organs.notes if organs is not None else ())),
    }
    return PreparedStudy(job.study_id, hu, grid, structures, facts)


def read_scan(path: Path) -> Scan:
    """The CT of one file as it is stored, with the header's own scaling; StudyError says what is wrong with it."""
    found, _ = find_candidates(path, DEFAULT_LIMITS)
    if found[0].read is None:
        raise StudyError(found[0].row.reason)
    return found[0].read(lambda _fraction, _message: None)


def resample_scan(scan: Scan, settings: StoreSettings) -> tuple[np.ndarray, Grid]:
    """The scan at the store's spacing with its axes turned to R, A, S: int16 HU (X, Y, Z) and where they lie."""
    source = Grid(_shape_of(scan.values), scan.affine)
    if settings.resample == "smooth":
        volume = Volume.from_source(scan.values, scan.affine)
        return resample_smoothly(volume.hu, volume.grid, settings.spacing_mm, settings.window_hu)
    grid = ras_grid(source)
    hu = resample_as_released(_turned(scan.values, source), grid.spacing_mm, settings.spacing_mm, settings.window_hu)
    return hu, stretched_grid(grid, _shape_of(hu))


def resample_organs(organs: Organs, source: Grid, target: Grid, settings: StoreSettings) -> np.ndarray:
    """The structure nearest to each voxel of `target`: uint8 (X, Y, Z). source: where the mask really lies."""
    labels = _turned(organs.structures, source)
    if settings.resample == "as_released":
        return stretch_nearest(labels, target.shape)
    return resample(labels, ras_grid(source), target, "nearest")


def _place_organs(organs: Organs, grids: tuple[Grid, Grid], target: Grid, settings: StoreSettings) -> np.ndarray:
    """Structures on the prepared CT. grids: the CT's as stored, and as mended."""
    stored, mended = grids
    if lies_on(organs.grid, stored) or lies_on(organs.grid, mended):
        return resample_organs(organs, mended, target, settings)
    if is_prepared(organs.grid, settings.spacing_mm, target.shape):
        return np.ascontiguousarray(_turned(organs.structures, organs.grid))
    raise StudyError(
        f"The mask {organs.source} has {organs.grid.shape} voxels of {_words(organs.grid)} mm, the CT "
        f"{stored.shape} of {_words(stored)} mm. Expected a mask on the CT's own grid, or on the prepared one."
    )


def _find_organs(job: Job, options: StudyOptions, scan: Scan) -> Organs | None:
    if job.mask is not None:
        return read_organs(job.mask, read_names(options.mask_names))
    if options.segmenter != "none":
        return segment_organs(options.segmenter, scan, EnginePlaces(options.organ_net))
    if options.needs_mask:
        raise StudyError(f"{job.name} has no mask in the tree of masks. Add it, or give --segmenter.")
    return None


def _turned(array: np.ndarray, grid: Grid) -> np.ndarray:
    """A view of an array on `grid` with its axes towards R, A, S."""
    return nio.apply_orientation(array, ras_axes(grid.affine))


def _shape_of(array: np.ndarray) -> tuple[int, int, int]:
    x, y, z = array.shape
    return int(x), int(y), int(z)


def _words(grid: Grid) -> str:
    return " x ".join(f"{edge:.3g}" for edge in grid.spacing_mm)
