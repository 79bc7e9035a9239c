"""Where the heat of a sentence may lie: inside the organ, lobe and side that it names, and what to do without masks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from core.grounding.canvas import Canvas, Half
from core.grounding.stand_ins import nearest_of, own_mask, stand_in
from core.report.named_places import HILUM, NamedPlace, SentencePlaces
from core.structures import side_of, spoken_name

Kind = Literal["organ", "stand-in", "side", "none"]


@dataclass(frozen=True)
class Constraint:
    """What kept a sentence's heat."""

    kind: Kind
    """ "organ" = masks of what it names; "stand-in" = for some of it, of what stands for it; "side" = half of the
    patient; "none" = nothing."""
    words: str
    """The same for a reader: "kept inside: left lower lobe"."""
    kept: tuple[str, ...] = ()
    """Structures whose masks kept it."""
    missing: tuple[str, ...] = ()
    """What it names and has no mask here, or lies outside of what the engine sees."""
    side: Literal["left", "right", ""] = ""
    """The half it was kept to; "" = no single one."""


UNCONSTRAINED = Constraint("none", "not constrained: no organ named")


class Fringe(NamedTuple):
    """Tissue around an organ, into which its heat fades: flat indices of N voxels of the canvas."""

    voxels: np.ndarray  # (N,) int64
    nearest: np.ndarray  # (N,) int64, the voxel of the organ that each is closest to
    weight: np.ndarray  # (N,) float32 in (0, 1), how much is left of that voxel's heat


class Region(NamedTuple):
    """Where a sentence may light up."""

    core: np.ndarray  # (X, Y, Z) bool, True = its peak may lie here
    fringes: tuple[Fringe, ...]
    constraint: Constraint

    def keep(self, heat: np.ndarray) -> np.ndarray:
        """Heat (X, Y, Z) float32 inside the region: as it is in the core, fading out around it, 0 elsewhere.

        What is hot in the fringe itself does not count: a hot spot beside the organ must not shine in.
        """
        kept = np.where(self.core, heat, np.float32(0))
        flat = kept.reshape(-1)
        for voxels, nearest, weight in self.fringes:
            flat[voxels] = np.maximum(flat[voxels], flat[nearest] * weight)
        return kept


class _Kept(NamedTuple):
    """One named place on the canvas."""

    core: np.ndarray  # (X, Y, Z) bool; nowhere True = nothing stands for it here
    stands: str  # what stands for it in words; "" = its own mask
    names: tuple[str, ...]  # structures of those masks


