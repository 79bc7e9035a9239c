"""Studies from the data engine as a training set: every item is a function of its index, the seed and the epoch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

from core.errors import ConfigError
from core.models.tokens import ReportTokenizer, mask_tokens
from core.organ_map import ORGAN_MAPS
from core.report.traits import sentence_traits
from core.synthesis.patients import Patient
from core.synthesis.phantom import PhantomConfig, build_phantom
from core.synthesis.studies import StudyConfig, SyntheticStudy, make_study
from trainers.batch import Sample
from trainers.cells import classes_of_cells, count_in_cells, regions_of_kinds
from trainers.claims import AskedClaim, claims_about
from trainers.patients import read_patients
from trainers.stored_study import (
    NOWHERE,
    Facts,
    StoredStudy,
    Words,
    read_stored,
    read_words,
    region_of,
    store,
    write_stored,
)

CLASS_STRUCTURES = ORGAN_MAPS["asap9"].names
"""Anatomy classes 1 to 8 of `organ_mask`; 0 is everything else."""

GIVEN = (
    "image organ_mask findings_ids findings_attn findings_sent report_ids report_attn report_sent mlm_in mlm_labels "
    "sentence_target sentence_target_valid"
).split()
"""Batch fields of every item."""

LENDERS = 6
"""Other studies whose sentences may serve as false claims."""


@dataclass(frozen=True)
class SyntheticConfig:
    """A training set of the data engine."""

    patients_dir: Path = Path("data/patients")
    """Folder of patients that `python -m trainers.patients` wrote."""
    held_out: tuple[str, ...] = ()
    """Patients that give no training study."""
    phantoms: int = 1
    """Formula-made chests among the patients."""
    count: int = 4000
    """Different studies; epochs after the first see them again with other words masked."""
    seed: int = 0
    """Of all draws."""
    cache_dir: Path | None = None
    """Folder that keeps studies between epochs and runs; None draws each anew (about 0.15 s)."""
    study: StudyConfig = field(default_factory=StudyConfig)
    """What a study holds; its view is at least as large as `crop`."""
    crop: tuple[int, int, int] = (80, 64, 80)
    """Voxels the model reads, cut from the view at a random place in every epoch."""
    patch: tuple[int, int, int] = (8, 8, 8)
    """Voxels of one patch of the model, for the regions of sentences."""
    window_hu: tuple[float, float] = (-1000.0, 500.0)
    """HU shown to the model as -1 and 1."""
    max_tokens: int = 160
    """Longest report in tokens."""
    text_mask_ratio: float = 0.75
    """Share of report tokens to be guessed."""
    false_claims: int = 0
    """Most claims borrowed from other studies that are false of a study, see `trainers.claims`; 0 asks nothing."""
    cells: bool = False
    """Whether the truth is told on cells of 2 voxels as well, for a model of two scales."""
    jitter_hu: float = 0.0
    """Largest deviation of the noise that is added each time a study is seen; all HU also shift by up to a quarter."""

    def __post_init__(self) -> None:
        view = self.study.view.shape
        if any(c % p or c > v for v, c, p in zip(view, self.crop, self.patch, strict=True)):
            raise ConfigError(f"crop {self.crop} must be whole patches {self.patch} and fit into the view {view}.")
        if self.window_hu[0] >= self.window_hu[1] or self.count < 1 or min(self.false_claims, self.jitter_hu) < 0:
            raise ConfigError("window_hu must rise from black to white, count be at least 1, others at least 0.")


def offered_fields(config: SyntheticConfig) -> tuple[str, ...]:
    """Names of the batch fields that the data engine makes."""
    asked = ("ids", "attn", "traits", "target", "valid", "region") if config.false_claims else ()
    cells = ("region_cells", "kind_region", "cell_class") if config.cells else ()
    return (*GIVEN, *(f"asked_{what}" for what in asked), *cells)


class SyntheticStudies:
    """The data engine as `trainers.batches.Studies`."""

    def __init__(self, config: SyntheticConfig, tokenizer: ReportTokenizer) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.patients = _patients(config)
        self._epoch = 0

    def __len__(self) -> int:
        return self.config.count

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the batch fields of an item."""
        return offered_fields(self.config)

    def set_epoch(self, epoch: int) -> None:
        """Choose which words are masked from now on."""
        self._epoch = epoch

    def __getitem__(self, index: int) -> Sample:
        stored, seed = self.stored(index), [self.config.seed, index, self._epoch]
        maker = SampleMaker(self.config, self.tokenizer, np.random.default_rng(seed))
        return maker.make(stored, f"synthetic-{index}", self._borrowed(index) if self.config.false_claims else ())

    def _borrowed(self, index: int) -> list[Facts]:
        """Sentences of a few other studies, others in every epoch."""
        rng = np.random.default_rng([self.config.seed, index, self._epoch, 1])
        others = rng.integers(self.config.count, size=LENDERS).tolist()
        return [facts for other in others for facts in self.words(other).statements]

    def words(self, index: int) -> Words:
        """What is told of a study."""
        path = self.path(index)
        return read_words(path) if path is not None and path.is_file() else self.stored(index).words

    def stored(self, index: int) -> StoredStudy:
        """Study number `index`, from the cache where there is one."""
        path = self.path(index)
        if path is None:
            return self._draw(index)
        if not path.is_file():
            write_stored(self._draw(index), path)
        return read_stored(path)

    def path(self, index: int) -> Path | None:
        """Where a study is kept."""
        return None if self.config.cache_dir is None else self.config.cache_dir / f"{index:06d}.safetensors"

    def _draw(self, index: int) -> StoredStudy:
        return store(self.study(index), self._begin(index)[0].never_denied)

    def study(self, index: int) -> SyntheticStudy:
        """The whole study, with voxel masks of its findings."""
        patient, rng = self._begin(index)
        return make_study(patient, self.config.study, rng, f"synthetic-{index}")

    def _begin(self, index: int) -> tuple[Patient, np.random.Generator]:
        """The patient of a study, and the generator that draws the rest of it."""
        rng = np.random.default_rng([self.config.seed, index])
        return self.patients[int(rng.integers(len(self.patients)))], rng


