"""Fill the folder of synthetic studies ahead of training: `python -m trainers.study_cache --synthetic.cache-dir DIR`.

Several processes; studies that are there already are left alone, so it can be stopped, run again, and run while a
training reads the same folder.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
import tyro

from core.errors import AsapError, ConfigError
from core.models.tokens import train_wordpiece
from trainers.recipes.asap import TWO_SCALE_STUDIES
from trainers.synthetic import SyntheticConfig, SyntheticStudies

TELL_EVERY_S = 20.0


@dataclass(frozen=True)
class FillConfig:
    """Which studies are made."""

    synthetic: SyntheticConfig = field(default_factory=lambda: TWO_SCALE_STUDIES)
    """The data engine, exactly as in training; it starts from that of recipe asap, preset two_scale."""
    first: int = 0
    """Number of the first study to make; the last is that before synthetic.count."""
    workers: int = 1
    """Processes."""

    def __post_init__(self) -> None:
        if self.synthetic.cache_dir is None or self.workers < 1 or not 0 <= self.first < self.synthetic.count:
            raise ConfigError(
                f"cache_dir is {self.synthetic.cache_dir}, workers {self.workers}, first {self.first}; expected a "
                f"folder, at least one process and a study from 0 to {self.synthetic.count - 1}."
            )


def fill_cache(config: FillConfig, tell: Callable[[int, int], None]) -> int:
    """Make what is missing; returns how many. `tell(done, of)` is called now and then."""
    studies = _studies(config.synthetic)
    missing = [number for number in range(config.first, config.synthetic.count) if not _path(studies, number).is_file()]
    told = time.monotonic()
    for done, _ in enumerate(_make_all(config, missing), start=1):
        if time.monotonic() - told > TELL_EVERY_S:
            tell(done, len(missing))
            told = time.monotonic()
    return len(missing)


def _make_all(config: FillConfig, missing: list[int]) -> Iterator[int]:
    if config.workers == 1:
        yield from map(partial(_make, _studies(config.synthetic)), missing)
        return
    with get_context("spawn").Pool(config.workers, _begin, (config.synthetic,)) as pool:
        yield from pool.imap_unordered(_make_here, missing)


def _studies(config: SyntheticConfig) -> SyntheticStudies:
    """The data engine; its words are not tokenised here, so any vocabulary does."""
    return SyntheticStudies(config, train_wordpiece(["a"], 100))


def _path(studies: SyntheticStudies, number: int) -> Path:
    path = studies.path(number)
    assert path is not None  # FillConfig wants a folder
    return path


def _make(studies: SyntheticStudies, number: int) -> int:
    if not _path(studies, number).is_file():  # another process may have made it meanwhile
        studies.stored(number)
    return number


_HERE: list[SyntheticStudies] = []
"""Of a worker process."""


def _begin(config: SyntheticConfig) -> None:
    torch.set_num_threads(1)
    _HERE[:] = [_studies(config)]


def _make_here(number: int) -> int:
    return _make(_HERE[0], number)


def _tell(done: int, of: int) -> None:
    sys.stderr.write(f"{done} of {of} studies\n")
    sys.stderr.flush()


def main(config: FillConfig) -> None:
    """Fill, telling how far it is, and print one JSON document; or end with one line on what to mend."""
    began = time.monotonic()
    try:
        made = fill_cache(config, _tell)
    except AsapError as error:
        sys.exit(f"{error}")
    sys.stdout.write(json.dumps({"made": made, "seconds": round(time.monotonic() - began, 1)}) + "\n")


if __name__ == "__main__":
    main(tyro.cli(FillConfig))
