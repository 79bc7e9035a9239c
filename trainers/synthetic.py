"""Studies from the data engine as a training set: every item is a function of its index, the seed and the epoch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, reduce
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from core.errors import ConfigError
from core.models.checkpoint import write_atomically
from core.models.tokens import ReportTokenizer, mask_tokens
from core.organ_map import ORGAN_MAPS
from core.synthesis.patients import Patient
from core.synthesis.phantom import PhantomConfig, build_phantom
from core.synthesis.statement import Statement
from core.synthesis.studies import StudyConfig, SyntheticStudy, make_study
from trainers.batch import Sample
from trainers.patients import read_patients
from trainers.questions import Question, ask_about, question_fields

CLASS_STRUCTURES = ORGAN_MAPS["asap9"].names
"""Anatomy classes 1 to 8 of `organ_mask`; 0 is everything else."""

GIVEN = (
    "image organ_mask findings_ids findings_attn findings_sent report_ids report_attn report_sent mlm_in mlm_labels "
    "sentence_target sentence_target_valid"
).split()
"""Batch fields of every item."""


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
    """Most claims of others that are false of a study, asked beside its own, see `trainers.questions`; 0 asks none."""

    def __post_init__(self) -> None:
        view = self.study.view.shape
        if any(c % p or c > v for v, c, p in zip(view, self.crop, self.patch, strict=True)):
            raise ConfigError(f"crop {self.crop} must be whole patches {self.patch} and fit into the view {view}.")
        if self.window_hu[0] >= self.window_hu[1] or self.count < 1 or self.false_claims < 0:
            raise ConfigError("window_hu must rise from black to white, count be at least 1, false_claims 0.")


@dataclass(frozen=True, eq=False)
class StoredStudy:
    """A synthetic study in the form it is cached in."""

    image: np.ndarray
    """(X, Y, Z) uint8, the HU window spread over 0..255."""
    organs: np.ndarray
    """(X, Y, Z) uint8 anatomy classes."""
    regions: np.ndarray
    """(S, X*Y*Z / 8) uint8, the voxels where each sentence is true, packed eight to a byte."""
    sentences: tuple[str, ...]
    impression: str
    facts: tuple[dict[str, object], ...]
    """Per sentence: kind, existence, laterality of what it says first, whether that is all, what else is there."""


def offered_fields(config: SyntheticConfig) -> tuple[str, ...]:
    """Names of the batch fields that the data engine makes."""
    asked = ("asked_ids", "asked_attn", "asked_target", "asked_valid") if config.false_claims else ()
    return (*GIVEN, *asked)


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
        stored = self.stored(index)
        generator = torch.Generator().manual_seed((self.config.seed * 7919 + self._epoch) * 1_000_003 + index)
        asked = self._questions(index, stored)
        return to_sample(stored, f"synthetic-{index}", self.tokenizer, self.config, generator, asked)

    def _questions(self, index: int, stored: StoredStudy) -> list[Question]:
        """What is asked about a study: its own claims and some of others', drawn anew in every epoch."""
        if self.config.false_claims == 0:
            return []
        rng = np.random.default_rng([self.config.seed, index, self._epoch])
        others = (self.stored(int(other)) for other in rng.integers(self.config.count, size=4))
        borrowed = [pair for other in others for pair in zip(other.sentences, other.facts, strict=True)]
        own = list(zip(stored.sentences, stored.facts, strict=True))
        return ask_about(own, borrowed, self.config.false_claims, self._begin(index)[0].never_denied)

    def stored(self, index: int) -> StoredStudy:
        """Study number `index`, from the cache where there is one."""
        if self.config.cache_dir is None:
            return self._draw(index)
        path = self.config.cache_dir / f"{index:06d}.safetensors"
        if not path.is_file():
            write_stored(self._draw(index), path)
        return read_stored(path)

    def _draw(self, index: int) -> StoredStudy:
        study = self.study(index)
        return store(study, self.config)

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


