"""A folder of real studies as a training set: volumes/ID.nii.gz, masks/ID.nii.gz, reports.csv."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch

from core.errors import ConfigError, ReportError, StudyError
from core.models.tokens import Encoding, ReportTokenizer, mask_released, mask_tokens
from core.organ_map import ORGAN_MAPS
from core.preprocess import Size3, crop_and_pad, resample_as_released, resample_smoothly, window_hu
from core.report.rephrase import swap_side
from core.report.sentences import split_sentences
from core.resample import resample
from core.retrieval.table import ReportRow, read_table
from core.volume import Grid, Volume
from trainers.batch import Sample
from trainers.synthetic import class_map

REPORTS, VOLUMES, MASKS, CACHE = "reports.csv", "volumes", "masks", "prepared"
SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class FolderConfig:
    """How volumes and reports of a folder become training studies."""

    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 3.0)
    """Voxel size (x, y, z) the model is trained at."""
    window_hu: tuple[float, float] = (-1000.0, 1000.0)
    """Hounsfield units shown to the model as -1 and 1."""
    as_released: bool = False
    """Resample, cut, flip and split text as the published code does, defects included."""
    mirror_chance: float = 0.3
    """How often a study is mirrored, with left and right swapped in its report and masks; not when as_released."""
    smallest_crop: float = 0.8
    """Shortest crop per axis, in shares of the volume."""
    flip_chance: float = 0.2
    """Chance of a flip per axis that text and labels know nothing of; only when as_released."""
    offset_chance: float = 0.1
    """How often the whole image is made a little brighter or darker, by at most 0.1 of its range of 2."""
    max_tokens: int = 512
    """Longest text in tokens."""
    text_mask_ratio: float = 0.75
    """Share of report tokens to be guessed."""
    seed: int = 0
    """Of all draws."""

    def __post_init__(self) -> None:
        chances = (self.mirror_chance, self.flip_chance, self.offset_chance, self.text_mask_ratio)
        if min(chances) < 0 or max(chances) > 1 or not 0 < self.smallest_crop <= 1 or self.max_tokens < 4:
            raise ConfigError("Chances and ratios must lie in [0, 1], smallest_crop in (0, 1], max_tokens above 3.")


class Texts(NamedTuple):
    """Findings and whole report of one study as tokens."""

    findings: Encoding
    report: Encoding


class FolderStudies:
    """See `trainers.batches.Studies`; prepared volumes are kept in `cache_dir` as memory-mapped arrays."""

    def __init__(
        self, root: Path, config: FolderConfig, crop: Size3, tokenizer: ReportTokenizer, cache_dir: Path
    ) -> None:
        self.root, self.config, self.crop, self.tokenizer, self.cache_dir = root, config, crop, tokenizer, cache_dir
        self.rows = read_reports(root)
        self._epoch = 0
        _require_files(root, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Choose crops, mirrors and masked words from now on."""
        self._epoch = epoch

    def __getitem__(self, index: int) -> Sample:
        config, row = self.config, self.rows[index]
        rng = np.random.default_rng([config.seed, self._epoch, index])
        hu, organs = self.prepared(row.study_id)
        start, size = draw_crop(hu.shape, self.crop, config.smallest_crop, rng)
        box = tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))
        image = window_hu(crop_and_pad(hu[box], (0, 0, 0), self.crop), config.window_hu)
        classes = class_map(crop_and_pad(organs[box], (0, 0, 0), self.crop))
        is_mirrored = not config.as_released and bool(rng.random() < config.mirror_chance)
        if is_mirrored:
            image, classes = image[::-1], swap_class_sides(classes[::-1])
        if config.as_released:
            image, classes = _flip_blindly(image, classes, config.flip_chance, rng)
        if rng.random() < config.offset_chance:
            image = image + np.float32(rng.uniform(-0.1, 0.1))
        return self._sample(row, image, classes, is_mirrored, rng)

    def prepared(self, study_id: str) -> tuple[np.ndarray, np.ndarray]:
        """CT (X, Y, Z) int16 HU and structure numbers uint8 at the training spacing, read from the cache."""
        paths = [self.cache_dir / f"{study_id}.{kind}.npy" for kind in ("hu", "organs")]
        if not all(path.is_file() for path in paths):
            self.cache_dir.mkdir(parents=True, exist_ok=True)
            for path, array in zip(paths, prepare_study(self.root, study_id, self.config), strict=True):
                scratch = path.with_suffix(".part.npy")
                np.save(scratch, array)
                scratch.replace(path)
        hu, organs = (np.load(path, mmap_mode="r") for path in paths)
        return hu, organs

    def _sample(
        self, row: ReportRow, image: np.ndarray, classes: np.ndarray, is_mirrored: bool, rng: np.random.Generator
    ) -> Sample:
        texts = self._texts(row, is_mirrored)
        ids, draws = texts.report.ids, torch.from_numpy(rng.random(len(texts.report.ids)))
        masked, labels = mask_tokens(ids, draws, self.config.text_mask_ratio)
        if self.config.as_released:
            masked = mask_released(ids, draws, self.config.text_mask_ratio)
        return {
            "study_id": row.study_id,
            "image": torch.from_numpy(np.ascontiguousarray(image))[None],
            "organ_mask": torch.from_numpy(np.ascontiguousarray(classes)),
            "findings_ids": texts.findings.ids,
            "findings_attn": texts.findings.attn,
            "findings_sent": texts.findings.sentence_map,
            "report_ids": ids,
            "report_attn": texts.report.attn,
            "mlm_in": masked,
            "mlm_labels": labels,
        }

    def _texts(self, row: ReportRow, is_mirrored: bool) -> Texts:
        longest = self.config.max_tokens
        if self.config.as_released:
            whole = row.findings + row.impression
            whole = row.findings if whole.endswith(("Not given.", "Not given")) else whole
            read = self.tokenizer.encode_released
            return Texts(read(row.findings, longest), read(whole, longest))
        findings, impression = (_sentences(text, is_mirrored) for text in (row.findings, row.impression))
        read_split = self.tokenizer.encode_sentences
        return Texts(read_split(findings, longest), read_split(findings + impression, longest))


