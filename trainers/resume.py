"""Checkpoints of a running training: everything that decides what the next step does, written all or nothing."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.optim import Optimizer

from core.errors import CheckpointError
from core.models.checkpoint import load_strictly, read_weights, write_atomically
from trainers.sharding import bare, gather_weights, like, whole

WEIGHTS, STATE = "weights.safetensors", "training.pt"
KEPT = 2
"""Checkpoints that stay; older ones are deleted after a newer one is complete."""

Progress = dict[str, float]
"""Numbers beside the weights that decide how the run goes on, such as the best validation so far."""


def save_checkpoint(
    out_dir: Path, step: int, accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, progress: Progress
) -> Path:
    """Write `out_dir/step-NNNNNNN` after `step` optimiser steps; a kill at any moment leaves the earlier ones whole.

    Weights and moments are stored whole and by name, however they were spread over processes.
    """
    folder, scratch = out_dir / f"step-{step:07d}", out_dir / f".step-{step:07d}.part"
    weights, moments = gather_weights(model), _gather_moments(model, optimizer, accelerator.is_main_process)
    if accelerator.is_main_process:
        for stale in out_dir.glob(".step-*.part"):
            shutil.rmtree(stale, ignore_errors=True)
        scratch.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        _write(scratch / _random_file(accelerator.process_index), _random_state())
        if accelerator.is_main_process:
            write_weights(scratch / WEIGHTS, weights)
            state = {"step": step, "processes": accelerator.num_processes, "moments": moments, "progress": progress}
            state["scaler"] = accelerator.scaler.state_dict() if accelerator.scaler is not None else {}
            _write(scratch / STATE, state)
    except (OSError, RuntimeError, CheckpointError) as error:  # torch.save reports a full disk as RuntimeError
        shutil.rmtree(scratch, ignore_errors=True)
        raise CheckpointError(
            f"The checkpoint of step {step} could not be written to {out_dir} ({error}). Earlier ones are whole: "
            "free some space and run the same command again to continue."
        ) from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
        for old in sorted(out_dir.glob("step-*"))[:-KEPT]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return folder


def write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Weights by name as safetensors, atomically."""
    # a copy: tied weights share memory, which safetensors refuses
    write_atomically(path, to_bytes({name: value.to("cpu", copy=True).contiguous() for name, value in weights.items()}))


def latest_checkpoint(out_dir: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None."""
    folders = sorted(out_dir.glob("step-*"))
    return folders[-1] if folders else None


def load_weights(folder: Path, model: nn.Module) -> None:
    """Put a checkpoint's weights into a model that is not yet spread over processes."""
    try:
        weights = read_weights(folder / WEIGHTS)[0]
    except CheckpointError as error:
        raise CheckpointError(f"Damaged checkpoint: {error} Or delete {folder} to use the one before.") from error
    load_strictly(model, weights, f"{folder.name}/{WEIGHTS}")


def load_training(
    folder: Path, accelerator: Accelerator, model: nn.Module, optimizer: Optimizer
) -> tuple[int, Progress]:
    """Put optimiser and random numbers back where they were; returns the steps that were done, and the progress."""
    state = _read(folder / STATE)
    if state["processes"] != accelerator.num_processes:
        raise CheckpointError(
            f"{folder.name} was written by {state['processes']} processes and {accelerator.num_processes} run now; "
            "continue with the same number."
        )
    _set_moments(model, optimizer, state["moments"])
    if accelerator.scaler is not None and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    _set_random_state(_read(folder / _random_file(accelerator.process_index)))
    return int(state["step"]), state["progress"]


def _gather_moments(model: nn.Module, optimizer: Optimizer, is_kept: bool) -> dict[str, dict[str, Tensor]]:
    """The optimiser's state of every weight that has one, by the weight's name; empty where it is not kept."""
    moments: dict[str, dict[str, Tensor]] = {}
    for name, parameter in bare(model).named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            full = whole(value)  # all processes take part in making it
            if is_kept:
                moments.setdefault(name, {})[key] = full.cpu()
    return moments


def _set_moments(model: nn.Module, optimizer: Optimizer, moments: dict[str, dict[str, Tensor]]) -> None:
    named = dict(bare(model).named_parameters())
    unknown = [name for name in moments if name not in named]
    if unknown:
        raise CheckpointError(f"The checkpoint trains {unknown[0]}, which the model does not have; check its config.")
    for name, state in moments.items():
        parameter = named[name]
        optimizer.state[parameter] = {
            key: value if value.ndim == 0 else like(value, parameter) for key, value in state.items()
        }


def _write(path: Path, value: object) -> None:
    with path.open("wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete its folder to use the one before.") from error


def _random_file(rank: int) -> str:
    return f"random-{rank}.pt"


def _random_state() -> dict[str, Any]:
    """States of torch's, NumPy's and Python's generators as plain tensors and tuples."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": (str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    random.setstate(state["python"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
