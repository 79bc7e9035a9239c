"""Measurements in words: one to three diameters, mm or cm."""

import numpy as np

from core.synthesis.claims import Claim
from core.synthesis.places import pick

CM_FROM_MM = 10
"""Smaller sizes are told in mm."""


def write_size(claim: Claim, rng: np.random.Generator) -> str:
    """ "12 mm", "1.2 cm", "12 x 9 mm"; "" when the claim has no size. Rounded to whole mm, or to 0.1 cm."""
    if claim.size_mm is None:
        return ""
    diameters = [claim.size_mm]
    if claim.second_mm is not None and rng.random() < 0.4:
        diameters.append(claim.second_mm)
        if claim.third_mm is not None and rng.random() < 0.4:
            diameters.append(claim.third_mm)
    whole = [max(1, round(value)) for value in diameters]
    if whole[0] >= CM_FROM_MM and rng.random() < 0.35:
        return _joined([f"{value / 10:.1f}" for value in whole], pick(("cm", "cm", "cm", "centimetres"), rng), rng)
    unit = pick(("mm", "mm", "mm", "mm", "millimetres" if rng.random() < 0.5 else "millimeters"), rng)
    return _joined([str(value) for value in whole], unit, rng)


def _joined(numbers: list[str], unit: str, rng: np.random.Generator) -> str:
    if len(numbers) == 1:
        return f"{numbers[0]} {unit}"
    cross = pick((" x ", " x ", "x", " × ", " by "), rng)
    if cross == " x " and rng.random() < 0.15:
        return cross.join(f"{number} {unit}" for number in numbers)
    return f"{cross.join(numbers)} {unit}"


def as_prefix(size: str, rng: np.random.Generator) -> str:
    """A size in front of a noun, with its blank: "12 mm ", "12-mm "; "" without one."""
    if not size:
        return ""
    number, _, unit = size.rpartition(" ")
    is_plain = number.replace(".", "").isdigit() and unit in ("mm", "cm")
    return f"{number}-{unit} " if is_plain and rng.random() < 0.3 else f"{size} "
