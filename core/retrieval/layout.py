"""A flat map of a collection: similar reports lie close together."""

from typing import Literal

import numpy as np

from core.errors import ConfigError
from core.retrieval.neighbours import Neighbours

Layout = Literal["pca", "umap"]
UMAP_NEIGHBOURS = 15
"""Reports that count as near in a UMAP; its authors' default (arXiv 1802.03426)."""


def lay_out(vectors: np.ndarray, method: Layout = "pca") -> np.ndarray:
    """Map coordinates (M, 2) float32, each axis within [-1, 1], of unit vectors (M, D).

    "pca" is linear and immediate; "umap" keeps neighbours together, takes a minute for some thousand reports and
    needs the package umap-learn (ConfigError without it).
    """
    if method == "umap" and len(vectors) > UMAP_NEIGHBOURS + 1:
        return _scaled(_umap(vectors))
    return _scaled(_principal(vectors))


def _principal(vectors: np.ndarray) -> np.ndarray:
    """Coordinates on the two directions of largest variance; signs fixed so that a rebuild gives the same map."""
    if len(vectors) == 0:
        return np.zeros((0, 2), np.float32)
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    axes = directions[:, ::-1][:, :2]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    placed = centred @ (axes * np.where(largest < 0, -1.0, 1.0))
    return np.pad(placed, ((0, 0), (0, 2 - placed.shape[1])))


def _umap(vectors: np.ndarray) -> np.ndarray:
    try:
        import umap
    except ImportError as error:
        raise ConfigError('The map "umap" needs the package umap-learn: install it, or choose "pca".') from error
    found = Neighbours.build(vectors).nearest(vectors, UMAP_NEIGHBOURS)
    knn = (found.rows, np.clip(1.0 - found.cosines, 0.0, None))
    fitted = umap.UMAP(n_neighbors=UMAP_NEIGHBOURS, metric="cosine", precomputed_knn=knn, random_state=0, n_jobs=1)
    return fitted.fit_transform(vectors)


def _scaled(placed: np.ndarray) -> np.ndarray:
    """Centre the bounding box and fit it into [-1, 1], the same scale on both axes."""
    if len(placed) == 0:
        return placed.astype(np.float32)
    low, high = placed.min(axis=0), placed.max(axis=0)
    half = max(float((high - low).max()) / 2, 1e-9)
    return ((placed - (low + high) / 2) / half).astype(np.float32)
