"""Are these Hounsfield units? Judged from where air and soft tissue lie in the histogram."""

from typing import Literal, NamedTuple

import numpy as np

from core.errors import StudyError

SAMPLED_SLICES = 16
OFFSET = 32768
Kind = Literal["plausible", "unscaled", "double_scaled", "eight_bit", "not_hu"]


class HuVerdict(NamedTuple):
    """What the values look like."""

    kind: Kind
    message: str  # for a person; "" when plausible
    correction_hu: int  # add this to every voxel to get HU; 0 = none known

    @property
    def is_plausible(self) -> bool:
        """True = measurements in HU can be trusted as far as the histogram shows."""
        return self.kind == "plausible"


PLAUSIBLE = HuVerdict("plausible", "", 0)


class _Shares:
    """Shares of voxels between two values, without the padding."""

    def __init__(self, values: np.ndarray) -> None:
        step = max(1, values.shape[2] // SAMPLED_SLICES)
        sample = values[:, :, ::step].ravel(order="K").astype(np.int64) + OFFSET
        counts = np.bincount(sample, minlength=2 * OFFSET)
        self.distinct = int((counts > 0).sum())
        lowest = int(counts.argmax() if counts.argmax() == np.flatnonzero(counts)[0] else np.flatnonzero(counts)[0])
        total = counts.sum()
        if counts[lowest] > 0.01 * total and self.distinct > 2:  # one repeated lowest value is padding
            counts[lowest] = 0
        self._below = np.concatenate([[0], np.cumsum(counts)]) / max(1, counts.sum())

    def between(self, low: int, high: int) -> float:
        """Share of voxels with low <= value <= high."""
        return float(self._below[high + 1 + OFFSET] - self._below[low + OFFSET])


def judge_hounsfield(values: np.ndarray) -> HuVerdict:
    """Whether (I, J, K) int16 values are Hounsfield units; StudyError if they cannot be an image at all."""
    low, high = int(values.min()), int(values.max())
    shares = _Shares(values)
    _require_picture(low, high, shares)
    for judge in (_judge_depth, _judge_offset, _judge_tissue):
        verdict = judge(low, high, shares)
        if not verdict.is_plausible:
            return verdict
    return PLAUSIBLE


def _require_picture(low: int, high: int, shares: _Shares) -> None:
    if low == high:
        raise StudyError(f"Every voxel is {low}: the volume is empty. Expected a CT: export it again.")
    if high - low < 20 or (low >= 0 and high <= 255 and shares.distinct <= 32):
        raise StudyError(
            f"The values run from {low} to {high} with {shares.distinct} different ones: a mask or a normalised image. "
            "Expected a CT in Hounsfield units (about -1000 to 1000 or more): open the CT itself."
        )


def _judge_depth(low: int, high: int, _shares: _Shares) -> HuVerdict:
    if high - low > 255:
        return PLAUSIBLE
    return HuVerdict(
        "eight_bit",
        f"The values run only from {low} to {high}: 8-bit grey levels or a mask, not HU. Densities, masks and heat "
        "maps will be wrong. Open the original CT instead of a windowed copy.",
        0,
    )


def _judge_offset(low: int, _high: int, shares: _Shares) -> HuVerdict:
    """Soft tissue sharply at +1024 or +8192 (never rescaled), or at -1024 or -8192 (rescaled twice)."""
    for offset in (1024, 8192):
        tissue, negative = shares.between(offset - 150, offset + 150), shares.between(-1500, -200)
        if tissue > 0.05 and negative < 0.002:
            return HuVerdict(
                "unscaled",
                f"The values look unscaled: the lowest is {low} and soft tissue lies near {offset}, not 0. "
                f"Subtracting {offset} from every voxel would mend them.",
                -offset,
            )
    for offset in (1024, 8192):
        tissue, air = shares.between(-offset - 150, -offset + 150), shares.between(-offset - 1100, -offset - 820)
        if tissue > 0.05 and air > 0.02 and shares.between(-200, 300) < 0.02:
            return HuVerdict(
                "double_scaled",
                f"The values look rescaled twice: air lies near {-offset - 1000} and soft tissue near {-offset}. "
                f"Adding {offset} to every voxel would mend them.",
                offset,
            )
    return PLAUSIBLE


def _judge_tissue(low: int, high: int, shares: _Shares) -> HuVerdict:
    if low < -20 and shares.between(-200, 300) >= 0.005:
        return PLAUSIBLE
    why = (
        "nothing is below 0, where air and fat would be"
        if low >= -20
        else "almost nothing is soft tissue (-200 to 300)"
    )
    return HuVerdict(
        "not_hu",
        f"The values run from {low} to {high}, and {why}: they do not look like Hounsfield units. Densities, masks and "
        "heat maps may be wrong. Check that this is a CT, and that its rescale slope and intercept were kept.",
        0,
    )


def add_hu(values: np.ndarray, correction_hu: int) -> None:
    """Add to (I, J, K) int16 values in place, without wrapping round."""
    for index in range(values.shape[2]):
        plane = values[:, :, index].astype(np.int32) + correction_hu
        values[:, :, index] = np.clip(plane, -OFFSET, OFFSET - 1)
