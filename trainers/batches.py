"""Which studies make which batch: a function of seed and step, so that a run can continue anywhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from core.errors import ConfigError, StudyError
from trainers.batch import Batch, Sample, collate

TRIES = 8
"""Studies that are tried in the place of one that cannot be used."""


class Studies(Protocol):
    """A training set whose items depend on nothing but their index and the epoch that was set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the random draws (crop, lesions, masked words) of all items from now on."""
        ...


def plan_epoch(count: int, batch_size: int, epoch: int, seed: int, world: int = 1) -> list[list[list[int]]]:
    """Study indices of one epoch: batch -> rank -> `batch_size` indices.

    Every study comes once, in an order drawn from (seed, epoch); an incomplete last batch is left out. Fewer studies
    than one batch are repeated.
    """
    if count < 1:
        raise ConfigError("There is no study to train on; expected at least one.")
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator).tolist()
    whole = batch_size * world
    if count < whole:
        order = (order * (whole // count + 1))[:whole]
    starts = range(0, len(order) - whole + 1, whole)
    return [[order[start + r * batch_size : start + (r + 1) * batch_size] for r in range(world)] for start in starts]


def stream_batches(
    studies: Studies, batch_size: int, seed: int, first: int = 0, rank_of: tuple[int, int] = (0, 1), workers: int = 0
) -> Iterator[Batch]:
    """Endless batches of this process, from batch number `first` of the run on; rank_of = (rank, world)."""
    rank, world = rank_of
    per_epoch = len(plan_epoch(len(studies), batch_size, 0, seed, world))
    epoch, offset = divmod(first, per_epoch)
    while True:
        plan = [batch[rank] for batch in plan_epoch(len(studies), batch_size, epoch, seed, world)][offset:]
        yield from read_batches(studies, plan, seed, epoch, workers)
        epoch, offset = epoch + 1, 0


def read_batches(
    studies: Studies, plan: list[list[int]], seed: int, epoch: int = 0, workers: int = 0
) -> Iterator[Batch]:
    """The batches of a plan of study indices, drawn as in `epoch`."""
    studies.set_epoch(epoch)
    # A loader without its own generator draws from the global one, and a continued run would go astray.
    loader = DataLoader(
        DrawnStudies(studies, seed, epoch),
        batch_sampler=plan,
        collate_fn=collate,
        num_workers=workers,
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )
    with naming_dead_readers(workers):
        try:
            yield from loader
        except StudyError as error:  # one that comes from a worker carries its whole traceback
            raise StudyError(str(error).strip().splitlines()[-1].removeprefix("core.errors.StudyError: ")) from error


@contextmanager
def naming_dead_readers(workers: int) -> Iterator[None]:
    """Say in one line that a process that reads was killed; torch tells it wherever this process happens to be."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ConfigError(
            f"A process that reads studies was killed ({str(error).splitlines()[0]}), mostly for want of memory. Run "
            f"the same command again to continue, with fewer than {workers} --loop.workers."
        ) from error


class AnnouncedStudies:
    """Studies that tell of every epoch, with its number, before it is drawn."""

    def __init__(self, studies: Studies, announce: Callable[[int], None]) -> None:
        self.studies, self.announce = studies, announce

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, index: int) -> Sample:
        return self.studies[index]

    def set_epoch(self, epoch: int) -> None:
        self.announce(epoch)
        self.studies.set_epoch(epoch)


class DrawnStudies(Dataset[Sample]):
    """Studies whose items also hold `draw_seed`, what the model draws for them from, and `trouble`.

    The seed is a function of the run's seed, the epoch and the study, so that a run on two processes hides the patches
    that a run on one does. A study that cannot be read, or has voxels that are no numbers, is replaced by one of the
    next; `trouble` then says what was wrong with it.
    """

    def __init__(self, studies: Studies, seed: int, epoch: int) -> None:
        self.studies, self.seed, self.epoch = studies, seed, epoch

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, index: int) -> Sample:
        state = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1, np.uint64)
        troubles: list[str] = []
        for place in range(index, index + TRIES):
            try:
                sample = dict(self.studies[place % len(self.studies)])
                _require_numbers(sample)
                return sample | {"draw_seed": torch.tensor(int(state[0]) >> 1), "trouble": "\n".join(troubles)}
            except StudyError as error:
                troubles.append(" ".join(str(error).split()))
        raise StudyError(f"{TRIES} studies in a row cannot be used. The first: {troubles[0]}")


def _require_numbers(sample: Sample) -> None:
    image = sample.get("image")
    if isinstance(image, torch.Tensor) and not bool(image.isfinite().all()):
        raise StudyError(
            f"Study {sample['study_id']} has voxels that are no numbers; expected a CT in HU. Mend its file."
        )
