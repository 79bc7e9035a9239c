"""Synthetic studies on disk, small enough for thousands: one byte a voxel, masks packed, and read in milliseconds."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from core.models.checkpoint import write_atomically
from core.synthesis.studies import SyntheticStudy

Facts = dict[str, object]
"""Of a sentence: text, kind, existence, laterality and organs of what it says first, whether that is all (`is_alone`),
and region: the number of where it is true, or -1. Of a painted kind of finding: organs and region."""

HU_STEPS = ((-1024, 8), (-200, 4), (300, 48), (1548, 48))
"""From these HU on, so many HU per code: fine where soft tissues differ, and finer than the noise of a CT."""


def _hu_codes() -> np.ndarray:
    """HU of every code, ascending, float32."""
    spans = zip(HU_STEPS, HU_STEPS[1:], strict=False)
    return np.concatenate([np.arange(low, high, step) for (low, step), (high, _) in spans]).astype(np.float32)


HU_OF_CODE = _hu_codes()


NOWHERE = -1
"""Region of what is true nowhere."""


def region_of(facts: Facts) -> int:
    """Number of the region where a sentence is true, or that a kind of finding fills; `NOWHERE` if there is none."""
    region = facts["region"]
    assert isinstance(region, int)
    return region


@dataclass(frozen=True)
class Words:
    """What is told of a study."""

    statements: tuple[Facts, ...]
    """The sentences of the report in order."""
    impression: str
    painted: dict[str, Facts]
    """Every kind of finding that was painted, with its organs and region."""
    never_denied: tuple[str, ...] = ()
    """Kinds of finding that the patient may really have."""

    @property
    def sentences(self) -> list[str]:
        return [str(facts["text"]) for facts in self.statements]


@dataclass(frozen=True, eq=False)
class StoredStudy:
    """A synthetic study in the form it is cached in."""

    codes: np.ndarray
    """(X, Y, Z) uint8, numbers of `HU_OF_CODE`, axes RAS."""
    labels: np.ndarray
    """(X, Y, Z) uint8 numbers of `core.structures`."""
    regions: np.ndarray
    """(R, X, Y, Z) bool, True = inside; each region once."""
    words: Words

    def hu(self, box: tuple[slice, ...]) -> np.ndarray:
        """The CT within a box, float32 HU."""
        hu: np.ndarray = HU_OF_CODE[self.codes[box]]
        return hu


def encode_hu(hu: np.ndarray) -> np.ndarray:
    """HU as the nearest code of `HU_OF_CODE`, uint8; clipped at both ends."""
    middles = (HU_OF_CODE[1:] + HU_OF_CODE[:-1]) / 2
    table = np.searchsorted(middles, np.arange(int(HU_OF_CODE[0]), int(HU_OF_CODE[-1]) + 1)).astype(np.uint8)
    whole = np.clip(np.rint(hu), HU_OF_CODE[0], HU_OF_CODE[-1]).astype(np.int32)
    codes: np.ndarray = table[whole - int(HU_OF_CODE[0])]
    return codes


def store(study: SyntheticStudy, never_denied: Sequence[str] = ()) -> StoredStudy:
    """A study in the form that is cached and trained on."""
    regions: list[np.ndarray] = []
    numbers: dict[bytes, int] = {}

    def number_of(region: np.ndarray) -> int:
        if not region.any():
            return NOWHERE
        key = np.packbits(region).tobytes()
        if key not in numbers:
            numbers[key] = len(regions)
            regions.append(region)
        return numbers[key]

    statements = tuple(
        {
            "text": s.text,
            "kind": s.kind,
            "existence": s.existence,
            "laterality": s.laterality,
            "organs": list(s.organs),
            "is_alone": not s.also,
            "region": number_of(study.region(s)),
        }
        for s in study.report.statements
    )
    painted: dict[str, Facts] = {}
    for kind in sorted({finding.claim.kind for finding in study.findings}):
        same = [finding for finding in study.findings if finding.claim.kind == kind]
        organs = sorted({organ for finding in same for organ in finding.claim.organs})
        painted[kind] = {"organs": organs, "region": number_of(np.any([f.mask for f in same], axis=0))}
    shape = study.scene.hu.shape
    stacked = np.stack(regions) if regions else np.zeros((0, *shape), bool)
    words = Words(statements, study.report.impression, painted, tuple(never_denied))
    return StoredStudy(encode_hu(study.scene.hu), study.scene.labels, stacked, words)


def write_stored(stored: StoredStudy, path: Path) -> None:
    """Cache one study as safetensors: codes as they are, labels and packed regions deflated."""
    packed = np.packbits(stored.regions.reshape(len(stored.regions), -1), axis=1)
    arrays = {"codes": stored.codes, "labels": _deflate(stored.labels), "regions": _deflate(packed)}
    words = stored.words
    told = {
        "statements": words.statements,
        "impression": words.impression,
        "painted": words.painted,
        "never_denied": words.never_denied,
        "regions": len(stored.regions),
    }
    write_atomically(path, to_bytes(arrays, {"study": json.dumps(told)}))


def read_stored(path: Path) -> StoredStudy:
    """Inverse of `write_stored`."""
    with safe_open(str(path), framework="np") as file:
        told = json.loads(file.metadata()["study"])
        codes, labels, packed = (file.get_tensor(name) for name in ("codes", "labels", "regions"))
    bits = _inflate(packed).reshape(told["regions"], -1)
    regions = np.unpackbits(bits, axis=1, count=codes.size).reshape(-1, *codes.shape).view(bool)
    return StoredStudy(codes, _inflate(labels).reshape(codes.shape), regions, _words(told))


def read_words(path: Path) -> Words:
    """What is told of a cached study; its arrays are not read."""
    with safe_open(str(path), framework="np") as file:
        return _words(json.loads(file.metadata()["study"]))


def _words(told: dict) -> Words:
    return Words(tuple(told["statements"]), told["impression"], told["painted"], tuple(told["never_denied"]))


def _deflate(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(zlib.compress(np.ascontiguousarray(array).tobytes(), 1), np.uint8)


def _inflate(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(zlib.decompress(array.tobytes()), np.uint8)
