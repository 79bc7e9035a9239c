"""Features of a store's studies: `python -m trainers.embed --store data/store --grounder bundled --out data/features`.

Run the same command again to continue. Prints one JSON document; studies that could not be embedded are in
failures.jsonl of the folder. `trainers.features.FeatureFolder` reads what it writes. See docs/data.md.
"""

import json
import os
import sys
import time
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from core.anatomy.masks import OrganMasks
from core.errors import AsapError, ConfigError, EngineError, StudyError
from core.grounding.engine import GroundingEngine, PatchFeatures
from core.grounding.registry import list_engines, load_engine, weights_folder
from trainers.features import FeatureManifest, Kind, hash_files, list_features, make_folder, write_features
from trainers.outcomes import Outcome, collect, summarise
from trainers.spread import SpreadConfig, spread
from trainers.store.reading import StudyStore

ENGINE = "store"
"""Who made the masks, as an engine is told."""


@dataclass(frozen=True)
class EmbedConfig:
    """Whose features, by what, to where."""

    store: Path
    """Store that trainers.prepare wrote."""
    out: Path
    """Folder of features: new, or one that an earlier run began."""
    grounder: str = "bundled"
    """Engine of `python -m asap_viewer engines`, or a model folder inside `models`."""
    kind: Kind = "patches"
    """One vector per patch, (gx, gy, gz, D), zero where a patch saw no voxel of the CT; or one per study, (D,)."""
    masks: Literal["auto", "never"] = "auto"
    """Let the study's organs place the engine's view where they are known, or never."""
    assets: Path = Path("assets")
    """Folder with models/bundled."""
    models: Path = Path("models")
    """Folder of weights, one folder per engine."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where each worker runs the engine."""
    spread: SpreadConfig = field(default_factory=lambda: SpreadConfig(workers=os.cpu_count() or 1))
    """Where the work is done."""


def embed(config: EmbedConfig) -> dict[str, Any]:
    """Embed every study that has no features yet; returns counts and failures with their reasons."""
    store = StudyStore(config.store)
    weights = _require_engine(config)
    manifest = FeatureManifest(
        config.grounder, hash_files(weights), config.kind, store.settings, config.masks == "auto"
    )
    make_folder(config.out, manifest)
    finished = set(list_features(config.out))
    due = [study_id for study_id in store.study_ids if study_id not in finished]
    began = time.monotonic()
    done = spread(partial(embed_study, config), due, config.spread)
    outcomes = collect(done, len(due), config.out, lambda study_id: Outcome(study_id, study_id))
    return {
        "features": str(config.out),
        "engine": manifest.engine,
        "weights_sha256": manifest.weights_sha256,
        "found": len(store.study_ids),
        "finished_before": len(store.study_ids) - len(due),
        "seconds": round(time.monotonic() - began, 1),
        **summarise(outcomes),
    }


def embed_study(config: EmbedConfig, study_id: str) -> Outcome:
    """Write the features of one study; a study that cannot be used gives a reason."""
    store = _store(config.store)
    try:
        engine = _engine(config.grounder, config.assets, config.models, config.device)
        require_window(engine, store)
        volume, masks = store.read_volume(study_id), None
        if config.masks == "auto" and store.has_structures(study_id):
            masks = OrganMasks(store.read_structures(study_id), ENGINE)
        write_features(config.out, study_id, features_of(engine.embed_volume(volume, masks), config.kind))
    except StudyError as error:
        return Outcome(study_id, study_id, str(error))
    return Outcome(study_id, study_id)


def features_of(found: PatchFeatures, kind: Kind) -> np.ndarray:
    """What is kept: (gx, gy, gz, D) patch vectors, zero where nothing was seen, or the (D,) study vector."""
    if kind == "study":
        return found.study_vector
    return np.where(found.covered[..., None], found.vectors, np.float32(0))


def require_window(engine: GroundingEngine, store: StudyStore) -> None:
    """Refuse a store whose values were clipped to less than the engine sees."""
    view = getattr(getattr(engine, "spec", None), "view", None)  # not every engine says what it sees
    if view is None:
        return
    low, high = store.settings.window_hu
    if low > view.hu_range[0] or high < view.hu_range[1]:
        raise ConfigError(
            f"The store {store.root} keeps {low:g} to {high:g} HU, the engine {engine.name} reads {view.hu_range[0]:g} "
            f"to {view.hu_range[1]:g}. Prepare a store with a wider --window-hu."
        )


def _require_engine(config: EmbedConfig) -> Path:
    """The folder of the engine's weights; EngineError says why it cannot run."""
    states = {state.name: state for state in list_engines(config.assets, config.models)}
    if config.grounder not in states:
        raise EngineError(f"There is no engine {config.grounder!r}. Expected one of: {', '.join(states)}.")
    if not states[config.grounder].can_run:
        raise EngineError(f"The engine {config.grounder!r} cannot run here. {states[config.grounder].lacks}")
    return weights_folder(config.grounder, config.assets, config.models)


@lru_cache(maxsize=1)
def _store(root: Path) -> StudyStore:
    """The store, opened once per process."""
    return StudyStore(root)


@lru_cache(maxsize=1)
def _engine(name: str, assets: Path, models: Path, device: str) -> GroundingEngine:
    """The engine, loaded once per process."""
    return load_engine(name, assets, models, device)


def main(config: EmbedConfig) -> None:
    """Embed and print one JSON document, or end with one line on what to mend."""
    try:
        told = embed(config)
    except AsapError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(tyro.conf.OmitArgPrefixes[EmbedConfig]))
