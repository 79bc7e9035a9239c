"""A small honest engine for retrieval tests: bags of hashed words. It reads text; of a CT it reads only density."""

import hashlib
import re

import numpy as np

from core.grounding.engine import PatchFeatures
from core.retrieval.table import ReportRow

WIDTH = 64


def word_vector(word: str, salt: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b((salt + word).encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)


class WordEngine:
    """Sentences are sums of random word vectors; a CT is the words of what its mean density suggests."""

    name = "words"
    needs_masks = False

    def __init__(self, salt: str = "") -> None:
        self.salt = salt
        self.embedded_sentences = 0

    def embed_sentences(self, sentences):
        self.embedded_sentences += len(sentences)
        return np.stack([self._embed(sentence) for sentence in sentences])

    def embed_report(self, sentences):
        return unit(np.sum([self._embed(sentence) for sentence in sentences], axis=0))

    def embed_volume(self, volume, masks=None, progress=lambda fraction, message: None):
        words = "dense lung consolidation" if volume.hu.mean() > -500 else "clear lung"
        vector = self._embed(words)
        patches = np.broadcast_to(vector, (1, 1, 1, WIDTH)).copy()
        return PatchFeatures(patches, volume.grid, np.ones((1, 1, 1), bool), vector, self.name)

    def presence_probability(self, score, negated_score):
        return float(1 / (1 + np.exp(negated_score - score)))

    def _embed(self, sentence):
        words = re.findall(r"[a-z]+", sentence.lower())
        return unit(np.sum([word_vector(word, self.salt) for word in words or [""]], axis=0))


ROWS = (
    ReportRow("a", "There is a large left pleural effusion. The heart is normal.", labels={"Pleural effusion": True}),
    ReportRow("b", "No pleural effusion. A spiculated nodule in the right upper lobe.", labels={"Lung nodule": True}),
    ReportRow("c", "Dense consolidation of the lung. Air bronchograms.", "Pneumonia.", labels={"Consolidation": True}),
    ReportRow("d", "The heart is enlarged. There is a large left pleural effusion.",
              labels={"Pleural effusion": True, "Cardiomegaly": True}),
    ReportRow("e", "Emphysema in both upper lobes. The heart is normal.", labels={"Cardiomegaly": False}),
)  # fmt: skip
