"""Pictures of what the data engine paints: `python -m trainers.contact_sheet --patient data/patients/LIDC-IDRI-0001`.

Two sheets. `data_engine_findings.png`: every kind of finding in one patient, without and with the outline of its mask,
and a sentence about it. `data_engine_scans.png`: the same patient as other scanners and other bodies would show it.
"""

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw

from core.errors import AsapError, ConfigError
from core.models.checkpoint import write_atomically
from core.synthesis.claims import KINDS
from core.synthesis.lesions import INSERTERS
from core.synthesis.patients import Patient, ViewConfig, vary_patient
from core.synthesis.scanner import NO_SCAN, degrade
from core.synthesis.scene import Finding, Scene, bounding_box, dilate
from core.synthesis.sentences import STYLES, write_sentence
from core.synthesis.surroundings import NO_SURROUNDINGS
from trainers.patients import read_patients

LUNG_HU, SOFT_HU, BONE_HU = (-1350.0, 150.0), (-160.0, 240.0), (-450.0, 1050.0)
"""Windows of the pictures: black and white in HU."""
IN_BONE_WINDOW = ("calcification", "stent", "pacemaker", "wires", "catheter")
OUTLINE = (255, 70, 60)
TEXT = (235, 235, 235)
COLOURS = 128
"""A sheet is stored with this many colours: noise is most of a CT's file size."""
ATTRIBUTION = (
    "CT: LIDC-IDRI-0001 (Armato et al. 2015, doi.org/10.7937/K9/TCIA.2015.LO9QL9SX, CC BY 3.0), its own nodule covered "
    "and findings painted. Not real disease."
)


@dataclass(frozen=True)
class SheetConfig:
    """What is drawn from whom."""

    patient: Path
    """Folder of one patient that `python -m trainers.patients` wrote."""
    out: Path = Path("docs")
    """Folder of the sheets."""
    seed: int = 0
    """The same seed draws the same sheets."""
    spacing_mm: float = 2.0
    """Voxel edge."""
    kinds: tuple[str, ...] = tuple(INSERTERS)
    """Kinds of finding on the first sheet."""
    columns: int = 4
    """Findings side by side."""
    tile: int = 250
    """Width of one picture in pixels; its height is 0.82 of it."""
    scans: int = 12
    """Pictures on the second sheet."""

    def __post_init__(self) -> None:
        unknown = set(self.kinds) - set(KINDS)
        if unknown:
            raise ConfigError(f"kinds names {sorted(unknown)}; expected kinds such as {sorted(KINDS)[:3]}.")


def view_of(config: SheetConfig, is_varied: bool = False) -> ViewConfig:
    """The grid of a sheet: the whole chest, as scanned or with all of the engine's variation."""
    x, y, z = (round(mm / config.spacing_mm) for mm in (350.0, 280.0, 330.0))
    view = replace(ViewConfig(), shape=(x, y, z), spacing_mm=config.spacing_mm)
    if is_varied:
        return view
    still = replace(view, shift_mm=0.0, turn_deg=0.0, stretch=0.0, bend_mm=0.0, fine_bend_mm=0.0, mirror_chance=0.0)
    return replace(still, recontrast=False, breath_hu=0.0, blur_voxels=0.0, around=NO_SURROUNDINGS, scan=NO_SCAN)


def draw_findings(patient: Patient, config: SheetConfig) -> Image.Image:
    """Every kind once: plain, outlined, and a sentence."""
    cells = [cell for number, kind in enumerate(config.kinds) for cell in _finding_cells(patient, config, number, kind)]
    return _sheet(cells, config.columns, ATTRIBUTION)


def _finding_cells(patient: Patient, config: SheetConfig, number: int, kind: str) -> Iterator[Image.Image]:
    painted = paint_kind(patient, view_of(config), kind, config.seed)
    if painted is None:
        return
    scene, finding = painted
    rng = np.random.default_rng([config.seed, number])
    sentence = write_sentence(finding.claim, STYLES[rng.integers(len(STYLES))], rng).text
    window = _window_of(kind)
    axis, level = _best_cut(finding.mask)
    part = _frame(scene, finding.mask, axis)
    pictures = [_picture(scene.hu, mask, (axis, level, part), window) for mask in (None, finding.mask)]
    yield _captioned([_fitted(picture, config.tile) for picture in pictures], f"{kind.upper()}\n{sentence}")


def paint_kind(
    patient: Patient, view: ViewConfig, kind: str, seed: int, tries: int = 12
) -> tuple[Scene, Finding] | None:
    """A scene with one finding of `kind`, scanned; None where it fits at none of `tries` draws."""
    for attempt in range(tries):
        rng = np.random.default_rng([seed, list(KINDS).index(kind), attempt])
        scene = vary_patient(patient, view, rng)
        finding = INSERTERS[kind](scene, rng)
        if finding is not None and finding.mask.any():
            degrade(scene, view, rng)
            return scene, finding
    return None


