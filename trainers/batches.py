"""Which studies make which batch: a function of seed and step, so that a run can continue anywhere."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from core.errors import ConfigError
from trainers.batch import Batch, Sample, collate


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
        studies.set_epoch(epoch)
        plan = [batch[rank] for batch in plan_epoch(len(studies), batch_size, epoch, seed, world)][offset:]
        # A loader without its own generator draws from the global one, and a continued run would go astray.
        loader = DataLoader(
            DrawnStudies(studies, seed, epoch),
            batch_sampler=plan,
            collate_fn=collate,
            num_workers=workers,
            generator=torch.Generator(),
        )
        yield from loader
        epoch, offset = epoch + 1, 0


class DrawnStudies(Dataset[Sample]):
    """Studies whose items also hold the seed of what the model draws for them (patches to hide): `draw_seed`.

    It is a function of the run's seed, the epoch and the study, so that a run on two processes hides what a run on one
    does.
    """

    def __init__(self, studies: Studies, seed: int, epoch: int) -> None:
        self.studies, self.seed, self.epoch = studies, seed, epoch

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, index: int) -> Sample:
        state = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1, np.uint64)
        return dict(self.studies[index]) | {"draw_seed": torch.tensor(int(state[0]) >> 1)}
