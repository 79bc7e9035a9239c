"""What reports add to a finding: comparison, image number, what it may mean. None of it moves the finding."""

import numpy as np

from core.synthesis.places import pick

REMARK_CHANCE = 0.2
"""How often a claimed finding gets a remark."""

COMPARISONS = (
    ", unchanged from the prior study",
    ", stable since the last examination",
    ", new since the previous scan",
    ", larger than before",
    ", slightly smaller than on the prior CT",
    ", increased compared with the earlier study",
    ", decreased from the previous examination",
    ", not significantly changed",
    ", as before",
    ", similar to the prior",
)
"""How it was before."""
IMAGES = ("series {series}, image {image}", "image {image}", "slice {image}", "ser {series} im {image}")
"""Where to look it up."""
MALIGNANT = (
    ", concerning for malignancy",
    ", suspicious for a primary lung cancer",
    ", worrisome for malignancy",
    ", likely malignant",
    ", indeterminate",
    ", for which follow-up is advised",
    "; biopsy should be considered",
    "; further evaluation with PET-CT is suggested",
)
BENIGN = (
    ", benign in appearance",
    ", in keeping with old granulomatous disease",
    ", of no clinical concern",
    ", consistent with remote infection",
)
INFECTIOUS = (
    ", likely infectious",
    ", suggestive of infection",
    ", in keeping with an inflammatory process",
    ", most likely infectious or inflammatory in origin",
)
MEANINGS: dict[str, tuple[str, ...]] = {
    "solid nodule": MALIGNANT,
    "spiculated nodule": MALIGNANT,
    "part-solid nodule": MALIGNANT,
    "ground-glass nodule": MALIGNANT,
    "mass": MALIGNANT,
    "cavitary nodule": (*MALIGNANT, *INFECTIOUS),
    "calcified nodule": BENIGN,
    "consolidation": INFECTIOUS,
    "ground-glass opacity": INFECTIOUS,
    "pleural effusion": (", likely reactive", ", free flowing", ", layering dependently", ", of simple fluid density"),
    "lymph node": (", likely reactive", ", suspicious for nodal spread", ", indeterminate"),
    "fibrotic band": (", likely postinfectious", ", of chronic appearance"),
    "liver cyst": (", benign in appearance", ", too small to characterize"),
    "hiatal hernia": (", of the sliding type",),
    "cardiomegaly": (", predominantly of the ventricles",),
}
"""Kind -> what it may mean."""


def write_remark(kind: str, rng: np.random.Generator) -> str:
    """Words to put before a sentence's full stop; "" most of the time."""
    if rng.random() >= REMARK_CHANCE:
        return ""
    chosen = rng.random()
    if chosen < 0.35:
        return pick(COMPARISONS, rng)
    if chosen < 0.55 or kind not in MEANINGS:
        where = pick(IMAGES, rng).format(series=int(rng.integers(2, 7)), image=int(rng.integers(12, 390)))
        return f" ({where})"
    return pick(MEANINGS[kind], rng)
