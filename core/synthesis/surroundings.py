"""What lies around the patient: table, arms beside the chest, the limits of the scanned and reconstructed field."""

from dataclasses import dataclass, replace

import numpy as np

from core.synthesis.scene import Scene, bounding_box, smooth_noise

AIR_HU, PADDING_HU = -1000.0, -1024.0


@dataclass(frozen=True)
class SurroundingsConfig:
    """How often what is drawn; all zero = as scanned."""

    clear_chance: float = 0.4
    """Take the table and clothes of the scanned patient away."""
    table_chance: float = 0.6
    """Where they were taken away, lay the patient on another table."""
    arms_chance: float = 0.2
    """Arms down: limbs with bone beside the chest, where the field of view has room, and dark bands between them."""
    circle_chance: float = 0.35
    """Pad what lies outside of a round field of reconstruction."""
    circle_mm: tuple[float, float] = (150.0, 230.0)
    """Smallest and largest radius of that circle."""
    cut_chance: float = 0.15
    """End the scan early, above or below."""
    cut_share: float = 0.3
    """Most of the lungs' height that such a scan misses."""
    prone_chance: float = 0.03
    """The patient lies on the front: fluid and table change sides."""


NO_SURROUNDINGS = SurroundingsConfig(0, 0, 0, 0, (150.0, 230.0), 0, 0.3, 0)
"""As scanned."""


def surround(scene: Scene, config: SurroundingsConfig, rng: np.random.Generator) -> Scene:
    """Draw surroundings into the scene's HU; the scene returned knows its padding and which way gravity pulls.

    Voxels that become padding lose their label, so that nothing is painted there.
    """
    is_prone = bool(rng.random() < config.prone_chance)
    if is_prone or rng.random() < config.clear_chance:
        _clear(scene)
        if rng.random() < config.table_chance:
            _draw_table(scene, is_prone, rng)
    if rng.random() < config.arms_chance:
        _draw_arms(scene, rng)
    is_seen = _seen(scene, config, rng)
    if is_seen is not None:
        scene.hu[~is_seen] = PADDING_HU
        scene.labels[~is_seen] = 0
    return replace(scene, is_prone=is_prone, is_seen=is_seen)


def _clear(scene: Scene) -> None:
    """Air around the body, where the source had anything but padding."""
    np.putmask(scene.hu, (scene.labels == 0) & (scene.hu > -1015) & (scene.hu < 3000), AIR_HU)


def _draw_table(scene: Scene, is_prone: bool, rng: np.random.Generator) -> None:
    """Two thin curved shells with foam between them, behind the body (in front of it when prone)."""
    body = bounding_box(scene.labels > 0)
    if body is None:
        return
    x_mm = (np.arange(scene.hu.shape[0]) - (body[0].start + body[0].stop) / 2) * scene.grid.spacing_mm[0]
    y_mm = np.arange(scene.hu.shape[1]) * scene.grid.spacing_mm[1]
    edge, away = (body[1].stop, 1.0) if is_prone else (body[1].start, -1.0)
    sag = float(rng.uniform(0.0, 0.0012)) * x_mm**2
    beyond = away * (y_mm[None, :] - edge * scene.grid.spacing_mm[1]) - float(rng.uniform(-8, 4)) + sag[:, None]
    thick = float(rng.uniform(18, 60))
    wide = np.abs(x_mm)[:, None] < float(rng.uniform(190, 260))
    shell = np.minimum(np.abs(beyond), np.abs(beyond - thick)) < max(1.5, 0.5 * scene.grid.spacing_mm[1])
    slab = np.where(shell, rng.uniform(-500, 100), np.where((beyond > 0) & (beyond < thick), -930.0, PADDING_HU))
    slab = np.where(wide, slab, PADDING_HU).astype(np.float32)[:, :, None]
    free = (scene.labels == 0) & (scene.hu > -1015)
    np.copyto(scene.hu, np.maximum(scene.hu, slab), where=free)


def _draw_arms(scene: Scene, rng: np.random.Generator) -> None:
    """An oval limb with a bone on each side of the chest, and the dark bands that two dense bones draw between them."""
    body = bounding_box(scene.mask("lung"))
    if body is None:
        return
    size, step = scene.hu.shape, np.array(scene.grid.spacing_mm)
    top = float(rng.uniform(0.3, 1.2)) * size[2]
    y_mm = (np.arange(size[1])[:, None] - (body[1].start + body[1].stop) / 2) * step[1]
    z = np.arange(size[2])
    y_mm = y_mm - float(rng.uniform(-30, 30)) - 0.1 * (z[None, :] - size[2] / 2) * step[2]
    shade = np.zeros((1, size[1], size[2]), np.float32)
    for side in (body[0].start, body[0].stop):
        away = 1.0 if side == body[0].stop else -1.0
        middle = side * step[0] + away * float(rng.uniform(60, 95))
        x_mm = (np.arange(size[0]) * step[0] - middle)[:, None, None]
        radius = float(rng.uniform(34, 48))
        gap = np.sqrt((x_mm / 1.0) ** 2 + (y_mm[None] / 1.15) ** 2)
        limb = (gap < radius) & (scene.labels == 0) & (z < top)
        scene.hu[limb] = 45.0
        np.putmask(scene.hu, limb & (gap > radius - 7), -95.0)
        np.putmask(scene.hu, limb & (gap < 11), float(rng.uniform(500, 1100)))
        if limb.any():
            shade += np.exp(-((y_mm[None] / 14.0) ** 2)) * (z < top)
    waves = smooth_noise(shade.shape, 2.0, rng)
    scene.hu[...] += np.where(scene.hu > PADDING_HU, shade * (-float(rng.uniform(5, 30)) + 12 * waves), 0).astype(
        np.float32
    )


def _seen(scene: Scene, config: SurroundingsConfig, rng: np.random.Generator) -> np.ndarray | None:
    """(X, Y, Z) bool of what the scan covers, or None for all."""
    circle, cut = rng.random() < config.circle_chance, rng.random() < config.cut_chance
    lung = bounding_box(scene.mask("lung"))
    if lung is None or not (circle or cut):
        return None
    seen = np.ones(scene.hu.shape, bool)
    if circle:
        x, y = (
            ((np.arange(n) - (part.start + part.stop) / 2) * step + float(rng.uniform(-10, 10))) ** 2
            for n, part, step in zip(scene.hu.shape, lung[:2], scene.grid.spacing_mm, strict=False)
        )
        seen &= ((x[:, None] + y[None, :]) < rng.uniform(*config.circle_mm) ** 2)[:, :, None]
    if cut:
        missed = int(rng.uniform(0, config.cut_share) * (lung[2].stop - lung[2].start))
        if rng.random() < 0.5:
            seen[:, :, lung[2].stop - missed :] = False
        else:
            seen[:, :, : lung[2].start + missed] = False
    return seen
