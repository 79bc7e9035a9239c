"""Truth on the cells of a two-scale model: voxels of regions, structures, kinds of finding."""

from collections.abc import Iterable, Mapping

import numpy as np

from core.models.pyramid import CELL
from core.structures import BY_NAME, LOBES, parts_of
from core.synthesis.claims import KINDS
from core.synthesis.studies import CONFUSED
from trainers.stored_study import Facts, region_of

CELL_STRUCTURES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in LOBES},
    **{name: (name,) for name in ("heart", "aorta", "trachea", "esophagus", "liver", "spleen", "stomach", "spine")},
    "pulmonary vessels": ("pulmonary_artery", "pulmonary_vein"),
    "upper veins": ("superior_vena_cava", "brachiocephalic_vein_left", "brachiocephalic_vein_right"),
    "kidney_left": ("kidney_left",),
    "kidney_right": ("kidney_right",),
    "pleura_left": ("pleura_left",),
    "pleura_right": ("pleura_right",),
    "spinal_cord": ("spinal_cord",),
    "sternum": ("sternum",),
    **{f"ribs_{side}": tuple(name for name in BY_NAME if name.startswith(f"rib_{side}")) for side in ("left", "right")},
}
"""Classes 1, 2, … of `cell_class` and the structures in them; 0 is everything else."""

STRUCTURE_CLASSES = len(CELL_STRUCTURES) + 1
FINDING_KINDS = tuple(KINDS)
"""Order of `kind_region`."""


def _class_table() -> np.ndarray:
    """(256,) uint8: structure number -> class of `CELL_STRUCTURES`."""
    table = np.zeros(256, np.uint8)
    for number, names in enumerate(CELL_STRUCTURES.values(), start=1):
        table[[part for name in names for part in parts_of(name)]] = number
    return table


CLASS_OF_STRUCTURE = _class_table()


def classes_of_cells(labels: np.ndarray) -> np.ndarray:
    """Structure numbers (X, Y, Z) -> (M,) uint8 class of each cell, that of its first voxel."""
    corner = labels[::CELL, ::CELL, ::CELL]
    classes: np.ndarray = CLASS_OF_STRUCTURE[corner].ravel()
    return classes


def count_in_cells(regions: np.ndarray) -> np.ndarray:
    """Voxels of each cell inside regions (R, X, Y, Z) bool: (R, M) uint8, cells x-major."""
    counts = regions.view(np.uint8)
    counts = counts[:, ::2] + counts[:, 1::2]
    counts = counts[:, :, ::2] + counts[:, :, 1::2]
    counts = counts[..., ::2] + counts[..., 1::2]
    return counts.reshape(len(counts), -1)


def undeniable(painted: Iterable[str], never_denied: Iterable[str]) -> set[str]:
    """Findings that may be there unpainted: the patient's own, and what painted kinds look like or come with."""
    own = {KINDS[kind].finding for kind in never_denied}
    return own | {finding for kind in painted for finding in CONFUSED.get(kind, ())}


def regions_of_kinds(painted: Mapping[str, Facts], never_denied: tuple[str, ...]) -> np.ndarray:
    """(N,) int16 for `FINDING_KINDS`: the region a kind fills, -1 = not there, -2 = it may be there unpainted."""
    unknown = undeniable(painted, never_denied)
    regions = np.full(len(FINDING_KINDS), -1, np.int16)
    for number, kind in enumerate(FINDING_KINDS):
        if kind in painted:
            regions[number] = region_of(painted[kind])
        elif KINDS[kind].finding in unknown:
            regions[number] = -2
    return regions