def store(study: SyntheticStudy, config: SyntheticConfig) -> StoredStudy:
    """A study in the form that is cached and trained on."""
    low, high = config.window_hu
    gray = np.clip((study.scene.hu - low) / (high - low), 0.0, 1.0) * 255
    statements = study.report.statements
    return StoredStudy(
        np.rint(gray).astype(np.uint8),
        class_map(study.scene.labels),
        np.stack([np.packbits(study.region(statement)) for statement in statements]),
        tuple(statement.text for statement in statements),
        study.report.impression,
        tuple(_facts(statement) for statement in statements),
    )


def _facts(statement: Statement) -> dict[str, object]:
    """What is kept of a sentence; "also" lists further findings that it says are there."""
    also = [fact.kind for fact in statement.also if fact.existence != "absent"]
    facts: dict[str, object] = {"kind": statement.kind, "existence": statement.existence}
    facts |= {"laterality": statement.laterality, "is_alone": not statement.also, "also": also}
    return facts


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


def draw_crop(shape: tuple[int, ...], crop: tuple[int, int, int], generator: torch.Generator) -> tuple[slice, ...]:
    """A random box of `crop` voxels inside `shape`."""
    room = [whole - part for whole, part in zip(shape, crop, strict=True)]
    starts = [int(torch.randint(most + 1, (), generator=generator)) for most in room]
    return tuple(slice(start, start + part) for start, part in zip(starts, crop, strict=True))


def to_sample(
    stored: StoredStudy,
    study_id: str,
    tokenizer: ReportTokenizer,
    config: SyntheticConfig,
    generator: torch.Generator,
    questions: Sequence[Question] = (),
) -> Sample:
    """The batch fields of one study, see `trainers.batch`; crop and masked words come from `generator`."""
    findings = tokenizer.encode_sentences(stored.sentences, config.max_tokens)
    report = tokenizer.encode_sentences([*stored.sentences, stored.impression], config.max_tokens)
    draws = torch.rand(report.ids.shape, generator=generator)
    masked, labels = mask_tokens(report.ids, draws, config.text_mask_ratio)
    box = draw_crop(stored.image.shape, config.crop, generator)
    regions = np.unpackbits(stored.regions, axis=1).reshape(-1, *stored.image.shape)[:, *box]
    shares = torch.from_numpy(patch_shares(regions, config.patch))
    told = int(findings.sentence_map.max())  # the last sentences of a long report may not fit
    asked = question_fields(questions, shares, tokenizer, config.max_tokens) if config.false_claims else {}
    return asked | {
        "study_id": study_id,
        "image": torch.from_numpy(stored.image[None, *box]).float() / 127.5 - 1.0,
        "organ_mask": torch.from_numpy(np.ascontiguousarray(stored.organs[box])),
        "findings_ids": findings.ids,
        "findings_attn": findings.attn,
        "findings_sent": findings.sentence_map,
        "report_ids": report.ids,
        "report_attn": report.attn,
        "report_sent": report.sentence_map,
        "mlm_in": masked,
        "mlm_labels": labels,
        "sentence_target": shares[:told],
        "sentence_target_valid": torch.ones(told, dtype=torch.bool),
    }


def write_stored(stored: StoredStudy, path: Path) -> None:
    """Cache one study as safetensors."""
    arrays = {"image": stored.image, "organs": stored.organs, "regions": stored.regions}
    words = {"sentences": stored.sentences, "impression": stored.impression, "facts": stored.facts}
    write_atomically(path, to_bytes(arrays, {"study": json.dumps(words)}))


def read_stored(path: Path) -> StoredStudy:
    """Inverse of `write_stored`."""
    with safe_open(str(path), framework="np") as file:
        words = json.loads(file.metadata()["study"])
        image, organs, regions = (file.get_tensor(name) for name in ("image", "organs", "regions"))
    return StoredStudy(image, organs, regions, tuple(words["sentences"]), words["impression"], tuple(words["facts"]))
