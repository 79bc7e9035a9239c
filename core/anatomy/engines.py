"""Choosing who segments: the best engine that can run, or the one a person names."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from core.anatomy import embedded, totalsegmentator
from core.anatomy.availability import Availability
from core.anatomy.embedded import EmbeddedSegmenter
from core.anatomy.masks import Segmenter
from core.anatomy.totalsegmentator import TotalSegmentatorConfig, TotalSegmentatorSegmenter
from core.errors import ConfigError, EngineError

NAMES = ("auto", totalsegmentator.ENGINE, embedded.ENGINE)


@dataclass(frozen=True)
class EnginePlaces:
    """What the engines need from this installation."""

    organ_net: Path
    """Weights of the embedded engine's network, organ_net.safetensors."""
    totalseg_home: Path | None = None
    """TotalSegmentator's own folder, if not the usual one."""
    totalseg_weights: Path | None = None
    """Folder with TotalSegmentator's weights, if not inside its own folder."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where TotalSegmentator's network runs."""

    @property
    def totalsegmentator(self) -> TotalSegmentatorConfig:
        """How TotalSegmentator would run."""
        return TotalSegmentatorConfig(self.totalseg_weights, self.totalseg_home, device=self.device)


def list_engines(places: EnginePlaces) -> dict[str, Availability]:
    """Engine name -> whether it can run, the best first; cheap, imports no model."""
    return {
        totalsegmentator.ENGINE: TotalSegmentatorSegmenter(places.totalsegmentator).availability(),
        embedded.ENGINE: _embedded_availability(places.organ_net),
    }


def choose_segmenter(name: str, places: EnginePlaces) -> Segmenter:
    """The engine called `name`; "auto" takes the best that can run. EngineError says what is missing."""
    if name not in NAMES:
        raise ConfigError(f"There is no organ engine {name!r}; expected {', '.join(NAMES)}.")
    engines = list_engines(places)
    if name == "auto":
        name = next((engine for engine, (can_run, _) in engines.items() if can_run), embedded.ENGINE)
    can_run, reason = engines[name]
    if not can_run:
        raise EngineError(f"The organ engine {name} cannot run here: {reason}.")
    if name == totalsegmentator.ENGINE:
        return TotalSegmentatorSegmenter(places.totalsegmentator)
    return _embedded(places.organ_net)


def _embedded_availability(weights: Path) -> Availability:
    if not weights.is_file():
        return Availability(False, f"its network is missing, expected {weights}")
    return Availability(True, "")


@lru_cache(maxsize=2)
def _embedded(weights: Path) -> EmbeddedSegmenter:
    """The embedded engine with its network, which is read once per process."""
    return EmbeddedSegmenter(weights)
