"""What the scanner adds to a CT: kernel, slice thickness, noise, streaks, an offset. Findings are painted before."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import ndimage

from core.synthesis.scene import Scene

PADDING_HU = -1024.0


@dataclass(frozen=True)
class ScanConfig:
    """How far the acquisition may vary; all zero = as painted. White noise and softness are in `ViewConfig`."""

    sharpen: float = 0.6
    """Most of what a sharp kernel adds of the difference to a blurred copy; a study has a soft or a sharp kernel."""
    thick_chance: float = 0.35
    """How often the slices are thicker than the voxels."""
    thickness_mm: tuple[float, float] = (4.0, 8.0)
    """Thinnest and thickest of such slices; they are averaged and interpolated back."""
    grain_hu: float = 18.0
    """Largest deviation of noise that is correlated over two voxels, as a soft kernel leaves it."""
    streak_chance: float = 0.25
    """How often a low dose draws streaks from side to side."""
    streak_hu: float = 35.0
    """Largest deviation of these streaks at the level of the shoulders."""


NO_SCAN = ScanConfig(0, 0, (4.0, 8.0), 0, 0, 0)
"""As painted."""


class Limits(Protocol):
    """The fields of `patients.ViewConfig` read here."""

    @property
    def noise_hu(self) -> float: ...
    @property
    def offset_hu(self) -> float: ...
    @property
    def blur_voxels(self) -> float: ...
    @property
    def scan(self) -> ScanConfig: ...


def degrade(scene: Scene, view: Limits, rng: np.random.Generator) -> None:
    """Scan the scene: changes its HU in place; padding stays padding."""
    padding = scene.hu <= PADDING_HU + 1
    _apply_kernel(scene, view, rng)
    if rng.random() < view.scan.thick_chance:
        _thicken(scene, float(rng.uniform(*view.scan.thickness_mm)))
    _add_noise(scene, view, rng)
    scene.hu[...] += np.float32(rng.uniform(-1, 1) * view.offset_hu)
    scene.hu[padding] = PADDING_HU


def _apply_kernel(scene: Scene, view: Limits, rng: np.random.Generator) -> None:
    kind = rng.random()
    if kind < 0.45 and view.blur_voxels > 0:
        sigma = rng.uniform(0, view.blur_voxels, 3) * [0.7, 0.7, 1.0]
        scene.hu[...] = ndimage.gaussian_filter(scene.hu, sigma, truncate=2.5)
    elif kind < 0.75 and view.scan.sharpen > 0:
        soft = ndimage.gaussian_filter(scene.hu, (0.8, 0.8, 0.0), truncate=2.5)
        scene.hu[...] += np.float32(rng.uniform(0, view.scan.sharpen)) * (scene.hu - soft)
        np.maximum(scene.hu, PADDING_HU, out=scene.hu)


def _thicken(scene: Scene, thickness_mm: float) -> None:
    """Average slices of `thickness_mm` and interpolate them back to the voxels: one matrix along z."""
    step, n = scene.grid.spacing_mm[2], scene.hu.shape[2]
    if thickness_mm <= step * 1.2:
        return
    middles = np.arange(thickness_mm / 2, n * step, thickness_mm)
    at = (np.arange(n) + 0.5) * step
    overlap = np.minimum(at[None] + step / 2, middles[:, None] + thickness_mm / 2)
    overlap = np.clip(overlap - np.maximum(at[None] - step / 2, middles[:, None] - thickness_mm / 2), 0, None)
    average = overlap / overlap.sum(axis=1, keepdims=True)
    near = np.clip(1 - np.abs(at[:, None] - np.clip(middles, at[0], at[-1])[None]) / thickness_mm, 0, None)
    back = near / np.maximum(near.sum(axis=1, keepdims=True), 1e-6)
    scene.hu[...] = np.tensordot(scene.hu, (back @ average).astype(np.float32), axes=(2, 1))


def _add_noise(scene: Scene, view: Limits, rng: np.random.Generator) -> None:
    shape = scene.hu.shape
    if view.noise_hu > 0:
        scene.hu[...] += rng.standard_normal(shape, np.float32) * np.float32(rng.uniform(0, view.noise_hu))
    if view.scan.grain_hu > 0 and rng.random() < 0.5:
        grain = ndimage.uniform_filter(rng.standard_normal(shape, np.float32), 2) * np.float32(8**0.5)
        scene.hu[...] += grain * np.float32(rng.uniform(0, view.scan.grain_hu))
    if rng.random() < view.scan.streak_chance:
        scene.hu[...] += _streaks(scene, float(rng.uniform(0.2, 1.0)) * view.scan.streak_hu, rng)


def _streaks(scene: Scene, deviation_hu: float, rng: np.random.Generator) -> np.ndarray:
    """Noise that runs from side to side, strongest at the shoulders (the top of the lungs) and weak in the middle."""
    long = max(3, round(40.0 / scene.grid.spacing_mm[0]))
    lines = ndimage.uniform_filter1d(rng.standard_normal(scene.hu.shape, np.float32), long, axis=0)
    height = np.linspace(-1, 1, scene.hu.shape[2], dtype=np.float32)
    strength = 0.35 + 0.65 * np.clip(height * 1.6, 0, 1) + 0.15 * np.clip(-height, 0, 1)
    streaks: np.ndarray = lines * np.float32(long**0.5 * deviation_hu) * strength[None, None, :]
    return streaks
