"""Whole synthetic reports: what is there, what is not, what is normal, and a summary of it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from core.findings import CT_RATE_LABELS
from core.structures import LOBES, side_of
from core.synthesis.claims import KINDS, Claim, side_of_organs
from core.synthesis.sentences import STYLES, Statement, Style, write_sentence

NORMALITY: dict[str, tuple[str, ...]] = {
    "heart": (
        "The heart is normal in size.",
        "Heart size is within normal limits.",
        "The cardiac silhouette is not enlarged.",
        "Cardiac chambers have a normal appearance.",
    ),
    "aorta": (
        "The thoracic aorta has a normal calibre.",
        "The aorta is not dilated.",
        "Normal course and width of the aorta.",
    ),
    "trachea": (
        "The trachea and main bronchi are patent.",
        "Central airways are clear.",
        "The airway is open down to the segmental level.",
    ),
    "lung": (
        "The lungs are well aerated.",
        "Both lungs are clear.",
        "Lung parenchyma has a normal density.",
        "The lungs are normally expanded.",
    ),
    "lung_left": ("The left lung is clear.", "Normal aeration of the left lung."),
    "lung_right": ("The right lung is clear.", "Normal aeration of the right lung."),
    "mediastinum": (
        "The mediastinum is unremarkable.",
        "Mediastinal contours are normal.",
        "No abnormality in the mediastinum.",
    ),
    "esophagus": ("The esophagus is unremarkable.", "Normal appearance of the esophagus."),
    "liver": ("The imaged liver is unremarkable.", "The liver has a homogeneous density.", "Normal upper liver."),
    "spleen": ("The spleen is normal in size.", "Unremarkable spleen."),
    "spine": (
        "Vertebral bodies keep their height.",
        "The thoracic spine is normally aligned.",
        "No destructive lesion in the vertebrae.",
    ),
    "ribs": ("The ribs are intact.", "No rib fracture is seen.", "Bony thorax without fracture."),
    "adrenal_gland": ("The adrenal glands are normal.", "Both adrenal glands are slender."),
}
"""Structure -> sentences that call it normal."""

_SUMMARY_STARTS = ("", "", "Impression of ", "Overall: ", "Main finding: ")
_CLEAR = (
    "No acute abnormality in the chest.",
    "Normal CT of the chest.",
    "No significant thoracic finding.",
    "Unremarkable examination of the chest.",
)


@dataclass(frozen=True)
class GeneratedReport:
    """One synthetic report with the truth behind each sentence."""

    study_id: str
    findings: str
    """The body of the report."""
    impression: str
    """The summary."""
    statements: tuple[Statement, ...]
    """The sentences of `findings`, in order."""
    labels: dict[str, bool]
    """CT-RATE label -> present."""


def write_normality(structure: str, rng: np.random.Generator) -> Statement:
    """A sentence that calls `structure` (a key of `NORMALITY`) normal."""
    options = NORMALITY[structure]
    text = options[rng.integers(len(options))]
    return Statement(text, "", "absent", (structure,), side_of_organs([structure]), None, "normal")


def write_report(
    claims: Sequence[Claim], normal: Sequence[str], rng: np.random.Generator, study_id: str = "", is_mixed: bool = True
) -> GeneratedReport:
    """Write `claims` and the normality of the structures `normal` as one report in one style.

    Positive sentences come first in some reports and in anatomical mixture in others (`is_mixed`).
    """
    style = STYLES[rng.integers(len(STYLES))]
    statements = [write_sentence(claim, style, rng) for claim in claims]
    statements += [write_normality(structure, rng) for structure in normal]
    if is_mixed:
        statements = [statements[place] for place in rng.permutation(len(statements))]
    impression = _write_impression(claims, style, rng)
    text = " ".join(statement.text for statement in statements)
    return GeneratedReport(study_id, text, impression, tuple(statements), labels_of(claims))


def labels_of(claims: Sequence[Claim]) -> dict[str, bool]:
    """The 18 CT-RATE labels that `claims` make true; an uncertain finding does not count as present."""
    present = {claim.finding for claim in claims if claim.existence == "present"}
    return {label: label in present for label in CT_RATE_LABELS}


def _write_impression(claims: Sequence[Claim], style: Style, rng: np.random.Generator) -> str:
    positive = [claim for claim in claims if claim.existence != "absent"]
    if not positive:
        return _CLEAR[rng.integers(len(_CLEAR))]
    lines = [write_sentence(claim, style, rng).text for claim in positive[:4]]
    start = _SUMMARY_STARTS[rng.integers(len(_SUMMARY_STARTS))] if style == "brief" else ""
    if start.endswith("of "):
        start = "Summary: "
    return start + " ".join(lines)


def draw_claim(kind_name: str, rng: np.random.Generator, existence: str = "present") -> Claim:
    """A plausible claim of one kind at a random place, without any CT behind it."""
    kind = KINDS[kind_name]
    if existence == "absent":
        return _draw_absence(kind_name, rng)
    organs: tuple[str, ...] = kind.organs
    if kind.place == "lobe":
        count = 1 if kind.sizes_mm else int(rng.choice([1, 1, 1, 2, 5]))
        organs = tuple(sorted(rng.choice(LOBES, count, replace=False).tolist(), key=LOBES.index))
    elif kind.place == "pleura":
        organs = kind.organs if rng.random() < 0.25 else (kind.organs[rng.integers(2)],)
    size = second = None
    if kind.sizes_mm and rng.random() < (0.75 if kind.place != "pleura" else 0.3):
        low, high = kind.sizes_mm
        size = float(np.round(low + (high - low) * rng.beta(1.2, 2.2)))
        second = float(np.round(size * rng.uniform(0.6, 0.95)))
    grade = int(rng.integers(len(kind.grades))) if kind.grades else None
    uncertain = existence == "uncertain"
    return Claim(
        kind_name, "uncertain" if uncertain else "present", organs, side_of_organs(organs), size, second, grade
    )


def _draw_absence(kind_name: str, rng: np.random.Generator) -> Claim:
    """A denial: mostly of the whole chest, at times of one side or lobe."""
    kind = KINDS[kind_name]
    if kind.place == "organ":
        return Claim(kind_name, "absent", kind.organs)
    if rng.random() < 0.7:
        return Claim(kind_name, "absent")
    organs = (kind.organs[rng.integers(len(kind.organs))],)
    return Claim(kind_name, "absent", organs, side_of_organs(organs))


def generate_reports(count: int, seed: int) -> list[GeneratedReport]:
    """`count` diverse reports without any CT: 0 to 6 findings each, study ids SYN-00001 upwards.

    The same `seed` gives the same reports.
    """
    rng = np.random.default_rng(seed)
    return [_generate_report(f"SYN-{number:05d}", rng) for number in range(1, count + 1)]


def _generate_report(study_id: str, rng: np.random.Generator) -> GeneratedReport:
    names = rng.permutation(list(KINDS)).tolist()
    positive = int(rng.choice(7, p=[0.08, 0.2, 0.24, 0.2, 0.14, 0.09, 0.05]))
    denied = int(rng.integers(2, 7))
    claims = [draw_claim(name, rng, "uncertain" if rng.random() < 0.12 else "present") for name in names[:positive]]
    present = {claim.finding for claim in claims}
    others = [name for name in names[positive:] if KINDS[name].finding not in present]
    claims += [draw_claim(name, rng, "absent") for name in others[:denied]]
    return write_report(claims, _draw_normal(claims, rng), rng, study_id, is_mixed=bool(rng.random() < 0.6))


def _draw_normal(claims: Sequence[Claim], rng: np.random.Generator) -> list[str]:
    """Structures to call normal: none that a finding touches."""
    touched = {name for claim in claims if claim.existence != "absent" for name in claim.organs}
    sides = {claim.laterality for claim in claims if claim.existence != "absent"}
    free = [name for name in NORMALITY if name not in touched]
    if any("lobe" in name or "pleura" in name for name in touched):
        free = [name for name in free if not name.startswith("lung") or _is_other_lung(name, sides)]
    count = min(len(free), int(rng.integers(2, 6)))
    return rng.choice(free, count, replace=False).tolist()


def _is_other_lung(name: str, sides: Collection[str]) -> bool:
    """Whether `name` is the lung of a side without findings."""
    side = side_of(name)
    return bool(side) and side not in sides and "bilateral" not in sides
