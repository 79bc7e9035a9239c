"""Pictures of the sentences that were found worst: CT, outline of the finding, heat and its peak."""

import io
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from core.resample import resample, target_grid
from core.volume import Grid
from trainers.grounding.judging import Seen, SentenceRow, Way, heat_of, peak_of

PIXEL_MM = 1.5
EDGE_MM = 330.0
"""Edge of the square that each plane shows."""
WINDOW_HU = (-1000.0, 400.0)
"""Black to white."""
OUTLINE, PEAK = (0, 255, 255), (255, 255, 0)
CAPTION_PX = 54
NO_HEAT_MM = 1e6
"""Stands for the distance where there is no heat at all."""
CROSS = 4
NEAR_MM = 6.0
"""The peak is marked on planes that pass this near to it."""


def badness(row: SentenceRow, way: Way = "constrained") -> float:
    """How badly a sentence was found, larger = worse: mm from the peak to the finding, then what the Dice lacks."""
    reading = getattr(row, way)
    distance = reading.distance_mm if np.isfinite(reading.distance_mm) else NO_HEAT_MM
    return float(distance + 1.0 - reading.dice_best)


class WorstPictures:
    """Keeps PNG files of the worst sentences in a folder, at most so many; worse ones push others out."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most = folder, most
        self._kept: dict[str, float] = {}

    @property
    def names(self) -> list[str]:
        """Files that are there, the worst first."""
        return sorted(self._kept, key=lambda name: -self._kept[name])

    def keep(self, name: str, row: SentenceRow) -> None:
        """Count a picture of an earlier run that is still there."""
        if (self.folder / name).is_file():
            self._add(name, badness(row))

    def offer(self, name: str, seen: Seen) -> None:
        """Draw a sentence if it is among the worst so far."""
        rank = badness(seen.row)
        if self.most and (len(self._kept) < self.most or rank > min(self._kept.values())):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(draw_sentence(seen))
            self._add(name, rank)

    def _add(self, name: str, rank: float) -> None:
        self._kept[name] = rank
        while len(self._kept) > self.most:
            least = min(self._kept, key=lambda one: self._kept[one])
            del self._kept[least]
            (self.folder / least).unlink(missing_ok=True)


def draw_sentence(seen: Seen, way: Way = "constrained") -> bytes:
    """A PNG: three planes through the finding above three through the peak, patient's right on the left."""
    peak = peak_of(seen.found, way)
    rows = [_draw_planes(seen, way, point, peak) for point in (seen.region.middle_mm, peak)]
    pixels = np.concatenate(rows)
    page = Image.new("RGB", (pixels.shape[1], pixels.shape[0] + CAPTION_PX), "black")
    page.paste(Image.fromarray(pixels), (0, CAPTION_PX))
    ImageDraw.Draw(page).text((6, 4), _caption(seen.row, way), fill="white")
    sink = io.BytesIO()
    page.save(sink, "PNG")
    return sink.getvalue()


def _caption(row: SentenceRow, way: Way) -> str:
    one = getattr(row, way)
    figures = f"peak {one.distance_mm:.0f} mm away, best Dice {one.dice_best:.2f}, voxel AUROC {one.voxel_auroc:.2f}"
    words = textwrap.shorten(f"{row.case}: {row.sentence}", 105, placeholder="...")
    told = (
        f"{words}\n{row.finding}, {row.volume_ml:.1f} ml; {way} heat (red): {figures}\nabove: finding (cyan); below: "
    )
    return (told + "peak (yellow)").encode("ascii", "replace").decode()


def _draw_planes(seen: Seen, way: Way, point_mm: np.ndarray, peak_mm: np.ndarray) -> np.ndarray:
    """Three planes through a patient point side by side: (rows, columns, 3) uint8."""
    centre = seen.volume.grid.centre_mm
    off = point_mm - centre
    centre = (
        centre + off - np.clip(off, -EDGE_MM * 0.4, EDGE_MM * 0.4)
    )  # a point near the rim of a long scan is in sight
    return np.concatenate([_draw_plane(seen, way, (centre, point_mm, peak_mm), into) for into in (2, 1, 0)], axis=1)


def _draw_plane(seen: Seen, way: Way, places_mm: tuple[np.ndarray, np.ndarray, np.ndarray], into: int) -> np.ndarray:
    """(rows, columns, 3) uint8 of the plane across patient axis `into` through the second of `places_mm`.

    places_mm: the middle of the picture, the point, the peak. The first of the other axes grows to the left, the second
    upwards.
    """
    centre, point, peak = places_mm
    plane = _plane_grid(centre, point, into)
    low, high = WINDOW_HU
    hu = resample(seen.volume.hu, seen.volume.grid, plane, fill=low).take(0, axis=into)
    gray = np.clip((hu - low) / (high - low), 0.0, 1.0)
    heat = resample(heat_of(seen.found, way), seen.found.map.grid, plane).take(0, axis=into)
    colours = np.stack([np.maximum(gray, heat), gray * (1 - heat / 2), gray * (1 - heat / 2)], axis=-1)
    pixels = np.rint(colours * 255).astype(np.uint8)
    centres = plane.to_mm(np.stack(np.meshgrid(*[np.arange(n) for n in plane.shape], indexing="ij"), axis=-1))
    inside = seen.region.contains(centres.reshape(-1, 3)).reshape(plane.shape).take(0, axis=into)
    pixels[inside & ~binary_erosion(inside)] = OUTLINE
    if abs(peak[into] - point[into]) <= NEAR_MM:
        _mark(pixels, np.delete(np.rint(plane.to_voxel(peak)).astype(int), into))
    return pixels[::-1, ::-1].transpose(1, 0, 2)  # x grows to the patient's right, which is left on a picture


def _plane_grid(centre_mm: np.ndarray, point_mm: np.ndarray, into: int) -> Grid:
    """A square one voxel thick around `centre_mm` through `point_mm`, across patient axis `into`."""
    size = round(EDGE_MM / PIXEL_MM)
    shape = np.full(3, size)
    shape[into] = 1
    middle = centre_mm.copy()
    middle[into] = point_mm[into]
    return target_grid(middle, (int(shape[0]), int(shape[1]), int(shape[2])), np.full(3, PIXEL_MM))


def _mark(pixels: np.ndarray, at: np.ndarray) -> None:
    """A cross, where it fits."""
    first, second = at
    if CROSS <= first < pixels.shape[0] - CROSS and CROSS <= second < pixels.shape[1] - CROSS:
        pixels[first - CROSS : first + CROSS + 1, second] = PEAK
        pixels[first, second - CROSS : second + CROSS + 1] = PEAK
