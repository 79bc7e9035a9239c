"""A second look at the same crop: flipped and with another brightness, for methods that compare two views."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError
from core.organ_map import find_organ_map
from trainers.crops import Crop, DataView, show


@dataclass(frozen=True)
class ViewChange:
    """How the second view differs from the first; the organ mask follows every flip."""

    flip_chance: float = 0.2
    """Chance of a flip per axis."""
    gain: float = 0.1
    """Largest share by which the contrast is raised or lowered."""
    offset: float = 0.05
    """Largest shift of the brightness, in shares of the shown range."""
    noise: float = 0.02
    """Standard deviation of the noise on voxels, in shares of the shown range."""

    def __post_init__(self) -> None:
        if not 0 <= self.flip_chance <= 1 or min(self.gain, self.offset, self.noise) < 0:
            raise ConfigError("flip_chance must lie in [0, 1]; gain, offset and noise must not be below 0.")


class SecondView:
    """Field source of `image_v2` and `organ_mask_v2`; see `trainers.sources.FieldSource`."""

    fields = ("image_v2", "organ_mask_v2")

    def __init__(self, view: DataView, change: ViewChange | None = None) -> None:
        self.view, self.change = view, change or ViewChange()
        self._organ_of = find_organ_map(view.organ_map).lut()

    def check(self, study_ids: Sequence[str]) -> None:
        """Every study that has a crop has a second view."""

    def make(self, crop: Crop, rng: np.random.Generator) -> Mapping[str, Tensor]:
        """The crop's image float32 (1, X, Y, Z) and organ mask uint8 (X, Y, Z), changed; no mask where it has none."""
        axes = tuple(axis for axis in range(3) if rng.random() < self.change.flip_chance)
        image = vary_brightness(show(np.flip(crop.hu, axes), self.view), self.view.shown_as, self.change, rng)
        fields = {"image_v2": torch.from_numpy(image)[None]}
        if crop.structures is not None:
            mask = self._organ_of[np.flip(crop.structures, axes)]
            fields["organ_mask_v2"] = torch.from_numpy(np.ascontiguousarray(mask))
        return fields


def vary_brightness(
    image: np.ndarray, shown_as: tuple[float, float], change: ViewChange, rng: np.random.Generator
) -> np.ndarray:
    """Image (X, Y, Z) float32 with random gain about the middle of its range, offset and noise; may leave the range."""
    low, high = shown_as
    middle, spread = np.float32((low + high) / 2), high - low
    gain = np.float32(1 + rng.uniform(-change.gain, change.gain))
    offset = np.float32(spread * rng.uniform(-change.offset, change.offset))
    varied = (image - middle) * gain + middle + offset
    if change.noise > 0:
        varied += np.float32(spread * change.noise) * rng.standard_normal(image.shape, dtype=np.float32)
    return varied