def draw_scans(patient: Patient, config: SheetConfig) -> Image.Image:
    """The same axial and coronal middle of the lungs in `config.scans` draws of anatomy, contrast and scanner."""
    cells = []
    view = view_of(config, is_varied=True)
    for number in range(config.scans):
        rng = np.random.default_rng([config.seed, 77, number])
        scene = vary_patient(patient, view, rng)
        degrade(scene, view, rng)
        whole = (slice(None), slice(None), slice(None))
        middle = [n // 2 for n in scene.hu.shape]
        cuts = [(2, int(middle[2]), whole), (1, int(middle[1]), whole)]
        pictures = [_picture(scene.hu, None, cut, window) for cut, window in zip(cuts, (SOFT_HU, LUNG_HU), strict=True)]
        cells.append(_captioned([_fitted(picture, config.tile) for picture in pictures], f"draw {number}"))
    return _sheet(cells, config.columns, ATTRIBUTION)


def _window_of(kind: str) -> tuple[float, float]:
    if any(word in kind for word in IN_BONE_WINDOW):
        return BONE_HU
    in_lung = KINDS[kind].place == "lobe" or kind == "pneumothorax"
    return (
        LUNG_HU if in_lung and kind not in ("mass", "consolidation") else SOFT_HU if not in_lung else (-1000.0, 250.0)
    )


def _best_cut(mask: np.ndarray) -> tuple[int, int]:
    """Axis and index of the axial slice, or for tall thin findings the coronal one, that shows most of it."""
    axial, coronal = mask.sum(axis=(0, 1)), mask.sum(axis=(0, 2))
    if coronal.max() > 2.5 * axial.max():
        return 1, int(coronal.argmax())
    return 2, int(axial.argmax())


def _frame(scene: Scene, mask: np.ndarray, axis: int) -> tuple[slice, slice, slice]:
    """At least 150 mm around a finding along each axis, within the scene."""
    box = bounding_box(mask)
    assert box is not None  # the finding has voxels
    parts = []
    for found, n, step in zip(box, scene.hu.shape, scene.grid.spacing_mm, strict=True):
        middle, half = (found.start + found.stop) / 2, max(75.0 / step, 0.62 * (found.stop - found.start))
        start = int(np.clip(middle - half, 0, max(0, n - 2 * half)))
        parts.append(slice(start, min(n, int(start + 2 * half))))
    parts[axis] = slice(None)
    return parts[0], parts[1], parts[2]


def _picture(
    hu: np.ndarray,
    mask: np.ndarray | None,
    cut: tuple[int, int, tuple[slice, slice, slice]],
    window: tuple[float, float],
) -> Image.Image:
    """One slice as radiologists look at it: the patient's right on the left, front or head up."""
    axis, level, part = cut
    plane = np.take(hu[part], level, axis)
    gray = np.clip((plane - window[0]) / (window[1] - window[0]), 0, 1)
    pixels = np.repeat(np.rint(gray * 255).astype(np.uint8)[..., None], 3, axis=2)
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 0, 2)[::-1, ::-1]))
    image = image.resize((image.width * 3, image.height * 3), Image.Resampling.BICUBIC)
    if mask is not None:
        inside = np.take(mask[part], level, axis).T[::-1, ::-1]
        fine = np.kron(inside, np.ones((3, 3), bool))
        painted = np.array(image)
        painted[dilate(fine) & ~fine] = OUTLINE
        image = Image.fromarray(painted)
    return image


def _fitted(image: Image.Image, width: int) -> Image.Image:
    """The image in a black frame of `width` x 0.82 `width` pixels."""
    frame = Image.new("RGB", (width, int(0.82 * width)))
    scale = min(frame.width / image.width, frame.height / image.height)
    small = image.resize(
        (max(1, int(image.width * scale)), max(1, int(image.height * scale))), Image.Resampling.LANCZOS
    )
    frame.paste(small, ((frame.width - small.width) // 2, (frame.height - small.height) // 2))
    return frame


def _captioned(pictures: Sequence[Image.Image], text: str) -> Image.Image:
    """Pictures side by side with a caption of up to four lines."""
    width, height = sum(picture.width for picture in pictures), max(picture.height for picture in pictures)
    cell = Image.new("RGB", (width + 6, height + 50))
    for number, picture in enumerate(pictures):
        cell.paste(picture, (number * picture.width, 0))
    draw = ImageDraw.Draw(cell)
    lines = [part for line in text.splitlines() for part in _wrapped(line, width, draw)]
    draw.multiline_text((2, height + 1), "\n".join(lines[:4]), fill=TEXT, spacing=1)
    return cell


def _wrapped(text: str, width: int, draw: ImageDraw.ImageDraw) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer) <= width - 4:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _sheet(cells: Sequence[Image.Image], columns: int, footer: str) -> Image.Image:
    width, height = max(cell.width for cell in cells), max(cell.height for cell in cells)
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height + 18))
    for number, cell in enumerate(cells):
        sheet.paste(cell, (number % columns * width, number // columns * height))
    ImageDraw.Draw(sheet).text((4, rows * height + 2), footer, fill=TEXT)
    return sheet


def write_png(image: Image.Image, path: Path) -> None:
    """Write with few colours, whole or not at all."""
    buffer = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    write_atomically(path, buffer.getvalue())


def main(config: SheetConfig) -> None:
    """Draw both sheets, or end with one line on what to mend."""
    try:
        others = tuple(path.name for path in config.patient.parent.glob("*") if path.name != config.patient.name)
        (patient,) = read_patients(config.patient.parent, others)
        config.out.mkdir(parents=True, exist_ok=True)
        write_png(draw_findings(patient, config), config.out / "data_engine_findings.png")
        write_png(draw_scans(patient, config), config.out / "data_engine_scans.png")
    except AsapError as error:
        sys.exit(f"{error}")
    sys.stdout.write(f"{config.out / 'data_engine_findings.png'}\n{config.out / 'data_engine_scans.png'}\n")


if __name__ == "__main__":
    main(tyro.cli(SheetConfig))
