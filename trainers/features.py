"""Features of studies on disk: what a frozen encoder says of each, computed once.

FOLDER/manifest.json      which engine, which weights, which preprocessing
FOLDER/ID.npy             float16: (gx, gy, gz, D) patches towards R, A, S, or (D,) for the whole study
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from core.errors import CheckpointError, ConfigError, StorageError, StudyError
from core.models.checkpoint import config_from_json, config_to_json, write_atomically
from trainers.store.layout import StoreSettings

MANIFEST = "manifest.json"
FORMAT = "study-features-1"
Kind = Literal["patches", "study"]


@dataclass(frozen=True)
class FeatureManifest:
    """What all features of a folder have in common; changing anything takes a new folder."""

    engine: str
    """Name of the engine, or of the encoder, that made them."""
    weights_sha256: str
    """Of the files they were made with, see `hash_files`."""
    kind: Kind
    """One vector per patch, or one per study."""
    store: StoreSettings
    """How the studies were prepared before."""
    uses_masks: bool = False
    """Whether organ masks placed the engine's view."""
    format: str = FORMAT
    """Version of this layout."""


class FeatureFolder:
    """The features that are there now."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = read_manifest(root)
        self.study_ids: tuple[str, ...] = list_features(root)

    def read(self, study_id: str) -> np.ndarray:
        """Features of a study, float16, read-only from disk: (gx, gy, gz, D) or (D,)."""
        try:
            features: np.ndarray = np.load(feature_file(self.root, study_id), mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise StudyError(f"{self.root} has no features of study {study_id}. Run trainers.embed for it.") from error
        except (OSError, ValueError, EOFError) as error:
            raise StudyError(f"The features of study {study_id} are damaged ({error}). Delete the file.") from error
        return features


def make_folder(root: Path, manifest: FeatureManifest) -> None:
    """Begin a folder, or go on with one of the same manifest; ConfigError for another's."""
    if (root / MANIFEST).is_file():
        found, wanted = (json.loads(config_to_json(one)) for one in (read_manifest(root), manifest))
        differing = [name for name in found if found[name] != wanted[name]]
        if differing:
            raise ConfigError(f"{root} holds features of another kind ({', '.join(differing)}). Choose another folder.")
        return
    if root.is_dir() and any(root.iterdir()):
        raise ConfigError(f"{root} holds other files and no features. Choose a new or empty folder.")
    _keep(root / MANIFEST, json.dumps(json.loads(config_to_json(manifest)), indent=1).encode() + b"\n")


def read_manifest(root: Path) -> FeatureManifest:
    """ConfigError where there are no features that this version reads."""
    try:
        text = (root / MANIFEST).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"No features at {root}; make some with `python -m trainers.embed`.") from error
    manifest = config_from_json(FeatureManifest, text)
    if manifest.format != FORMAT:
        raise ConfigError(f"{root} has format {manifest.format!r}; this version reads {FORMAT!r}. Embed again.")
    return manifest


def list_features(root: Path) -> tuple[str, ...]:
    """Ids of the studies that have features, sorted."""
    return tuple(sorted(file.stem for file in root.glob("*.npy") if not file.name.startswith(".")))


def feature_file(root: Path, study_id: str) -> Path:
    """Where the features of a study lie."""
    return root / f"{study_id}.npy"


def write_features(root: Path, study_id: str, features: np.ndarray) -> None:
    """Keep the features of a study, whole or not at all, as float16; StudyError for NaN or values beyond it."""
    with np.errstate(over="ignore"):
        half = features.astype(np.float16)
    if not np.isfinite(half).all():
        raise StudyError(f"The features of study {study_id} hold NaN or values beyond float16. Check the weights.")
    sink = io.BytesIO()
    np.save(sink, half, allow_pickle=False)
    _keep(feature_file(root, study_id), sink.getvalue())


def hash_files(folder: Path) -> str:
    """SHA-256 over names and contents of the files of a folder, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _keep(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except (CheckpointError, OSError) as error:
        raise StorageError(f"{error} What is finished stays; run the same command again.") from error
