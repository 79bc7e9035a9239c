"""The training loop, one for every recipe."""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.optim import Optimizer

from core.errors import ConfigError
from trainers.batch import Batch, check_batch
from trainers.batches import Studies, stream_batches
from trainers.optim import OptimConfig, Schedule, build_adamw, plan_schedule
from trainers.resume import latest_checkpoint, load_checkpoint, save_checkpoint
from trainers.stage import Stage, enter_stage, total_loss

LOG = "log.jsonl"
MOST_SKIPPED = 5
"""Steps in a row with a gradient that is not finite before the run is given up."""


@dataclass(frozen=True)
class LoopConfig:
    """How a run steps, writes and where it computes."""

    batch_size: int = 4
    """Studies per process and micro-step."""
    accumulate: int = 1
    """Micro-steps whose gradients make one optimiser step."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Autocast type; weights stay float32. bf16 also works on CPUs, but is slower than "no" without AVX-512."""
    seed: int = 0
    """Of weights, order of studies, masks and dropout."""
    workers: int = 0
    """Processes that read studies ahead; 0 = read in the training process."""
    log_every: int = 10
    """Steps between two log lines."""
    checkpoint_every: int = 500
    """Steps between two checkpoints."""
    cpu: bool = False
    """Stay on the CPU where a GPU exists."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser and schedule."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.accumulate, self.log_every, self.checkpoint_every) < 1 or self.workers < 0:
            raise ConfigError("batch_size, accumulate, log_every and checkpoint_every must be at least 1, workers 0.")


def train(
    model: nn.Module, studies: Studies, config: LoopConfig, out_dir: Path, stage: Stage | None = None
) -> nn.Module:
    """Train one stage of `model` and return it; continues from the newest checkpoint in `out_dir`.

    On one CPU the result does not depend on how often the run was stopped and continued.
    """
    stage = stage or Stage()
    enter_stage(model, stage)
    # A loss of weight 0 leaves its head without a gradient, which DDP must be told to expect.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(mixed_precision=config.precision, cpu=config.cpu, kwargs_handlers=[ddp])
    model, optimizer = accelerator.prepare(model, build_adamw(model, config.optim))
    torch.manual_seed(config.seed + accelerator.process_index)
    newest = latest_checkpoint(out_dir)
    start = load_checkpoint(newest, accelerator, model, optimizer) if newest else 0
    rank_of = (accelerator.process_index, accelerator.num_processes)
    batches = stream_batches(
        studies, config.batch_size, config.seed, start * config.accumulate, rank_of, config.workers
    )
    schedule = schedule_of(config, studies, stage, accelerator.num_processes)
    log = RunLog(out_dir, (start, schedule.steps), config, accelerator)
    model.train()
    for step in range(start, schedule.steps):
        rate = schedule.lr(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = accumulate_gradients(accelerator, model, batches, config.accumulate, stage)
        norm = apply_gradients(accelerator, model, optimizer, config.optim.clip_norm)
        log.write(step + 1, losses, norm, rate)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == schedule.steps:
            save_checkpoint(out_dir, step + 1, accelerator, model, optimizer)
    return accelerator.unwrap_model(model).eval()


def schedule_of(config: LoopConfig, studies: Studies, stage: Stage, processes: int = 1) -> Schedule:
    """The schedule of one stage over a training set."""
    optim = config.optim
    longer = replace(optim, steps=max(1, round(optim.steps * stage.length))) if optim.steps else optim
    if not optim.steps:
        longer = replace(optim, epochs=optim.epochs * stage.length)
    return plan_schedule(longer, len(studies) / (config.batch_size * config.accumulate * processes))


def accumulate_gradients(
    accelerator: Accelerator, model: nn.Module, batches: Iterator[Batch], micro_steps: int, stage: Stage
) -> dict[str, float]:
    """Add up the gradients of the next micro-steps, synchronised at the last; mean losses over all."""
    means: dict[str, float] = {}
    for micro in range(micro_steps):
        batch = next(batches)
        check_batch(batch, stage.requires)
        tensors = {k: v.to(accelerator.device, non_blocking=True) for k, v in batch.items() if isinstance(v, Tensor)}
        more = micro + 1 < micro_steps
        with accelerator.no_sync(model) if more else nullcontext():
            losses = model(tensors)
            accelerator.backward(total_loss(losses, stage) / micro_steps)
        for name, value in losses.items():
            means[name] = means.get(name, 0.0) + value.item() / micro_steps
    if accelerator.num_processes > 1:
        told = accelerator.reduce(torch.tensor(list(means.values()), device=accelerator.device), "mean")
        means = dict(zip(means, told.tolist(), strict=True))
    return means


def apply_gradients(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, clip_norm: float) -> float:
    """One optimiser step, skipped when the gradient is not finite; returns the gradient's norm before clipping."""
    limit = clip_norm if clip_norm > 0 else math.inf
    norm = float(accelerator.clip_grad_norm_(model.parameters(), limit))
    if math.isfinite(norm) or accelerator.scaler is not None:  # a scaler skips by itself and must see the step
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


class RunLog:
    """log.jsonl, and one line on stderr per entry; written by the main process only."""

    def __init__(self, out_dir: Path, span: tuple[int, int], config: LoopConfig, accelerator: Accelerator) -> None:
        """span: the step this process begins with, and the last of the run."""
        start, self.steps = span
        self.config, self.accelerator, self.path = config, accelerator, out_dir / LOG
        self.start, self.began, self.skipped = start, time.monotonic(), 0
        if accelerator.is_main_process:
            out_dir.mkdir(parents=True, exist_ok=True)
            _forget_after(self.path, start)

    def write(self, step: int, losses: dict[str, float], norm: float, lr: float) -> None:
        """Count a finished step; log it when it is its turn; give up after many steps without a finite gradient."""
        self.skipped = 0 if math.isfinite(norm) else self.skipped + 1
        if self.skipped > MOST_SKIPPED:
            raise ConfigError(
                f"The gradient was not finite in {self.skipped} steps in a row up to step {step}; no weight was "
                "changed by them. Lower peak_lr, use bf16 instead of fp16, or look for NaN voxels in the data."
            )
        steps = self.steps
        if not self.accelerator.is_main_process or (step % self.config.log_every and step != steps):
            return
        per_step = (time.monotonic() - self.began) / max(1, step - self.start)
        studies = self.config.batch_size * self.config.accumulate * self.accelerator.num_processes
        entry: dict[str, Any] = {"step": step, "lr": lr, "gradient_norm": norm, "skipped": self.skipped > 0}
        entry |= {"losses": losses, "studies_per_s": round(studies / per_step, 3)}
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        left = f"{per_step * (steps - step) / 60:.1f} min left"
        parts = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        sys.stderr.write(f"step {step}/{steps}  {parts}  {studies / per_step:.2f} studies/s  {left}\n")


def _forget_after(path: Path, step: int) -> None:
    """Drop log lines of steps that a continued run will do again."""
    if path.is_file():
        lines = path.read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        path.write_text("".join(line for line in whole if json.loads(line)["step"] <= step))
