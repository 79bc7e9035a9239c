"""What the viewer draws, as arrays and JSON: the CT in two resolutions, the organ labels, a heat map."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from asap_viewer.served import Blob
from core.anatomy.masks import OrganMasks
from core.resample import average_down, resample, spaced_grid
from core.structures import BY_NUMBER, GROUPS, spoken_name
from core.volume import Grid, Volume

FIRST_VOXELS = 20_000_000
"""A CT with more voxels is shown at lower resolution first."""

LABEL_VOXELS = 100_000_000
"""A label map with more voxels is thinned before it is sent: the browser holds it whole."""

HEAT_SIDE = 112
"""Heat maps are sent with about this many voxels along the longest side; the canvas smooths the rest."""

Publish = Callable[[Blob], str]
"""Gives a blob an address."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One array on its grid, ready to be fetched."""

    blob: Blob
    grid: Grid

    def prop(self, publish: Publish) -> dict[str, Any]:
        """What the browser needs to fetch and place it."""
        return {
            "url": publish(self.blob),
            "etag": self.blob.etag.strip('"'),
            "shape": list(self.grid.shape),
            "affine": self.grid.affine.tolist(),
        }


@dataclass(frozen=True, eq=False)
class CTLayers:
    """One CT for the browser; built once, published to every session that opens it."""

    volume: Volume
    first: Layer
    """What is shown first: the CT itself, or block means of it when it is large."""
    full: Layer | None
    """The CT itself where `first` is not; None otherwise."""

    def prop(self, publish: Publish, title: str, labels: Layer | None = None, masks: OrganMasks | None = None) -> dict:
        """The viewer's `scan` property. `labels` and `masks` belong together."""
        return {
            "id": self.volume.content_hash[:16],
            "title": title,
            "shape": list(self.volume.shape),
            "affine": self.volume.affine.tolist(),
            "spacing_mm": list(self.volume.spacing_mm),
            "source_affine": self.volume.source.affine.tolist(),
            "volume": self.first.prop(publish),
            "full": self.full.prop(publish) if self.full else None,
            "labels": labels.prop(publish) if labels else None,
            "structures": structure_table(masks) if masks else [],
            "masks_engine": masks.engine if masks else "",
        }


def ct_layers(volume: Volume, first_voxels: int = FIRST_VOXELS) -> CTLayers:
    """Prepare a CT for the viewer: at most about `first_voxels` first, the whole on demand."""
    whole = Layer(Blob(volume.hu, volume.content_hash), volume.grid)
    factors = first_factors(volume.grid, first_voxels)
    if max(factors) == 1:
        return CTLayers(volume, whole, None)
    mean, grid = average_down(volume.hu, volume.grid, factors)
    name = f"{volume.content_hash}-{'x'.join(map(str, factors))}"
    return CTLayers(volume, Layer(Blob(np.rint(mean).astype(np.int16), name), grid), whole)


def first_factors(grid: Grid, max_voxels: int = FIRST_VOXELS) -> tuple[int, int, int]:
    """Block size (x, y, z) whose means fit into `max_voxels`, doubling the finest axis first."""
    factors = np.ones(3, dtype=int)
    shape, spacing_mm = np.array(grid.shape), np.array(grid.spacing_mm)
    while np.prod(shape // factors) > max_voxels:
        factors[np.argmin(np.where(shape // factors > 1, spacing_mm * factors, np.inf))] *= 2
    return int(factors[0]), int(factors[1]), int(factors[2])


def label_layer(masks: OrganMasks, volume: Volume) -> Layer:
    """Organ labels for the browser, thinned (nearest voxel, no blending) where they are very large."""
    factors = first_factors(volume.grid, LABEL_VOXELS)
    if max(factors) == 1:
        return Layer(Blob(masks.labels), volume.grid)
    grid = spaced_grid(volume.grid, np.array(volume.spacing_mm) * factors)
    return Layer(Blob(resample(masks.labels, volume.grid, grid, "nearest")), grid)


def heat_layer(heat: np.ndarray, grid: Grid, volume: Volume) -> Layer:
    """A heat map (X, Y, Z) in [0, 1] on its own `grid` -> uint8 along the CT's axes, smooth enough to draw."""
    extent_mm = np.array(volume.spacing_mm) * np.array(volume.shape)
    spacing_mm = np.maximum(np.array(volume.spacing_mm), extent_mm.max() / HEAT_SIDE)
    target = spaced_grid(volume.grid, spacing_mm)
    value = resample(np.asarray(heat, np.float32), grid, target, "linear")
    return Layer(Blob(np.rint(np.clip(value, 0.0, 1.0) * 255).astype(np.uint8)), target)


def structure_table(masks: OrganMasks, measured: Mapping[str, Mapping[str, float]] | None = None) -> list[dict]:
    """One row per structure in the masks, group by group; `measured` adds numbers such as volume_ml."""
    rows = sorted((BY_NUMBER[number] for number in masks.numbers()), key=lambda row: GROUPS.index(row.group))
    return [
        {
            "number": row.number,
            "name": row.name,
            "spoken": spoken_name(row.name),
            "group": row.group,
            "colour": row.colour,
            **(measured or {}).get(row.name, {}),
        }
        for row in rows
    ]