def read_reports(root: Path) -> list[ReportRow]:
    """Rows of the folder's report table; refuses a folder without one or without a usable row."""
    if not (root / REPORTS).is_file():
        raise ConfigError(f"No {REPORTS} in {root}; expected columns study_id,findings[,impression].")
    rows = list(read_table(root / REPORTS).rows)
    if not rows:
        raise ReportError(f"{root / REPORTS} has no row with a study_id and findings.")
    return rows


def prepare_study(root: Path, study_id: str, config: FolderConfig) -> tuple[np.ndarray, np.ndarray]:
    """Read one study and bring CT and organ mask to the training spacing: int16 HU and uint8 structure numbers."""
    volume, organs = _read_study(root, study_id)
    if config.as_released:
        hu = resample_as_released(volume.hu, volume.spacing_mm, config.spacing_mm)
        return hu, _stretch_nearest(organs, (hu.shape[0], hu.shape[1], hu.shape[2]))
    hu, grid = resample_smoothly(volume.hu, volume.grid, config.spacing_mm, config.window_hu)
    return hu, resample(organs, volume.grid, grid, "nearest")


def draw_crop(shape: tuple[int, ...], crop: Size3, smallest: float, rng: np.random.Generator) -> tuple[Size3, Size3]:
    """A random box: first a share in [smallest, 1] of each axis, then at most `crop` of that; start and size."""
    starts, sizes = [], []
    for n, most in zip(shape, crop, strict=True):
        share = int(rng.integers(max(1, int(n * smallest)), n + 1))
        size = min(share, most)
        starts.append(int(rng.integers(0, n - share + 1)) + int(rng.integers(0, share - size + 1)))
        sizes.append(size)
    return (starts[0], starts[1], starts[2]), (sizes[0], sizes[1], sizes[2])


def swap_class_sides(classes: np.ndarray) -> np.ndarray:
    """Anatomy classes of a mirrored study: sides swap, the middle lobe becomes left upper."""
    swapped: np.ndarray = ORGAN_MAPS["asap9"].mirror()[classes]
    return swapped


def _require_files(root: Path, rows: list[ReportRow]) -> None:
    """Refuse at the start a folder in which a study lacks its volume or mask."""
    for kind, builder in (
        (VOLUMES, "copy the CT there"),
        (MASKS, "python -m asap_viewer segment CT --out MASK.nii.gz"),
    ):
        absent = [row.study_id for row in rows if _find(root / kind, row.study_id) is None]
        if absent:
            raise ConfigError(
                f"{len(absent)} of {len(rows)} studies have no file in {root / kind} (first: {absent[0]}.nii.gz). "
                f"Make it: {builder}; or take the study out of {REPORTS}."
            )


def _find(folder: Path, study_id: str) -> Path | None:
    stem = study_id.removesuffix(".nii.gz").removesuffix(".nii")
    return next((folder / f"{stem}{suffix}" for suffix in SUFFIXES if (folder / f"{stem}{suffix}").is_file()), None)


def _read_study(root: Path, study_id: str) -> tuple[Volume, np.ndarray]:
    """CT and structure numbers (X, Y, Z) uint8 on its grid."""
    paths = [_find(root / kind, study_id) for kind in (VOLUMES, MASKS)]
    try:
        ct, mask = (nib.nifti1.load(path) for path in paths if path is not None)
        hu, labels = np.asanyarray(ct.dataobj), np.asanyarray(mask.dataobj)
    except (OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError) as error:
        raise StudyError(f"Study {study_id} cannot be read ({error}). Copy its files again.") from error
    if hu.ndim != 3 or not np.isfinite(hu).all():
        raise StudyError(
            f"Study {study_id} has shape {hu.shape} or voxels that are no numbers; expected a 3-D CT in HU."
        )
    volume = Volume.from_source(np.clip(np.rint(hu), -1024, 3071), ct.affine)
    if not Grid(labels.shape, mask.affine).matches(volume.source):
        raise StudyError(f"The mask of study {study_id} is not on the CT's grid; expected shape {hu.shape}. Redo it.")
    return volume, volume.from_source_array(labels).astype(np.uint8)


def _stretch_nearest(labels: np.ndarray, shape: Size3) -> np.ndarray:
    """Nearest-neighbour resizing to `shape` with the published step's outer faces."""
    places = [((np.arange(m) + 0.5) * n / m).astype(int) for n, m in zip(labels.shape, shape, strict=True)]
    return labels[np.ix_(*places)]


def _flip_blindly(
    image: np.ndarray, classes: np.ndarray, chance: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The published flips of each axis: neither the report nor the labels learn of them (spec 7.1, point 8)."""
    axes = tuple(axis for axis in range(3) if rng.random() < chance)
    return np.flip(image, axes), np.flip(classes, axes)


def _sentences(text: str, is_mirrored: bool) -> list[str]:
    spans = split_sentences(text)
    return [swap_side(span.text) if is_mirrored else span.text for span in spans]
