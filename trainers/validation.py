"""How a model does on studies it is not trained on."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from trainers.batch import Batch
from trainers.batches import Studies, read_batches
from trainers.pictures import draw_heat
from trainers.sharding import unsharded
from trainers.stage import Stage, total_loss

SentenceHeat = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
"""Model and batch -> where the sentences of its first study are found: (S, gx, gy, gz), higher = more likely."""


class EpochStart(NamedTuple):
    """An epoch that is about to be drawn, or to be continued."""

    accelerator: Accelerator
    model: nn.Module
    studies: Studies
    out_dir: Path
    number: int  # from 0
    batch_size: int  # studies that the model takes at once


class Watch(NamedTuple):
    """What is looked at while a run goes on."""

    studies: Studies | None = None  # not trained on
    heat: SentenceHeat | None = None  # of recipes that align sentences with patches
    before_epoch: Callable[[EpochStart], None] | None = None  # of recipes whose training set learns from the model
    measure: Callable[[Accelerator, nn.Module], dict[str, float]] | None = None  # in place of losses; "total" falls


def to_device(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """The tensors of a batch where the model is."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items() if isinstance(value, Tensor)}


def mean_over_processes(accelerator: Accelerator, values: Mapping[str, Tensor]) -> dict[str, float]:
    """Each scalar averaged over all processes, brought to the CPU in one go."""
    told = torch.stack([value.detach().float() for value in values.values()])
    if accelerator.num_processes > 1:
        told = accelerator.reduce(told, "mean")
    return dict(zip(values, told.tolist(), strict=True))


@torch.no_grad()
def validate(
    accelerator: Accelerator, model: nn.Module, studies: Studies, batch_size: int, stage: Stage
) -> dict[str, float]:
    """Mean losses over all studies, the last batch filled up with the first ones; the same draws every time."""
    sums: dict[str, Tensor] = {}
    plan = plan_all(len(studies), batch_size, accelerator)
    model.eval()
    with fork_random(accelerator), unsharded(model) as plain:
        for batch in read_batches(studies, plan, seed=0):
            with accelerator.autocast():
                losses = dict(plain(to_device(batch, accelerator.device)))
            losses["total"] = total_loss(losses, stage)
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value / len(plan)
    model.train()
    return mean_over_processes(accelerator, sums)


@torch.no_grad()
def picture_heat(accelerator: Accelerator, model: nn.Module, studies: Studies, heat: SentenceHeat) -> np.ndarray:
    """Slices of the first study with the heat of its first sentences: (rows, columns, 3) uint8."""
    batch = to_device(next(read_batches(studies, [[0]], seed=0)), accelerator.device)
    model.eval()
    with fork_random(accelerator), unsharded(model) as plain, accelerator.autocast():
        found = heat(plain, batch)
    model.train()
    return draw_heat(batch["image"][0, 0].float().cpu().numpy(), found.float().cpu().numpy())


def fork_random(accelerator: Accelerator) -> AbstractContextManager[None]:
    """Leaves the random numbers of the training as they are."""
    is_gpu = accelerator.device.type == "cuda"
    return torch.random.fork_rng(devices=[accelerator.device] if is_gpu else [])


def plan_all(count: int, batch_size: int, accelerator: Accelerator) -> list[list[int]]:
    """Batches of this process that together hold every study, in order."""
    world, rank = accelerator.num_processes, accelerator.process_index
    whole = batch_size * world
    padded = -(-count // whole) * whole
    order = [index % count for index in range(padded)]
    return [order[at + rank * batch_size : at + (rank + 1) * batch_size] for at in range(0, padded, whole)]
