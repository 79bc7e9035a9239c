"""Which finding is painted how, and painting several into one CT so that each stays visible."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from core.synthesis import calcium, devices, mediastinum, nodes, nodules, parenchyma, pleura
from core.synthesis.claims import KINDS
from core.synthesis.scene import Finding, Scene

Inserter = Callable[[Scene, np.random.Generator], Finding | None]
"""Paints one finding at a random place; None where it does not fit, with nothing changed."""

_IN_LOBES = (
    "mosaic attenuation",
    "emphysema",
    "fibrotic reticulation",
    "septal thickening",
    "ground-glass opacity",
    "consolidation",
    "bronchiectasis",
    "bronchial wall thickening",
    "atelectasis",
    "fibrotic band",
)
_BALLS = (
    "mass",
    "cavitary nodule",
    "spiculated nodule",
    "solid nodule",
    "part-solid nodule",
    "ground-glass nodule",
    "calcified nodule",
)


def _by_kind(insert: Callable[[Scene, str, np.random.Generator], Finding | None], kind: str) -> Inserter:
    def paint(scene: Scene, rng: np.random.Generator) -> Finding | None:
        return insert(scene, kind, rng)

    return paint


INSERTERS: dict[str, Inserter] = {
    "cardiomegaly": mediastinum.insert_cardiomegaly,  # first: it moves voxels
    **{kind: _by_kind(parenchyma.insert_in_lobes, kind) for kind in _IN_LOBES},
    **{kind: _by_kind(nodules.insert_lung_ball, kind) for kind in _BALLS},
    "lymph node": nodes.insert_lymph_node,
    "hilar lymph node": nodes.insert_hilar_node,
    "axillary lymph node": nodes.insert_axillary_node,
    "liver cyst": nodes.insert_liver_cyst,
    "hiatal hernia": mediastinum.insert_hiatal_hernia,
    "pericardial effusion": mediastinum.insert_pericardial_effusion,
    "coronary calcification": calcium.insert_coronary_calcification,
    "aortic calcification": calcium.insert_aortic_calcification,
    "pneumothorax": _by_kind(pleura.insert_pleural, "pneumothorax"),
    "pleural effusion": _by_kind(pleura.insert_pleural, "pleural effusion"),
    "aortic stent graft": devices.insert_aortic_stent,
    "coronary stent": devices.insert_coronary_stent,
    "central venous catheter": devices.insert_central_line,
    "sternal wires": devices.insert_sternal_wires,
    "pacemaker lead": devices.insert_pacemaker_lead,
}
"""Kind -> inserter, in the order in which several are painted: spread before round, fluid and metal on top."""

MULTIPLE = frozenset(_BALLS)
"""Kinds that may be asked for several times; each then takes a lobe of its own."""

KEPT_SHARE = 0.5
"""A finding that later ones cover by more than this is left out of the truth."""


def insert_findings(scene: Scene, kinds: Sequence[str], rng: np.random.Generator) -> list[Finding]:
    """Paint `kinds` (keys of `KINDS`) into the scene; returns those that fitted and stayed visible.

    Masks end where a later, opaque finding covers an earlier one. The same generator state gives the same CT.
    """
    found: list[Finding] = []
    for kind in sorted(kinds, key=list(INSERTERS).index):
        taken = {organ for earlier in found if earlier.claim.kind == kind for organ in earlier.claim.organs}
        painted = INSERTERS[kind](replace(scene, closed_lobes=frozenset(taken)), rng)
        if painted is None:
            continue
        found = [_uncovered(earlier, painted) for earlier in found]
        found.append(painted)
    return [finding for finding in found if finding.mask.any()]


def _uncovered(earlier: Finding, later: Finding) -> Finding:
    """What an opaque later finding leaves to be seen; nothing when it covers most."""
    if later.claim.kind not in _OPAQUE or earlier.claim.kind in _ORGAN_WIDE:
        return earlier
    left = earlier.mask & ~later.mask
    is_hidden = left.sum() < (1 - KEPT_SHARE) * earlier.mask.sum()
    return Finding(earlier.claim, np.zeros_like(left) if is_hidden else left)


_OPAQUE = frozenset({"consolidation", "mass", "pleural effusion", "pneumothorax", "pericardial effusion"})
_ORGAN_WIDE = frozenset(kind for kind, entry in KINDS.items() if entry.place == "organ")
