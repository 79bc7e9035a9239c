"""Heat maps and what they take for the finding as NIfTI, on the grid of the CT's own file."""

from pathlib import Path

from core.export.nifti import write_nifti
from core.grounding.readout import heat_on_source, raw_heat_on_source
from trainers.grounding.judging import Seen


def write_heat(folder: Path, stem: str, seen: Seen, threshold: float) -> list[str]:
    """Write STEM_raw.nii.gz and STEM_constrained.nii.gz (float32 in [0, 1]) and STEM_mask.nii.gz (uint8, 1 = finding).

    The mask is where constrained heat is at least `threshold`. Returns the names.
    """
    raw, constrained = raw_heat_on_source(seen.found, seen.volume), heat_on_source(seen.found, seen.volume)
    arrays = {"raw": raw, "constrained": constrained, "mask": constrained >= threshold}
    for kind, array in arrays.items():
        write_nifti(folder / f"{stem}_{kind}.nii.gz", array, seen.volume.source, f"{kind} of a sentence's heat")
    return [f"{stem}_{kind}.nii.gz" for kind in arrays]
