"""Finding ECAMP's windows anew: the model looks at every study as a whole, where its words about findings look."""

import torch
from accelerate.utils import gather_object
from torch import Tensor

from core.models.ecamp import ECAMP
from core.preprocess import Size3
from trainers.batches import Studies, read_batches
from trainers.crops import CropPlace
from trainers.sharding import unsharded
from trainers.sharp_windows import SharpWindows, WindowSizes, into_volume
from trainers.sources import RecipeStudies
from trainers.validation import EpochStart, fork_random, plan_all, to_device

FOLDER = "windows"
"""Folder of a run with the windows of each epoch that they were found for."""


def refresh_windows(start: EpochStart) -> None:
    """Before an epoch: take its windows from the run's folder, or find them with the model as it is now and keep them.

    The first epochs have those of the data folder, or the middle. What is found depends on the weights only, so that a
    continued run has the windows of one that was never stopped.
    """
    windows = windows_of(start.studies)
    epoch = 0 if windows is None else start.number - start.number % windows.every
    if windows is None or epoch == 0:
        return
    path, before = (start.out_dir / FOLDER / f"{number:05d}.csv" for number in (epoch, epoch - windows.every))
    if path.is_file():
        windows.memory.read(path)
        return
    if before.is_file():
        windows.memory.read(before)
    windows.memory.learn(find_middles(start, windows.sizes))
    if start.accelerator.is_main_process:
        windows.memory.write(path)
    start.accelerator.wait_for_everyone()


def windows_of(studies: Studies) -> SharpWindows | None:
    """The training set's source of windows that follow the attention, where it has one."""
    sources = studies.sources if isinstance(studies, RecipeStudies) else ()
    found = (source for source in sources if isinstance(source, SharpWindows) and source.how == "attn")
    return next(found, None)


@torch.no_grad()
def find_middles(start: EpochStart, sizes: WindowSizes) -> dict[str, Size3]:
    """Study -> voxel of its volume in the middle of the window that the model looks at, on all processes' studies.

    Crops and texts are those of the epoch before.
    """
    plan = plan_all(len(start.studies), start.batch_size, start.accelerator)
    pairs: list[tuple[str, Size3]] = []
    start.model.eval()
    with fork_random(start.accelerator), unsharded(start.model) as plain, start.accelerator.autocast():
        assert isinstance(plain, ECAMP)
        for batch in read_batches(start.studies, plan, seed=0, epoch=start.number - 1):
            tensors = to_device(batch, start.accelerator.device)
            corners = plain.find_windows(tensors)
            pairs += zip(map(str, batch["study_id"]), _middles(tensors, corners, sizes), strict=True)
    start.model.train()
    return dict(gather_object(pairs) if start.accelerator.num_processes > 1 else pairs)


def _middles(batch: dict[str, Tensor], corners: Tensor, sizes: WindowSizes) -> list[Size3]:
    """Middles of windows (B, 3) of crops in voxels of their volumes."""
    told = zip(corners.tolist(), batch["crop_start"].tolist(), batch["crop_flipped"].tolist(), strict=True)
    return [
        into_volume(sizes.middle_of(corner), CropPlace(tuple(first), tuple(flipped)), sizes.crop)
        for corner, first, flipped in told
    ]