def _patients(config: SyntheticConfig) -> list[Patient]:
    """Real patients twice each, phantoms once: they are there for variety, not for realism."""
    real = read_patients(config.patients_dir, config.held_out)
    return [*real, *real, *(phantom_patient(seed) for seed in range(config.phantoms))]


def phantom_patient(seed: int) -> Patient:
    """A formula-made chest without lesions."""
    phantom = build_phantom(replace(PhantomConfig(), lesions=(), noise_hu=8.0, seed=seed))
    return Patient(f"phantom-{seed}", phantom.volume.hu, phantom.masks.labels, phantom.volume.grid)


def class_map(labels: np.ndarray) -> np.ndarray:
    """Structure numbers (X, Y, Z) -> anatomy classes of `CLASS_STRUCTURES`, 0 = none, uint8."""
    classes: np.ndarray = ORGAN_MAPS["asap9"].lut()[labels]
    return classes


def patch_shares(regions: np.ndarray, patch: tuple[int, int, int]) -> np.ndarray:
    """Share of each patch inside regions (S, X, Y, Z) bool: (S, L) float32, patches counted x-major."""
    px, py, pz = patch
    counts = regions.astype(np.uint8)
    for size, pattern in (
        (pz, "s x y (n p) -> s x y n"),
        (py, "s x (n p) z -> s x n z"),
        (px, "s (n p) y z -> s n y z"),
    ):
        counts = reduce(counts.astype(np.uint16), pattern, "sum", p=size)
    return rearrange(counts, "s x y z -> s (x y z)").astype(np.float32) / (px * py * pz)


