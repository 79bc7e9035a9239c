"""What a frozen text encoder makes of texts that it reads again and again, kept in files."""

import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError, StorageError
from core.folder import replace_file
from core.models.text import TextEncoder, mean_state

DTYPE = np.float16
"""Of the files. States are rounded to it also when they are new, so that a text means the same at every reading."""


class TextCache:
    """States of texts by their tokens and the encoder's weights; one file per text in `folder`."""

    def __init__(self, folder: Path, encoder: TextEncoder) -> None:
        """Refuses an encoder that trains, or that draws dropout, for its states would differ at every reading."""
        if not encoder.is_frozen or encoder.train(True).training:
            raise ConfigError(
                "Only the states of a frozen text encoder that runs in eval mode can be kept; this one trains or draws "
                "dropout. Set text_frozen and fixes.text_in_eval_mode, or train without --cache-text."
            )
        self.folder, self.encoder = folder, encoder
        self._weights = _fingerprint(encoder)

    def read(self, ids: Tensor, is_real: Tensor) -> Tensor:
        """Last hidden states (B, T, D) float32 of ids (B, T) int64, is_real (B, T) bool; zero where not real."""
        keys = [self._key(row[real]) for row, real in zip(ids.cpu(), is_real.cpu(), strict=True)]
        absent = [row for row, key in enumerate(keys) if not self._path(key).is_file()]
        if absent:
            self._add(ids[absent], is_real[absent], [keys[row] for row in absent])
        states = torch.zeros(*ids.shape, self.encoder.config.width)
        for row, key in enumerate(keys):
            states[row, is_real[row].cpu()] = torch.from_numpy(np.load(self._path(key)).astype(np.float32))
        return states.to(ids.device)

    def _add(self, ids: Tensor, is_real: Tensor, keys: list[str]) -> None:
        with torch.no_grad():
            states = self.encoder(ids, is_real).float().cpu().numpy().astype(DTYPE)
        for row, real, key in zip(states, is_real.cpu().numpy(), keys, strict=True):
            path = self._path(key)
            try:
                written = io.BytesIO()
                np.save(written, row[real])
                replace_file(path, written.getvalue())
            except OSError as error:
                raise StorageError(f"Text states could not be kept in {self.folder} ({error}); free space.") from error

    def _key(self, tokens: Tensor) -> str:
        return hashlib.sha256(self._weights + tokens.numpy().tobytes()).hexdigest()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npy"


def _fingerprint(encoder: TextEncoder) -> bytes:
    """A hash of all weights of the body."""
    digest = hashlib.sha256()
    for name, value in encoder.bert.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.digest()


class SentenceMemory:
    """Mean states of sentences that a frozen text encoder has read, kept in memory; the oldest are forgotten."""

    def __init__(self, encoder: TextEncoder, most: int = 200_000) -> None:
        self.encoder, self.most = encoder, most
        self._known: dict[bytes, Tensor] = {}

    def read(self, ids: Tensor, is_real: Tensor) -> Tensor:
        """(S, W) float32 of ids (S, T) int64, is_real (S, T) bool: the mean of the real tokens but the first."""
        keys = [row[real].cpu().numpy().tobytes() for row, real in zip(ids, is_real, strict=True)]
        new = [row for row, key in enumerate(keys) if key not in self._known]
        if new:
            found = self._read(ids[new], is_real[new])
            self._known.update(zip((keys[row] for row in new), found, strict=True))
        states = torch.stack([self._known[key] for key in keys]) if keys else self._read(ids, is_real)
        while len(self._known) > self.most:
            del self._known[next(iter(self._known))]
        return states

    @torch.no_grad()
    def _read(self, ids: Tensor, is_real: Tensor) -> Tensor:
        return mean_state(self.encoder(ids, is_real).float(), is_real)
