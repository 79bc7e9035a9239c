"""Whole synthetic reports: what is there, what is not, what is normal, and a summary of it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.findings import CT_RATE_LABELS
from core.report.parsed import Existence
from core.structures import LOBES, side_of
from core.synthesis.claims import KINDS, Claim, Kind, side_of_organs
from core.synthesis.compounds import write_compound
from core.synthesis.normality import NORMALITY, can_be_joined, write_normality, write_shared_normality
from core.synthesis.places import draw_zones, pick
from core.synthesis.sentences import STYLES, Statement, Style, write_sentence

__all__ = ["NORMALITY", "GeneratedReport", "draw_claim", "generate_reports", "write_normality", "write_report"]

OTHER_STYLE_CHANCE = 0.25
"""How often a sentence leaves its report's style."""
JOIN_CHANCE = 0.35
"""How often claims that can share a sentence do."""
_SUMMARY_STARTS = ("", "", "Overall: ", "Main finding: ", "Summary: ", "In short: ")
_CLEAR = (
    "No acute abnormality in the chest.",
    "Normal CT of the chest.",
    "No significant thoracic finding.",
    "Unremarkable examination of the chest.",
    "No evidence of disease in the chest.",
    "Chest CT within normal limits.",
    "No thoracic abnormality.",
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


def write_report(
    claims: Sequence[Claim],
    normal: Sequence[str],
    rng: np.random.Generator,
    study_id: str = "",
    is_mixed: bool = True,
    is_plain: bool = False,
) -> GeneratedReport:
    """Write `claims` and the normality of the structures `normal` as one report, mostly in one style.

    Positive sentences come first in some reports and in anatomical mixture in others (`is_mixed`). `is_plain` gives
    every claim a sentence of its own that tells where it is.
    """
    style = _pick_style(rng)
    if is_plain:
        statements = [write_sentence(claim, style, rng, is_vague=False) for claim in claims]
        statements += [write_normality(structure, rng) for structure in normal]
    else:
        statements = _write_claims(claims, style, rng) + _write_normals(normal, rng)
    if is_mixed:
        statements = [statements[place] for place in rng.permutation(len(statements))]
    impression = _write_impression(claims, style, rng)
    text = " ".join(statement.text for statement in statements)
    return GeneratedReport(study_id, text, impression, tuple(statements), labels_of(claims))


def _pick_style(rng: np.random.Generator) -> Style:
    return STYLES[rng.integers(len(STYLES))]


def _write_claims(claims: Sequence[Claim], style: Style, rng: np.random.Generator) -> list[Statement]:
    """A sentence for each claim, or one for a few of them; the claims in order, joined ones where the first stands."""
    left, statements = list(claims), []
    while left:
        group = _draw_group(left, rng)
        left = [claim for claim in left if claim not in group]
        own = style if rng.random() >= OTHER_STYLE_CHANCE else _pick_style(rng)
        statements.append(write_sentence(group[0], own, rng) if len(group) == 1 else write_compound(group, rng))
    return statements


def _draw_group(claims: Sequence[Claim], rng: np.random.Generator) -> list[Claim]:
    """The first of `claims`, at times with others that one sentence can hold with it."""
    first, *others = claims
    if rng.random() >= JOIN_CHANCE or first.existence == "uncertain":
        return [first]
    denied = [claim for claim in others if _is_denied_outright(claim)]
    if first.existence == "present":
        mates = [claim for claim in others if claim.existence == "present"] if rng.random() < 0.5 else denied
        return [first, *mates[:1]]
    return [first, *denied[: int(rng.integers(1, 3))]] if _is_denied_outright(first) else [first]


def _is_denied_outright(claim: Claim) -> bool:
    """Whether it is denied everywhere, or its noun says where."""
    return claim.existence == "absent" and (not claim.organs or KINDS[claim.kind].place == "organ")


def _write_normals(structures: Sequence[str], rng: np.random.Generator) -> list[Statement]:
    """Sentences that call structures normal, some two at once."""
    joined = [name for name in structures if can_be_joined(name)][:2]
    if len(joined) < 2 or rng.random() >= JOIN_CHANCE:
        return [write_normality(name, rng) for name in structures]
    single = [write_normality(name, rng) for name in structures if name not in joined]
    return [*single, write_shared_normality((joined[0], joined[1]), rng)]


def labels_of(claims: Sequence[Claim]) -> dict[str, bool]:
    """The 18 CT-RATE labels that `claims` make true; an uncertain finding does not count as present."""
    present = {claim.finding for claim in claims if claim.existence == "present"}
    return {label: label in present for label in CT_RATE_LABELS}


def _write_impression(claims: Sequence[Claim], style: Style, rng: np.random.Generator) -> str:
    positive = [claim for claim in claims if claim.existence != "absent"]
    if not positive:
        return pick(_CLEAR, rng)
    lines = [write_sentence(claim, style, rng).text for claim in positive[:4]]
    if style == "structured":
        return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
    return (pick(_SUMMARY_STARTS, rng) if style == "brief" else "") + " ".join(lines)


def draw_claim(
    kind_name: str, rng: np.random.Generator, existence: str = "present", kinds: Mapping[str, Kind] = KINDS
) -> Claim:
    """A plausible claim of one kind at a random place, without any CT behind it."""
    kind = kinds[kind_name]
    if existence == "absent":
        return _draw_absence(kind_name, kind, rng)
    organs: tuple[str, ...] = kind.organs
    if kind.place == "lobe":
        count = 1 if kind.sizes_mm else int(rng.choice([1, 1, 1, 2, 5]))
        organs = tuple(sorted(rng.choice(LOBES, count, replace=False).tolist(), key=LOBES.index))
    elif kind.place in ("pleura", "paired"):
        organs = kind.organs if rng.random() < 0.25 else (kind.organs[rng.integers(2)],)
    zones = draw_zones(organs[0], rng) if kind.place == "lobe" and len(organs) == 1 else ()
    grade = int(rng.integers(len(kind.grades))) if kind.grades else None
    told: Existence = "uncertain" if existence == "uncertain" else "present"
    claim = Claim(kind_name, told, organs, side_of_organs(organs), grade=grade, zones=zones)
    return _with_sizes(claim, kind, rng)


def _with_sizes(claim: Claim, kind: Kind, rng: np.random.Generator) -> Claim:
    """The claim with random diameters where its kind has any; most claims of fluid and air stay unmeasured."""
    if not kind.sizes_mm or rng.random() >= (0.75 if kind.place != "pleura" else 0.3):
        return claim
    low, high = kind.sizes_mm
    size = float(np.round(low + (high - low) * rng.beta(1.2, 2.2)))
    second = float(np.round(size * rng.uniform(0.6, 0.95)))
    third = float(np.round(second * rng.uniform(0.7, 1.0)))
    return replace(claim, size_mm=size, second_mm=second, third_mm=third)


def _draw_absence(kind_name: str, kind: Kind, rng: np.random.Generator) -> Claim:
    """A denial: mostly of the whole chest, at times of one side or lobe."""
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