class SampleMaker(NamedTuple):
    """Stored studies as batch fields, see `trainers.batch`; crop, noise, claims and masked words come from `rng`."""

    config: SyntheticConfig
    tokenizer: ReportTokenizer
    rng: np.random.Generator

    def make(self, stored: StoredStudy, study_id: str, borrowed: Sequence[Facts] = ()) -> Sample:
        """All fields of one study; `borrowed` sentences of others serve as false claims."""
        box = self.draw_crop(stored.codes.shape)
        regions, labels = stored.regions[:, *box], stored.labels[box]
        shares = torch.from_numpy(patch_shares(regions, self.config.patch))
        places = np.array([region_of(facts) for facts in stored.words.statements], np.int64)
        told = self._words(stored.words)
        places = places[: int(told["findings_sent"].max())]  # the last sentences of a long report may not fit
        sample: dict[str, Tensor | str] = {
            **told,
            "study_id": study_id,
            "image": self._image(stored.hu(box)),
            "organ_mask": torch.from_numpy(class_map(labels)),
            "sentence_target": _rows_of(shares, places),
            "sentence_target_valid": torch.ones(len(places), dtype=torch.bool),
        }
        if self.config.cells:
            sample["region_cells"] = torch.from_numpy(count_in_cells(regions))
            sample["cell_class"] = torch.from_numpy(classes_of_cells(labels))
            sample["kind_region"] = torch.from_numpy(self._kinds(stored.words, regions))
        if self.config.false_claims:
            claims = claims_about(stored.words, borrowed, self.config.false_claims, self.rng)
            sample |= self._asked(claims, shares)
        return sample

    def draw_crop(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        """A random box of the config's crop inside `shape`."""
        room = [whole - part for whole, part in zip(shape, self.config.crop, strict=True)]
        starts = [int(self.rng.integers(most + 1)) for most in room]
        return tuple(slice(start, start + part) for start, part in zip(starts, self.config.crop, strict=True))

    def _image(self, hu: np.ndarray) -> Tensor:
        (low, high), jitter = self.config.window_hu, self.config.jitter_hu
        if jitter:
            hu = hu + self.rng.standard_normal(hu.shape, np.float32) * np.float32(self.rng.uniform(0, jitter))
            hu += np.float32(self.rng.uniform(-0.25, 0.25) * jitter)
        shown = torch.from_numpy(np.ascontiguousarray(hu))[None]
        return ((shown - low) * (2 / (high - low)) - 1).clamp(-1.0, 1.0)

    def _kinds(self, words: Words, regions: np.ndarray) -> np.ndarray:
        """As `regions_of_kinds`; what the crop has lost is unknown."""
        numbers = regions_of_kinds(words.painted, words.never_denied)
        lost = [number for number in range(len(regions)) if not regions[number].any()]
        return np.where(np.isin(numbers, lost), np.int16(-2), numbers)

    def _words(self, words: Words) -> dict[str, Tensor]:
        findings = self.tokenizer.encode_sentences(words.sentences, self.config.max_tokens)
        report = self.tokenizer.encode_sentences([*words.sentences, words.impression], self.config.max_tokens)
        draws = torch.from_numpy(self.rng.random(report.ids.shape, np.float32))
        masked, labels = mask_tokens(report.ids, draws, self.config.text_mask_ratio)
        return {
            "findings_ids": findings.ids,
            "findings_attn": findings.attn,
            "findings_sent": findings.sentence_map,
            "report_ids": report.ids,
            "report_attn": report.attn,
            "report_sent": report.sentence_map,
            "mlm_in": masked,
            "mlm_labels": labels,
        }

    def _asked(self, claims: Sequence[AskedClaim], shares: Tensor) -> dict[str, Tensor]:
        """Claims as fields `asked_*`. What lies outside of the crop is there and cannot be seen: it does not count."""
        places = np.array([claim.region for claim in claims], np.int64)
        ids, attn = torch.zeros((0, 1), dtype=torch.int64), torch.zeros((0, 1), dtype=torch.bool)
        if claims:
            ids, attn = self.tokenizer.encode_prompts([claim.text for claim in claims], self.config.max_tokens)
        target = _rows_of(shares, places)
        return {
            "asked_ids": ids,
            "asked_attn": attn,
            "asked_traits": torch.from_numpy(sentence_traits(claim.text for claim in claims)),
            "asked_target": target,
            "asked_valid": target.any(dim=1) | torch.from_numpy(places == NOWHERE),
            "asked_region": torch.from_numpy(places.astype(np.int16)),
        }


def _rows_of(shares: Tensor, places: np.ndarray) -> Tensor:
    """Shares (R, L) of the regions at `places` (S,), zeros where that is `NOWHERE`: (S, L)."""
    rows = shares.new_zeros((len(places), shares.shape[1]))
    there = torch.from_numpy(places != NOWHERE)
    rows[there] = shares[torch.from_numpy(places)[there]]
    return rows
