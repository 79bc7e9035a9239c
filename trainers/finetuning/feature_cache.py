"""What a frozen encoder says of each study, computed once and kept as float16.

CACHE/KEY/encoder.json   sizes, weights and view that the key stands for
CACHE/KEY/NAME.npy       pooled features of a study, (F,)
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from core.errors import StudyError
from core.models.checkpoint import config_to_json, write_atomically
from core.models.classifier import HeadConfig, pool_tokens
from core.tasks.view import TaskView, cut_middle, show, thin_out
from trainers.features import feature_file, write_features
from trainers.finetuning.encoders import StartEncoder
from trainers.finetuning.volumes import CtFiles, stem_of

ABOUT = "encoder.json"


class Features(NamedTuple):
    """Studies that could be read."""

    values: np.ndarray  # (N, F) float32, as kept in float16
    rows: tuple[int, ...]  # their places among the ids that were asked for
    skipped: dict[str, str]  # the others, with the reason


class FeatureCache:
    """Pooled features by one encoder, one view and one way of pooling."""

    def __init__(self, root: Path, start: StartEncoder, view: TaskView, head: HeadConfig, device: str = "cpu") -> None:
        self.start, self.view, self.head, self.device = start, view, head, torch.device(device)
        told = {
            "weights_sha256": start.sha256,
            "view": json.loads(config_to_json(view)),
            "pool": head.pool,
            "encoder_norm": head.encoder_norm,
        }
        key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = root / key
        if not (self.folder / ABOUT).is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / ABOUT, json.dumps(told | {"encoder": start.name}, indent=1).encode())

    def collect(self, files: CtFiles, ids: Sequence[str]) -> Features:
        """Features of all studies that can be read; what is new is computed and kept."""
        names = [f"{stem_of(name).replace('/', '__')}-{files.fingerprint(name)}" for name in ids]
        due = [place for place, name in enumerate(names) if not feature_file(self.folder, name).is_file()]
        skipped = self._compute(files, [(ids[place], names[place]) for place in due]) if due else {}
        rows = tuple(place for place, study_id in enumerate(ids) if study_id not in skipped)
        if not rows:
            first = next(iter(skipped.items()), ("none", "the list is empty"))
            raise StudyError(f"No study could be read. The first: {first[0]}: {first[1]}")
        kept = [np.load(feature_file(self.folder, names[row]), allow_pickle=False) for row in rows]
        return Features(np.stack(kept).astype(np.float32), rows, skipped)

    def _compute(self, files: CtFiles, due: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Write the features of (id, name) pairs; ids that cannot be read, with the reason."""
        backbone, skipped = self.start.build().to(self.device).eval(), dict[str, str]()
        for study_id, name in tqdm(due, unit="CT", desc="features", disable=not sys.stderr.isatty()):
            try:
                image = torch.from_numpy(self._image(files, study_id))[None, None].to(self.device)
                with torch.inference_mode():
                    pooled = pool_tokens(backbone.last_tokens(image, self.head.encoder_norm), self.head.pool)
                write_features(self.folder, name, pooled[0].cpu().numpy())
            except StudyError as error:
                skipped[study_id] = " ".join(str(error).split())
        return skipped

    def _image(self, files: CtFiles, study_id: str) -> np.ndarray:
        """The middle of a CT as the encoder sees it: (X, Y, Z) float32."""
        hu, grid = thin_out(files.read(study_id), self.view)
        return np.ascontiguousarray(show(cut_middle(hu, grid, self.view)[0], self.view))
