"""What a person is told about the CT they opened."""

from dataclasses import asdict, dataclass

from core.reading.hounsfield import HuVerdict


@dataclass(frozen=True)
class SeriesRow:
    """One line of the table of series."""

    id: str
    """Hand it to `open_study(series=...)`."""
    description: str
    modality: str
    """As DICOM says it ("CT"), or "unknown" for formats that do not say."""
    slices: int
    spacing_mm: tuple[float, float, float]
    """Along the stored axes; zeros where it is not known."""
    usable: bool
    reason: str
    """Why it cannot be used, or why it is not the first choice; "" for the best one."""
    chosen: bool = False


@dataclass(frozen=True)
class Receipt:
    """What was opened, what it says about itself, what was done to it."""

    source: tuple[str, ...]
    """File names, never paths."""
    modality: str
    series_description: str
    shape: tuple[int, int, int]
    """Voxels along the axes of the source file."""
    spacing_mm: tuple[float, float, float]
    """Along the axes of the source file."""
    orientation: str
    """Directions in which the source axes grow, e.g. "LPS"."""
    obliqueness_deg: float
    hu_min: int
    hu_max: int
    slices: int
    hu_verdict: HuVerdict
    series: tuple[SeriesRow, ...]
    done: tuple[str, ...]
    """What was done to the values or the geometry, in plain words."""
    warnings: tuple[str, ...]
    """What to be careful about, in plain words."""

    def to_json(self) -> dict:
        """Only dicts, lists, strings and numbers."""
        return {**asdict(self), "hu_verdict": self.hu_verdict._asdict()}
