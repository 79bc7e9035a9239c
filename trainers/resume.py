"""Checkpoints of a running training: everything that decides what the next step does, written all or nothing."""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from core.errors import CheckpointError
from core.models.checkpoint import load_strictly, read_weights, save_weights

WEIGHTS, STATE = "weights.safetensors", "training.pt"
KEPT = 2
"""Checkpoints that stay; older ones are deleted after a newer one is complete."""


def save_checkpoint(out_dir: Path, step: int, accelerator: Accelerator, model: nn.Module, optimizer: Optimizer) -> Path:
    """Write `out_dir/step-NNNNNNN` after `step` optimiser steps; a kill at any moment leaves the earlier ones whole."""
    folder = out_dir / f"step-{step:07d}"
    scratch = out_dir / f".{folder.name}.part"
    if accelerator.is_main_process:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        torch.save(_random_state(), scratch / _random_file(accelerator.process_index))
        if accelerator.is_main_process:
            save_weights(scratch / WEIGHTS, accelerator.unwrap_model(model), {})
            scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else {}
            torch.save({"step": step, "optimizer": optimizer.state_dict(), "scaler": scaler}, scratch / STATE)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
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


def latest_checkpoint(out_dir: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None."""
    folders = sorted(out_dir.glob("step-*"))
    return folders[-1] if folders else None


def load_checkpoint(folder: Path, accelerator: Accelerator, model: nn.Module, optimizer: Optimizer) -> int:
    """Put model, optimiser and random numbers back where they were; returns the steps that were done."""
    tensors, _ = read_weights(folder / WEIGHTS)
    load_strictly(accelerator.unwrap_model(model), tensors, f"{folder.name}/{WEIGHTS}")
    state = _read(folder / STATE)
    optimizer.load_state_dict(state["optimizer"])
    if accelerator.scaler is not None and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    random_file = folder / _random_file(accelerator.process_index)
    if not random_file.is_file():
        raise CheckpointError(
            f"{folder.name} was written by fewer processes than run now ({accelerator.num_processes}); "
            "continue with the same number."
        )
    _set_random_state(_read(random_file))
    return int(state["step"])


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
