"""What a sentence says, as numbers that no wording changes: denied or not, side, lobe, places, size, findings.

Beside the vector of a text encoder they make a denial, another side or another size move what a sentence is compared
by, also where the encoder has never met its words.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from core.findings import CT_RATE_LABELS
from core.report.mentions import SentenceReading, read_sentence
from core.report.negation import Statement, split_clauses
from core.report.parsed import Existence, Mention
from core.report.sizes import find_sizes
from core.report.words import split_tokens
from core.structures import LOBES

PLACES: dict[str, tuple[str, ...]] = {
    "lung": ("lung",),
    "airway": ("airway", "trachea"),
    "pleura": ("pleura",),
    "heart": ("heart", "atrial"),
    "pericardium": ("pericardium",),
    "coronary arteries": ("coronary",),
    "aorta": ("aorta", "brachiocephalic_trunk", "subclavian", "common_carotid"),
    "pulmonary vessels": ("pulmonary_",),
    "veins": ("superior_vena", "inferior_vena", "brachiocephalic_vein"),
    "mediastinum": ("mediastinum",),
    "oesophagus": ("esophagus",),
    "thyroid": ("thyroid",),
    "liver": ("liver", "gallbladder"),
    "spleen": ("spleen",),
    "stomach": ("stomach",),
    "kidneys": ("kidney", "adrenal"),
    "spine": ("spine", "vertebrae", "spinal"),
    "other bones": ("rib", "sternum", "scapula", "clavicula", "humerus", "bones", "costal"),
    "soft tissue": ("breast", "subcutaneous", "skeletal", "autochthon", "body"),
}
"""Trait -> beginnings of the names of the structures in it."""
OTHER_FINDINGS = ("lung mass", "pneumothorax", "liver lesion")
SIZES_MM = (4.0, 8.0, 16.0, 32.0, 64.0)
"""A size lies between two of these, in shares that add up to 1."""

TRAITS: tuple[str, ...] = (
    *("stated", "denied", "left", "right", "upper", "middle", "lower"),
    *PLACES,
    *(f"{size:g} mm" for size in SIZES_MM),
    *CT_RATE_LABELS,
    *OTHER_FINDINGS,
)
"""Names of the numbers of `sentence_traits`, in order."""

TURNING = tuple(TRAITS.index(name) for name in TRAITS[:7]) + tuple(TRAITS.index(f"{size:g} mm") for size in SIZES_MM)
"""Columns of denial, side, level and size: what makes two sentences about one finding say different things."""
_TURNING_WEIGHT = np.array([1.0] * 4 + [0.7] * 3 + [1.0] * len(SIZES_MM), np.float32)

_WEIGHT: dict[Existence, float] = {"present": 1.0, "uncertain": 0.5, "absent": -1.0}
_DENYING = frozenset({"absent after", "absent before", "normal"})
_NOTHING = frozenset(
    "nothing nowhere neither gone vanished disappeared undetectable unaffected uninvolved inconspicuous lacks".split()
)
"""Words that deny, or call normal, whatever they are said of, beside the cues of `core.report.negation`."""
_CALM = frozenset(
    """none cleared clear ordinary regular smooth patent spared benign healthy dry even slender sharp crisp aerated
    nondilated undilated unobstructed symmetrical""".split()
)
"""Words that call an organ normal where no finding is named; of a finding they tell how it looks."""
_LEVELS = {
    "upper": frozenset("apex apices apical top upper uppermost biapical".split()),
    "middle": frozenset("middle midzone midzones".split()),
    "lower": frozenset("base bases basal bibasal bibasally basilar bibasilar bottom lower low costophrenic".split()),
}
_BOTH = frozenset("both bilateral bilaterally bibasal bibasally bibasilar biapical hemithoraces".split())


@lru_cache(maxsize=100_000)
def _traits(text: str) -> tuple[float, ...]:
    reading, words = read_sentence(text), [token.word for token in split_tokens(text)]
    told = dict.fromkeys(TRAITS, 0.0)
    polarity = _polarity(words, reading.mentions)
    told["stated"], told["denied"] = max(polarity, 0.0), max(-polarity, 0.0)
    names = _names(reading)
    said = (*_sides(words, reading), *_levels(words, names), *(trait for name in names for trait in _places(name)))
    told.update(dict.fromkeys(said, 1.0))
    told.update(_size(text))
    for mention in reading.mentions:
        if mention.finding in told:
            told[mention.finding] = _WEIGHT[mention.existence]
    return tuple(told.values())


def sentence_traits(sentences: Iterable[str]) -> np.ndarray:
    """(S, V) float32, columns `TRAITS`: 1 = said, -1 = a finding that is denied, 0 = not spoken of."""
    rows = [_traits(text) for text in sentences]
    return np.array(rows, np.float32).reshape(len(rows), len(TRAITS))


def turning_vectors(traits: np.ndarray) -> np.ndarray:
    """Unit vectors (S, len(TURNING)) float32 of `sentence_traits`, equal where sentences agree on all of `TURNING`."""
    turning = traits[:, TURNING] * _TURNING_WEIGHT
    lengths: np.ndarray = np.linalg.norm(turning, axis=1, keepdims=True)
    return turning / np.maximum(lengths, 1e-6)


def _polarity(words: list[str], mentions: Iterable[Mention]) -> float:
    """1 = something is there, -1 = it is not, or all is normal, between the two = doubt."""
    states, said = {mention.existence for mention in mentions}, set(words)
    if states and not said & _NOTHING:
        return max(_WEIGHT[state] for state in states)
    cues = {cue.key for clause in split_clauses(words) for cue in Statement(words, clause).cues}
    if "present" in cues:
        return 1.0
    return -1.0 if cues & _DENYING or said & (_NOTHING | _CALM) else 1.0


def _sides(words: list[str], reading: SentenceReading) -> tuple[str, ...]:
    """Sides that a sentence speaks of; both where it means both lungs."""
    if reading.laterality in ("left", "right"):
        return (reading.laterality,)
    is_both = reading.laterality == "bilateral" or not _BOTH.isdisjoint(words)
    return ("left", "right") if is_both or {"lung_left", "lung_right"} <= {*reading.organs} else ()


def _levels(words: list[str], names: Iterable[str]) -> list[str]:
    """How high in the lungs: as the words say, else where the named lobes are."""
    said = [level for level, zone in _LEVELS.items() if not zone.isdisjoint(words)]
    lobes = [name for name in names if name in LOBES]
    return said or [level for level in _LEVELS if any(f"_{level}_" in name for name in lobes)]


def _names(reading: SentenceReading) -> set[str]:
    """Structures that a sentence names or that its findings are usually in."""
    return {*reading.organs, *(name for mention in reading.mentions for name in mention.organs)}


def _places(name: str) -> list[str]:
    return [trait for trait, begins in PLACES.items() if name.startswith(begins)]


def _size(text: str) -> dict[str, float]:
    """The largest diameter, in shares of the two sizes that it lies between on a scale of doublings."""
    largest = max((mm for size in find_sizes(text) for mm in size.diameters_mm), default=0.0)
    if largest <= 0:
        return {}
    steps = np.log2(SIZES_MM)
    shares = np.clip(1 - np.abs(np.clip(np.log2(largest), steps[0], steps[-1]) - steps), 0, None)
    return {f"{size:g} mm": float(share) for size, share in zip(SIZES_MM, shares, strict=True)}
