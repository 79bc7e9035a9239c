"""Answers to questions about a CT: presence, size, and texts that name findings or places (ASAP spec 6.7)."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from core.errors import ConfigError
from trainers.metrics.report_text import score_bleu, score_rouge

Kind = Literal["abnormality", "presence", "location", "size", "disorder"]
MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(mm|cm|m(?![a-z]))?", re.IGNORECASE)
_RELEASED_SIZE = re.compile(r"(\d+\.?\d*)(mm|cm|m)?")


class TextScores(NamedTuple):
    """Texts against texts."""

    bleu: tuple[float, ...]  # BLEU-1 to BLEU-4 of the corpus
    rouge_l: float  # mean
    hit: float  # mean share of named parts that agree
    hits: tuple[float, ...]


class SizeScores(NamedTuple):
    """Sizes against sizes, mm."""

    mean_mm: float
    rmse_mm: float
    errors_mm: tuple[float, ...]
    silent: int  # answers without a number; they count as 0 mm


def read_answer(text: str, kind: Kind, *, as_released: bool = False) -> str:
    """What follows the tag of its kind, such as "<Presence>"; of presence and location only the first sentence.

    An untagged text is the answer itself. as_released: untagged presence or location is "", one without a full stop
    too, they are in lower case, and disorders are looked for under "<Abnormality>", so that their own tag stays.
    """
    if as_released:
        return _read_as_released(text, kind)
    answer = re.sub(rf"^.*?<{kind}>", "", text, count=1, flags=re.IGNORECASE | re.DOTALL).strip()
    if kind in ("presence", "location"):
        answer = re.split(r"\.(?!\d)", answer, maxsplit=1)[0].strip()
    return answer


def _read_as_released(text: str, kind: Kind) -> str:
    if kind in ("presence", "location"):
        match = re.search(rf"<{kind.capitalize()}>\s*(.*?)\.", text)
        return match[1].strip().lower() if match else ""
    match = re.search(r"<Abnormality>\s*(.*)", text)
    return match[1] if match else text


def normalise_answer(text: str, *, as_released: bool = False) -> str:
    """Lower case without commas and full stops. as_released: decimal points go too ("3.5 mm" -> "35 mm")."""
    text = text.lower().strip()
    return re.sub(r"[.,]", "", text) if as_released else re.sub(r"(?<!\d)[.,]|[.,](?!\d)", "", text)


def read_sizes(text: str, *, as_released: bool = False) -> list[float]:
    """The numbers of a text in mm; one without a unit has that of the next number with one, else of the last, else mm.

    as_released: only a number directly before a unit is converted ("1.2 x 0.8 cm" -> 1.2 and 8), and a text without
    numbers gives [0].
    """
    if as_released:
        found = _RELEASED_SIZE.findall(text.lower().replace(" ", ""))
        return [float(number) * MM_PER_UNIT.get(unit, 1.0) for number, unit in found] or [0.0]
    found = [(float(number), unit.lower()) for number, unit in _SIZE.findall(text)]
    units = [unit for _, unit in found]
    after = [next((unit for unit in units[at:] if unit), "") for at in range(len(units))]
    last = next((unit for unit in reversed(units) if unit), "mm")
    return [number * MM_PER_UNIT[unit or last] for (number, _), unit in zip(found, after, strict=True)]


def measure_size_error(found: str, truth: str, *, as_released: bool = False) -> float:
    """Mean absolute error in mm, axis by axis in order of size; of the largest alone when their numbers differ.

    as_released: axes in the order they are written.
    """
    one, other = (read_sizes(text, as_released=as_released) or [0.0] for text in (found, truth))
    if len(one) != len(other):
        return abs(max(one) - max(other))
    if not as_released:
        one, other = sorted(one), sorted(other)
    return float(np.mean([abs(a - b) for a, b in zip(one, other, strict=True)]))


def measure_hit(found: str, truth: str, *, as_released: bool = False) -> float:
    """Named parts that agree over the larger number of parts; parts stand between commas or slashes, in any order.

    as_released: only slashes separate, so that a list of findings is one part, and repeated parts count as more.
    """
    first, second = (_name_parts(text.lower(), as_released) for text in (found, truth))
    if first == second:
        return 1.0
    return len(set(first) & set(second)) / max(len(first), len(second))


def _name_parts(text: str, as_released: bool) -> list[str]:
    if as_released:
        return text.split("/")
    return sorted({part.strip() for part in re.split("[/,]", text)} - {""})


def score_presence(found: Sequence[str], truth: Sequence[str], *, as_released: bool = False) -> float:
    """Share of right answers. as_released: an unreadable answer to an unreadable truth is right."""
    _require_as_many(found, truth)
    read = [
        [read_answer(text, "presence", as_released=as_released).lower() for text in texts] for texts in (found, truth)
    ]
    right = [one == other and (as_released or bool(other)) for one, other in zip(*read, strict=True)]
    return float(np.mean(right))


def score_sizes(found: Sequence[str], truth: Sequence[str], *, as_released: bool = False) -> SizeScores:
    """Errors of sizes, as `measure_size_error` has them."""
    _require_as_many(found, truth)
    pairs = zip(found, truth, strict=True)
    errors = np.array([measure_size_error(*pair, as_released=as_released) for pair in pairs])
    silent = sum(not read_sizes(text) for text in found)
    return SizeScores(float(errors.mean()), float(np.sqrt(np.square(errors).mean())), tuple(errors.tolist()), silent)


def score_texts(kind: Kind, found: Sequence[str], truth: Sequence[str], *, as_released: bool = False) -> TextScores:
    """Scores of abnormalities, locations or disorders; as_released: with all that the functions above say of it."""
    _require_as_many(found, truth)
    answers = [[read_answer(text, kind, as_released=as_released) for text in texts] for texts in (found, truth)]
    plain = [[normalise_answer(text, as_released=as_released) for text in texts] for texts in answers]
    pairs = list(zip(*plain, strict=True))
    listed = (
        pairs if as_released else list(zip(*([text.rstrip(". ") for text in texts] for texts in answers), strict=True))
    )
    hits = [measure_hit(*pair, as_released=as_released) for pair in listed]
    rouge = [score_rouge(*pair, as_released=as_released) for pair in pairs]
    return TextScores(tuple(score_bleu(pairs)), float(np.mean(rouge)), float(np.mean(hits)), tuple(hits))


def _require_as_many(found: Sequence[str], truth: Sequence[str]) -> None:
    if len(found) != len(truth) or not found:
        raise ConfigError(f"{len(found)} answers to {len(truth)} questions; expected as many, and at least one.")