class Regions:
    """The regions of one canvas; each is worked out once."""

    def __init__(self, canvas: Canvas, margin_mm: float) -> None:
        self._canvas, self._margin_mm = canvas, margin_mm
        self._kept: dict[NamedPlace, _Kept] = {}
        self._built: dict[tuple[tuple[NamedPlace, ...], str], Region] = {}

    def of(self, said: SentencePlaces) -> Region:
        """Where a sentence that says to look there may light up; everywhere that is seen when it names nothing.

        A place without a mask falls back to what stands for it, then to its half of the patient; the constraint tells.
        """
        key = (said.places, said.side)
        if key not in self._built:
            self._built[key] = self._build(said)
        return self._built[key]

    def _build(self, said: SentencePlaces) -> Region:
        found = {place: self._keep(place) for place in said.places}
        held = {place: kept for place, kept in found.items() if kept.core.any()}
        if not held:
            return self._beside_masks(said)
        core = np.any([kept.core for kept in held.values()], axis=0)
        fringes = tuple(self._fringe(kept.core, place, core) for place, kept in held.items())
        return Region(core, fringes, self._describe(found, held))

    def _keep(self, place: NamedPlace) -> _Kept:
        """The place on the canvas, by its own masks or by what stands for it, on its own side."""
        if place not in self._kept:
            own = self._on_side(own_mask(self._canvas, place.organ), place)
            if own.any():
                self._kept[place] = _Kept(own, "", (place.organ,))
            else:
                other = stand_in(self._canvas, place)
                half = _half(place.side)
                is_halved = bool(half) and all(side_of(name) != half for name in other.names)
                words = f"the {half} half of {other.words}" if is_halved else other.words
                self._kept[place] = _Kept(self._on_side(other.where, place), words, other.names)
        return self._kept[place]

    def _on_side(self, where: np.ndarray, place: NamedPlace) -> np.ndarray:
        """Without what is not seen; halved where the side is said of a structure that has none of its own."""
        half = _half(place.side)
        where = where & self._canvas.inside
        return where & self._canvas.half(half) if half and side_of(place.organ) != half else where

    def _fringe(self, own: np.ndarray, place: NamedPlace, core: np.ndarray) -> Fringe:
        """Tissue within the margin around a place that belongs to no other organ and lies on its side."""
        step = self._canvas.grid.spacing_mm
        end_mm = self._margin_mm + min(step)
        around, half = self._canvas.free & self._canvas.inside & ~core, _half(place.side)
        around = around & self._canvas.half(half) if half else around
        found = nearest_of(own, step, end_mm)
        is_near = (found.distance_mm <= self._margin_mm) & around.reshape(-1)[found.voxels]
        weight = (1 - found.distance_mm[is_near] / end_mm).astype(np.float32)
        return Fringe(found.voxels[is_near], found.nearest[is_near], weight)

    def _beside_masks(self, said: SentencePlaces) -> Region:
        """A half of the patient where a side is known, else everything that is seen."""
        sides = {place.side for place in said.places} if said.places else {said.side}
        half = _half(sides.pop()) if len(sides) == 1 else None
        core = self._canvas.inside & self._canvas.half(half) if half else self._canvas.inside
        if not core.any():
            half, core = None, self._canvas.inside
        missing = tuple(dict.fromkeys(place.organ for place in said.places))
        why = self._why_lost(missing) if missing else "no organ named"
        words = f"{why}: kept to the {half} half" if half else f"not constrained: {why}"
        constraint = Constraint("side" if half else "none", words, (), missing, half or "")
        return Region(core, (), constraint)

    def _describe(self, found: Mapping[NamedPlace, _Kept], held: Mapping[NamedPlace, _Kept]) -> Constraint:
        own = [_spoken(place) for place, kept in held.items() if not kept.stands]
        stood = {place: kept for place, kept in held.items() if kept.stands}
        lost = [place.organ for place in found if place not in held]
        parts = [f"kept inside: {', '.join(own)}"] if own else []
        if stood:
            stands = ", ".join(dict.fromkeys(kept.stands for kept in stood.values()))
            parts.append(f"no mask of {_listed(place.organ for place in stood)}: kept to {stands}")
        parts += [self._why_lost(lost)] if lost else []
        sides = {place.side for place in held}
        return Constraint(
            "stand-in" if stood else "organ",
            "; ".join(parts),
            tuple(dict.fromkeys(name for kept in held.values() for name in kept.names)),
            tuple(dict.fromkeys((*(place.organ for place in stood), *lost))),
            _half(sides.pop()) or "" if len(sides) == 1 else "",
        )

    def _why_lost(self, organs: Iterable[str]) -> str:
        """Organs without a mask, and those whose mask lies outside of what the engine sees."""
        organs = list(dict.fromkeys(organs))
        unseen = [organ for organ in organs if self._canvas.is_masked(organ)]
        unmasked = [organ for organ in organs if organ not in unseen]
        parts = [f"no mask of {_listed(unmasked)}"] if unmasked else []
        return ", ".join(parts + ([f"{_listed(unseen)} outside of what the engine sees"] if unseen else []))


def _half(side: str) -> Half | None:
    return "left" if side == "left" else "right" if side == "right" else None


def _spoken(place: NamedPlace) -> str:
    name = "tissue outside of all organs" if place.organ == "body" else _name(place.organ)
    return f"{place.side} half of {name}" if place.side and not side_of(place.organ) else name


def _name(organ: str) -> str:
    return organ if organ == HILUM else spoken_name(organ)


def _listed(organs: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(map(_name, organs)))
